"""Video grounding: tubes, spans, answers, and what rewards of tracks share."""
