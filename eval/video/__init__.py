"""Benchmarks of video grounding."""
