"""Benchmarks of GUI grounding: readers, prompts, scoring, tables."""
