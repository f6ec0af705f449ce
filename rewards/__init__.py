"""Rewards, one idea per file; each is found through its row in `vlrl.registry`."""
