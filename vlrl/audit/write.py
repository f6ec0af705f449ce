"""What an audit leaves on disk: its page, its numbers, and the features of learnt rewards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlrl.audit.audit import Audit
from vlrl.audit.features import labels_as_numbers
from vlrl.audit.page import page_of
from vlrl.errors import writing
from vlrl.reward.known_features import save_known

PAGE, NUMBERS, FEATURES = "audit.html", "audit.json", "features"


def write_audit(found: Audit, out: Path, title: str) -> Path:
    """Write `audit.html`, `audit.json` and `features/<reward>.safetensors`; the page's path."""
    page = out / PAGE
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        page.write_text(page_of(found, title), encoding="utf-8")
        text = json.dumps(_plain(numbers_of(found)), indent=1, ensure_ascii=False)
        (out / NUMBERS).write_text(text, encoding="utf-8")
        for one in found.representations.every:
            labels = labels_as_numbers(one.labels) if any(one.labels) else None
            save_known(out / FEATURES / f"{one.name}.safetensors", one.features, labels)
    return page


def numbers_of(found: Audit) -> dict[str, Any]:
    """All figures, by measure; answers are named by sample and place in their group."""
    rollouts = found.answers.rollouts

    def named(row: int) -> dict[str, Any]:
        one = rollouts[row]
        output = one.output if isinstance(one.output, str) else None
        return {"sample": one.sample.id, "step": one.policy_version, "index": one.index,
                "output": output}  # fmt: skip

    first = {int(g): i for i, g in reversed(list(enumerate(found.answers.group)))}
    numbers: dict[str, Any] = {
        "source": found.answers.source,
        "num_answers": len(rollouts),
        "notes": list(found.answers.notes),
        "options": found.options.model_dump(mode="json"),
        "rewards": {
            one.name: {"config": one.config.source, "how": one.how, "notes": list(one.notes)}
            for one in found.rewards
        },
        "distances": [
            {
                "rewards": [pair.first.name, pair.second.name],
                "starc": pair.distance,
                "by_step": [list(point) for point in pair.by_step],
                "same_order": pair.orders.alike,
                "reversed": pair.orders.reversed,
                "tied_in_one": pair.orders.tied_in_one,
                "advantage_change": pair.advantages.mean_change,
                "advantage_turned": pair.advantages.turned,
                "reversals": [
                    [named(one.better_by_first), named(one.better_by_second)]
                    for one in pair.orders.worst
                ],
            }
            for pair in found.pairs
        ],
        "stability": {
            one.scored.name: {
                "perturbed": one.perturbed.how,
                "tilts": [asdict(tilt) for tilt in one.tilts],
                "tied": [rollouts[first[p.group]].sample.id for p in one.prompts if p.is_tied],
                "flipped": [
                    rollouts[first[p.group]].sample.id for p in one.prompts if p.is_flipped
                ],
                "largest_ratio": max((p.ratio for p in one.prompts), default=None),
                "mean_jump": _mean([p.jumped for p in one.prompts]),
            }
            for one in found.stability
        },
        "one_right": {
            one.scored.name: {"why_not": one.why_not}
            if one.result is None
            else {**asdict(one.result), "num": len(one.rows)}
            for one in found.rankings
        },
        "accepted": {kind: list(samples) for kind, samples in found.accepted.items()},
        "probes": {
            one.name: {label: asdict(probe) for label, probe in one.probes.items()}
            for one in found.representations.every
        },
        "alike": [asdict(one) for one in found.representations.alike],
    }
    if found.hacks is not None:
        numbers["hacks"] = {
            "reward": found.hacks.reward.name,
            "independent": found.hacks.independent.name,
            "num_top": len(found.hacks.found.top),
            "num_disliked": len(found.hacks.found.disliked),
            "metrics": {name: list(pair) for name, pair in found.hacks.metrics.items()},
            "shown": [named(row) for row in found.hacks.found.rows],
        }
    return numbers


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _plain(value: Any) -> Any:
    """For JSON, which has no nan."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
