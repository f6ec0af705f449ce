"""Stages of a training: which prompts come next, what they are learnt with, and when that ends."""
