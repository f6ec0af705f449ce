"""A vision-language model that judges pictures: asked here or behind HTTP, and trained here."""
