"""Rewards that ask a judge, and rewards of judges."""
