"""Working beside other libraries: rewards that run in TRL."""
