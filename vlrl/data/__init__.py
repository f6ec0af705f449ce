"""Reading data files: rows, required fields, splits."""
