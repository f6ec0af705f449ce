"""Rewards of boxes and points on a screenshot."""
