"""What `shape` does to a reward's values: one kind per file, named in the registry."""
