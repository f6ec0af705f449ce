"""How rewards are written (`functions`), combined (`tree`) and served (`server`)."""
