"""Readers of reasoning data: one module per kind of layout, all giving the same checked row."""
