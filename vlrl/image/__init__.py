"""Image generation: what image rewards share, their networks and their statistics."""
