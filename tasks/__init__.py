"""Tasks: data, the reading of answers and the figures that judge them."""
