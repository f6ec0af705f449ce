"""Rewards of generated 3D objects."""
