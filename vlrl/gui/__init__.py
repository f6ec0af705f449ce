"""GUI grounding: reading answers and data, and what rewards of boxes and points share."""
