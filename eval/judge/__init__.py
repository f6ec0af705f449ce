"""Evaluation of judges against preferences whose truth is known."""
