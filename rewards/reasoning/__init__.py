"""Rewards of visual reasoning."""
