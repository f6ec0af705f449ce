"""Rewards, one idea a file; each is found through its row in `vlrl.registry`."""
