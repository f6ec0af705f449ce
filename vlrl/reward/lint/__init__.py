"""Warnings about rewards, from the config alone: what will not do what it seems to."""
