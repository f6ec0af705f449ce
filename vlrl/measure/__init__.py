"""Pure measures on boxes, text and samples; no torch, no side effects."""
