"""Grounding data from running web pages: boxes, names and instructions."""
