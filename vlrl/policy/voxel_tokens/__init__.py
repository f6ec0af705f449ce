"""A language model that writes voxel codes as a policy: words and codes are actions."""
