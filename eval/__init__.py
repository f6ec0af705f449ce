"""Benchmarks: loaders, runner, tables."""
