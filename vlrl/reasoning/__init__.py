"""Visual reasoning: questions about images with answers that can be verified."""
