"""What is known of each model family: classes, resizing, coordinates, end tokens."""
