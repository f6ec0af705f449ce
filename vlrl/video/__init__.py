"""Videos as frames: which frames of a video are looked at, and reading them."""
