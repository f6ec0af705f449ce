"""Networks that image rewards share: CLIP, a vision backbone, a detector."""
