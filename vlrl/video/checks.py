"""Whether models can be shown the videos of a task."""

from __future__ import annotations

from collections.abc import Sequence

from vlrl.errors import DataError
from vlrl.families.resize import why_unfit
from vlrl.types import Sample, SizeSeen
from vlrl.video.data.video_rows import VideoRow


def check_shape(row: VideoRow) -> None:
    """Raise DataError where the frames are too long for every model."""
    why = why_unfit(row.height_px, row.width_px)
    if why is not None:
        raise DataError(f"the video {row.video}: {why}; crop it or leave it out")


def first_readable(
    samples: Sequence[Sample], size_seen: SizeSeen
) -> tuple[Sample, tuple[int, int] | None]:
    """The first sample whose video can be read, and its size; DataError where none can."""
    first: DataError | None = None
    for sample in samples:
        try:
            theirs = size_seen(sample)
        except DataError as error:
            first = first or error
            continue
        return sample, theirs
    raise first or DataError("there is no sample to check")
