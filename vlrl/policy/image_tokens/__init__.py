"""An autoregressive image model as a policy: every image token is an action."""
