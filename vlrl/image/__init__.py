"""Image generation: what rewards of images share, their networks and their statistics."""
