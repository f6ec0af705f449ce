"""Which stage of an answer each of its tokens belongs to, by the texts that end a stage."""

from __future__ import annotations

from collections.abc import Sequence


def stages_of(pieces: Sequence[str], ends: Sequence[str]) -> list[int]:
    """The stage of every token, from 0: how many of `ends` stand in full before it, in their order.

    pieces: the text of each token. The token that completes an end still belongs to the stage
    which it ends; an answer that never writes an end stays in its stage.
    """
    stages, text, stage, begin = [], "", 0, 0
    for piece in pieces:
        stages.append(stage)
        text += piece
        while stage < len(ends) and (found := text.find(ends[stage], begin)) >= 0:
            begin = found + len(ends[stage])
            stage += 1
    return stages
