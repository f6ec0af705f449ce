"""Policies: models that take actions with log-probabilities."""
