"""Runs released code on seeded inputs, for the tables of `tests/released/`."""
