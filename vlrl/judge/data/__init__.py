"""Readers of preference data."""
