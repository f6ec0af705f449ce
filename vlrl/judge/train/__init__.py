"""Training judges from preferences: the word "yes" or a regression head."""
