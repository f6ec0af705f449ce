"""Readers of video grounding data."""
