"""What a run needs of its GPUs, before it is started: memory by part, seconds by part."""
