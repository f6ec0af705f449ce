"""The rows of the common preference sets, each read into `Preference`.

Field names as the sets' cards give them; what a card leaves open is noted at its reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from vlrl.data.fields import Row, shown
from vlrl.errors import DataError
from vlrl.judge.data.preference import Content, Preference, Reader, RowReader


def pairs(row: Row, reader: Reader) -> list[Preference]:
    """Our own: caption or prompt, chosen, rejected; optional tie, criterion, kind, reasoning.

    For text instead of images: chosen_text, rejected_text, and optional `images` for the question.
    """
    if "chosen_text" in row:
        chosen: Content = reader.text(row, "chosen_text")
        rejected: Content = reader.text(row, "rejected_text")
    else:
        chosen = reader.image_file(row.get("chosen"), "chosen")
        rejected = reader.image_file(row.get("rejected"), "rejected")
    tie = row.get("tie", False)
    if not isinstance(tie, bool):
        raise DataError(f"{reader.where}: field 'tie' must be true or false, not {shown(tie)}")
    return [
        Preference(
            reader.where,
            _id(row, reader),
            reader.text(row, "caption", "prompt"),
            chosen,
            rejected,
            0 if tie else 1,
            _images(row.get("images"), reader),
            str(row.get("criterion", "")),
            str(row.get("kind", "")),
            str(row.get("reasoning", "")),
            str(row.get("group", "")),
            fields=row,
        )
    ]


def hpd_v2(row: Row, reader: Reader) -> list[Preference]:
    """HPDv2: train {prompt, file_path: [a, b], human_preference: [1, 0]}; test {prompt,
    image_path, rank}.

    The benchmark's training file calls the images image_path too. Ranks: lower is better; all
    pairs of a prompt, equal ranks are ties.
    """
    caption = reader.text(row, "prompt")
    names = row.get("file_path") if row.get("file_path") is not None else row.get("image_path")
    if not isinstance(names, list) or len(names) < 2:
        raise DataError(
            f"{reader.where}: field 'image_path' must be a list of images, not {shown(names)}"
        )
    images = [reader.image_file(name, "image_path") for name in names]
    if row.get("rank") is not None:
        ranks = _numbers(row, "rank", len(images), reader)
        return _ranked(reader, caption, images, ranks, row)
    votes = _numbers(row, "human_preference", len(images), reader)
    # Votes are scores, 1 for the preferred image: ranks are their negatives.
    return _ranked(reader, caption, images, [-vote for vote in votes], row)


def pick_a_pic(row: Row, reader: Reader) -> list[Preference]:
    """Pick-a-Pic: {caption, jpg_0, jpg_1 (bytes), label_0, label_1 (0, 0.5, 1), has_label}."""
    if row.get("has_label") is False:
        return []
    labels = [_number(row.get(name), name, reader) for name in ("label_0", "label_1")]
    if labels not in ([0.0, 1.0], [1.0, 0.0], [0.5, 0.5]):
        raise DataError(
            f"{reader.where}: fields 'label_0', 'label_1' must be 0 and 1, not {labels}"
        )
    first, second = (reader.image_file(row.get(name), name) for name in ("jpg_0", "jpg_1"))
    preferred = 0 if labels[0] == labels[1] else 1 if labels[0] > labels[1] else 2
    caption = reader.text(row, "caption")
    own = str(row.get("ranking_id", reader.id))
    return [Preference(reader.where, own, caption, first, second, preferred, fields=row)]


def image_reward_db(row: Row, reader: Reader) -> list[Preference]:
    """ImageRewardDB: rows {prompt_id, prompt, image_path, rank, ...} grouped by prompt.

    rank: lower is better, equal ranks are ties.
    """
    members: Sequence[tuple[Any, str]] = row["rows"]
    captions, images, ranks = [], [], []
    for member, where in members:
        own = Reader(reader.source, where, reader.id)
        captions.append(own.text(member, "prompt"))
        image = member.get("image") if member.get("image") is not None else member.get("image_path")
        images.append(own.image_file(image, "image_path"))
        ranks.append(_number(member.get("rank"), "rank", own))
    if len(set(captions)) > 1:
        raise DataError(f"{reader.where}: prompt {row['key']!r} has two texts: {captions[:2]}")
    named = Reader(reader.source, reader.where, f"{Path(reader.source.path).stem}/{row['key']}")
    return _ranked(named, captions[0], images, ranks, {"prompt_id": row["key"]})


def genai_bench(row: Row, reader: Reader) -> list[Preference]:
    """GenAI-Bench's image_generation: {prompt, left_image, right_image, vote_type, ...}.

    vote_type: leftvote, rightvote, tievote, bothbad_vote; both bad is a tie.
    """
    votes = {"leftvote": 1, "rightvote": 2, "tievote": 0, "bothbad_vote": 0}
    vote = row.get("vote_type")
    if vote not in votes:
        raise DataError(
            f"{reader.where}: field 'vote_type' must be one of {sorted(votes)}, not {shown(vote)}"
        )
    first, second = (reader.image_file(row.get(n), n) for n in ("left_image", "right_image"))
    caption = reader.text(row, "prompt")
    return [
        Preference(
            reader.where,
            _id(row, reader),
            caption,
            first,
            second,
            votes[vote],
            kind=vote,
            fields=row,
        )
    ]


def vl_reward_bench(row: Row, reader: Reader) -> list[Preference]:
    """VL-RewardBench: {id, query, response: [a, b], image, human_ranking: [0, 1], query_source}.

    human_ranking: lower is better.
    """
    first, second = reader.two(row, "response")
    ranks = _numbers(row, "human_ranking", 2, reader)
    for text in (first, second):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{reader.where}: field 'response' must hold two non-empty strings, "
                f"not {shown(text)}"
            )
    context = () if row.get("image") is None else (reader.image_file(row["image"], "image"),)
    preferred = 0 if ranks[0] == ranks[1] else 1 if ranks[0] < ranks[1] else 2
    return [
        Preference(
            reader.where,
            _id(row, reader),
            reader.text(row, "query"),
            first,
            second,
            preferred,
            context,
            kind=str(row.get("query_source", "")),
            fields=row,
        )
    ]


def reward_bench(row: Row, reader: Reader) -> list[Preference]:
    """RewardBench: {id, prompt, chosen, rejected, subset}; in the second version both are lists.

    With lists every chosen answer is paired with every rejected one: a group, one against many.
    Groups are named by row and answer, as `vlrl.judge.reward_bench` takes them apart again.
    """
    caption, own = reader.text(row, "prompt"), _id(row, reader)
    sides = []
    for name in ("chosen", "rejected"):
        value = row.get(name)
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{reader.where}: field {name!r} must be a string or a list of strings")
        sides.append(texts)
    kind = str(row.get("subset", ""))
    many = isinstance(row.get("chosen"), list) or isinstance(row.get("rejected"), list)
    return [
        Preference(
            reader.where,
            f"{own}#{i}-{j}" if many else own,
            caption,
            chosen,
            rejected,
            1,
            kind=kind,
            group=f"{own}#{i}" if many else "",
            fields=row,
        )
        for i, chosen in enumerate(sides[0])
        for j, rejected in enumerate(sides[1])
    ]


LAYOUTS: dict[str, RowReader] = {
    "pairs": pairs,
    "hpd_v2": hpd_v2,
    "pick_a_pic": pick_a_pic,
    "image_reward_db": image_reward_db,
    "genai_bench": genai_bench,
    "vl_reward_bench": vl_reward_bench,
    "reward_bench": reward_bench,
}
GROUPED = {"image_reward_db": "prompt_id"}
"""Layouts with one row per image, and the field that joins the images of a prompt."""


def grouped_rows(rows: Iterator[tuple[Any, str, int]], key: str) -> Iterator[tuple[Any, str, int]]:
    """Rows that share a key as one row {key, rows: [(row, where), ...]}, in order of appearance."""
    found: dict[Any, list[tuple[Any, str]]] = {}
    for row, where, _ in rows:
        if not isinstance(row, Mapping) or not isinstance(row.get(key), str):
            raise DataError(f"{where}: field {key!r} is missing")
        found.setdefault(row[key], []).append((row, where))
    for number, (name, members) in enumerate(found.items(), start=1):
        yield {"key": name, "rows": members}, members[0][1], number


def _ranked(
    reader: Reader,
    caption: str,
    images: Sequence[Path],
    ranks: Sequence[float],
    row: Row,
) -> list[Preference]:
    """All pairs of ranked images, lower is better."""
    many = len(images) > 2
    return [
        Preference(
            reader.where,
            f"{reader.id}#{i}-{j}" if many else reader.id,
            caption,
            images[i],
            images[j],
            0 if ranks[i] == ranks[j] else 1 if ranks[i] < ranks[j] else 2,
            fields=row,
        )
        for i, j in combinations(range(len(images)), 2)
    ]


def _id(row: Row, reader: Reader) -> str:
    return str(row["id"]) if row.get("id") is not None else reader.id


def _images(value: object, reader: Reader) -> tuple[Path, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(
            f"{reader.where}: field 'images' must be a list of images, not {shown(value)}"
        )
    return tuple(reader.image_file(one, "images") for one in value)


def _number(value: object, name: str, reader: Reader) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{reader.where}: field {name!r} must be a number, not {shown(value)}")
    return float(value)


def _numbers(row: Row, name: str, count: int, reader: Reader) -> list[float]:
    value = row.get(name)
    if not isinstance(value, list) or len(value) != count:
        raise DataError(
            f"{reader.where}: field {name!r} must be a list of {count} numbers, one per "
            f"image, not {shown(value)}"
        )
    return [_number(one, name, reader) for one in value]
