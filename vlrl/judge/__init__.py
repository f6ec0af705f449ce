"""A vision-language model that judges images: asked here or behind HTTP, and trained here."""
