"""Vision-language models as judges of images: in this process, over HTTP, and their training."""
