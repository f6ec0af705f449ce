"""Strict configuration: composed YAML, checked before anything heavy is imported."""
