"""How the embedded judge was started: its tokenizer, its random weights, and naming things."""
