"""Frozen networks that rewards share: CLIP, a vision backbone, a detector. Imports torch."""
