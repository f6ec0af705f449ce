"""Readers of grounding data: one module per format, all giving the same checked row."""
