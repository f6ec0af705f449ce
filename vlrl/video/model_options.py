"""Which options of the video task belong to the model."""

MODEL_OPTIONS = (
    "answer", "index", "start_at", "edges", "coordinates", "fps", "max_frames", "longer_side_px",
    "duplicates",
)  # fmt: skip
"""Options of the task that belong to the model, not to the data."""
