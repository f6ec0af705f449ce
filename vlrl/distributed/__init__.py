"""Processes, collectives and the DeepSpeed engine."""
