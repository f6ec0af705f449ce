"""From a dataset to scored groups: which prompts come next, and what their answers are worth."""
