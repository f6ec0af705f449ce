"""Rewards of generated images."""
