"""Readers of grounding data: one module a format, all giving the same checked row."""
