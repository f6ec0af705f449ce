"""DeepSpeed's universal checkpoints: states by weight, which any number of ranks can load."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from vlrl.distributed.plain_paths import plain_path
from vlrl.distributed.safe_load import safe_loading


def convert(sharded: Path, universal: Path) -> None:
    """Write the universal form of one DeepSpeed checkpoint folder; one rank calls this.

    No code in its files is run. Takes the room of about two checkpoints while it works.
    """
    from deepspeed.checkpoint import ds_to_universal

    universal.mkdir(parents=True)
    with plain_path(sharded) as source, plain_path(universal) as target, safe_loading(), _silent():
        ds_to_universal.main(
            argparse.Namespace(
                input_folder=str(source),
                output_folder=str(target),
                # Workers would need the safe loader as well, and memory for a share each.
                num_extract_workers=1,
                num_merge_workers=1,
                keep_temp_folder=False,
                strict=True,
                inject_missing_state=True,
            )
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield
