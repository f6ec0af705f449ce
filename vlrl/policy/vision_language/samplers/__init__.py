"""Who draws a policy's answers: its own loop, or an inference engine."""
