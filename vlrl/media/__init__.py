"""Image and video files as arrays."""
