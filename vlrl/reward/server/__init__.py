"""Reward trees behind HTTP: `vlrl serve-rewards`."""
