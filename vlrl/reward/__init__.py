"""How rewards are written (`scorers`), described (`describe`) and joined (`tree`)."""
