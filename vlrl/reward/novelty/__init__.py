"""What `novelty` does: features of answers, and kinds of newness, one per file."""
