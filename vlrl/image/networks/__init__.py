"""Frozen networks that rewards of images share: CLIP, a vision backbone, a detector."""
