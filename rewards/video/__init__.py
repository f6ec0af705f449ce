"""Rewards of time spans and tubes."""
