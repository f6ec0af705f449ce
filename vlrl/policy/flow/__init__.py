"""A flow-matching image model as a policy: every denoising step is an action."""
