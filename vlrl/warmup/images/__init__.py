"""The embedded image model: a Stable Diffusion 3 of a few million parameters, made here."""
