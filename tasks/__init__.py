"""Tasks: data, the reading of answers and the metrics that judge them."""
