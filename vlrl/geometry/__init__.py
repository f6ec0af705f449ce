"""Boxes, points and polygons in named coordinate frames; no torch."""
