"""Captions, and what an image should show."""
