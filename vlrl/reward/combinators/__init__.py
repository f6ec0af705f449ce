"""Reward nodes that join, gate, clip and compare other rewards."""
