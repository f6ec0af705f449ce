"""`audit.html`: one self-contained page of an audit."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from vlrl.audit.audit import Audit, HackSearch, Pair, Ranking, Stability
from vlrl.audit.distance import Reversal, starc_by_prompt
from vlrl.audit.plots import FOLDER, scatter, shade
from vlrl.audit.scoring import Scored
from vlrl.audit.stability import PromptStability
from vlrl.log.report.charts import line_chart
from vlrl.log.report.numbers import percent
from vlrl.log.report.page import render
from vlrl.media.images import open_image
from vlrl.types import Rollout

MAX_TEXT = 90
"""Characters of an answer or a prompt in the page."""
MAX_IMAGE_PX = 420
"""Longer side of a picture."""
NUM_NAMED = 12
"""Prompts that are named in a list; the rest is counted."""
NUM_EXAMPLES = 3


def page_of(found: Audit, title: str) -> str:
    """The HTML of the page."""
    rollouts = found.answers.rollouts
    steps = sorted({one.policy_version for one in rollouts} - {-1})
    sections = [_distances(found), _orders(found), _stability(found), _rankings(found)]
    if found.hacks is not None:
        sections.append(_hacks(found, found.hacks))
    sections.append(_representations(found))
    return str(
        render(
            "audit.html.j2",
            FOLDER,
            title=f"{title}: vlrl audit",
            name=title,
            source=found.answers.source,
            num_answers=len(rollouts),
            num_prompts=len({one.sample.id for one in rollouts}),
            num_groups=int(found.answers.group.max()) + 1,
            steps=f"steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else "",
            notes=found.answers.notes,
            rewards=[_reward_row(one) for one in found.rewards],
            sections=sections,
        )
    )


def _reward_row(one: Scored) -> list[str]:
    known = one.values[np.isfinite(one.values)]
    mean, spread = (float(known.mean()), float(known.std())) if len(known) else (math.nan,) * 2
    how = "; ".join([one.how, *one.notes])
    return [one.name, _number(mean), _number(spread), str(len(known)), how, one.config.source]


def _distances(found: Audit) -> Markup:
    names = [one.name for one in found.rewards]
    known = {frozenset((p.first.name, p.second.name)): p.distance for p in found.pairs}
    rows = []
    for name in names:
        cells = []
        for other in names:
            value = 0.0 if name == other else known[frozenset((name, other))]
            cells.append((_number(value), shade(value, low=0.0, high=1.0)))
        rows.append((name, cells))
    charts = [_scatter_of(pair) for pair in found.pairs if found.rewards[0] is pair.first]
    series = {f"{p.first.name}, {p.second.name}": p.by_step for p in found.pairs if p.by_step}
    if series:
        charts.append(line_chart("STARC distance by step", series, "own answers of each step"))
    return render("distances.html.j2", FOLDER, names=names, rows=rows, charts=charts)


def _scatter_of(pair: Pair) -> Markup:
    points = list(zip(pair.first.values.tolist(), pair.second.values.tolist(), strict=True))
    title = f"{pair.first.name} and {pair.second.name}, one point an answer"
    return scatter(title, {"answers": points}, pair.first.name, pair.second.name)


def _orders(found: Audit) -> Markup:
    pairs = []
    for pair in found.pairs:
        by_prompt = starc_by_prompt(pair.first.values, pair.second.values, found.answers.group)
        share = [d for d in by_prompt.values() if math.isfinite(d)]
        named = [_reversal(found, pair, one) for one in pair.orders.worst]
        pairs.append(
            {
                "names": (pair.first.name, pair.second.name),
                "row": [
                    f"{pair.first.name}, {pair.second.name}",
                    _percent(pair.orders.alike),
                    _percent(pair.orders.reversed),
                    _percent(pair.orders.tied_in_one),
                    _number(float(np.mean(share)) if share else math.nan),
                    _number(pair.advantages.mean_change),
                    _percent(pair.advantages.turned),
                ],
                "named": named,
            }
        )
    return render("orders.html.j2", FOLDER, pairs=pairs)


def _reversal(found: Audit, pair: Pair, one: Reversal) -> dict[str, Any]:
    rollouts = found.answers.rollouts
    rows = []
    for row in (one.better_by_first, one.better_by_second):
        values = [_number(float(scored.values[row])) for scored in (pair.first, pair.second)]
        advantages = [pair.advantages.first[row], pair.advantages.second[row]]
        change = f"{advantages[0]:+.2f} → {advantages[1]:+.2f}"
        rows.append((_said(rollouts[row]), *values, change))
    return {"prompt": _asked(rollouts[one.better_by_first]), "rows": rows}


def _stability(found: Audit) -> Markup:
    return render(
        "stability.html.j2",
        FOLDER,
        beta=found.options.beta,
        rewards=[_stability_of(found, one) for one in found.stability],
    )


def _stability_of(found: Audit, one: Stability) -> dict[str, Any]:
    prompts = one.prompts
    first = {int(g): i for i, g in reversed(list(enumerate(found.answers.group)))}

    def named(chosen: Sequence[PromptStability]) -> tuple[list[tuple[str, str]], int]:
        shown = [
            (_asked(found.answers.rollouts[first[p.group]]), f"{p.num_best} of {p.num_answers}")
            for p in chosen[:NUM_NAMED]
        ]
        return shown, len(chosen) - len(shown)

    tied = [p for p in prompts if p.is_tied]
    flipped = [p for p in prompts if p.is_flipped]
    alike = sum(p.num_best == p.num_answers for p in prompts)
    rows = [
        [f"{t.beta:g}", _number(t.moved), _number(t.bound), _number(t.reward)] for t in one.tilts
    ]
    jumped = float(np.mean([p.jumped for p in prompts])) if prompts else math.nan
    chart = scatter(
        f"{one.scored.name}: how far each group's best policy moves",
        {
            f"with the entropy term, beta {found.options.beta:g}": [
                (p.gap, p.moved) for p in prompts
            ],
            "without it": [(p.gap, p.jumped) for p in prompts],
        },
        "lead of the best answers",
        "total variation",
    )
    return {
        "name": one.scored.name,
        "how": one.perturbed.how,
        "num": len(prompts),
        "rows": rows,
        "jumped": _number(jumped),
        "ratio": _number(max((p.ratio for p in prompts), default=math.nan)),
        "alike": alike,
        "tied": named(tied),
        "num_tied": len(tied),
        "flipped": named(flipped),
        "num_flipped": len(flipped),
        "chart": chart,
    }


def _rankings(found: Audit) -> Markup:
    results = [one for one in found.rankings if one.result is not None]
    kinds = dict.fromkeys(k for one in results if one.result for k in one.result.by_kind)
    rows = [
        [
            one.scored.name,
            (
                percent(one.result.accuracy["mean"]),
                shade(one.result.accuracy["mean"], low=0, high=1),
            ),
            _interval(one.result.accuracy),
            _number(one.result.mrr["mean"]),
            percent(one.result.chance),
            str(len(one.rows)),
        ]
        for one in results
        if one.result is not None
    ]
    table = [(kind, [_kind_cell(one, kind) for one in results]) for kind in kinds]
    return render(
        "one_right.html.j2",
        FOLDER,
        rows=rows,
        names=[one.scored.name for one in results],
        kinds=table,
        failures=[f for one in results for f in _failures(one)],
        accepted=[
            (kind, str(len(samples)), ", ".join(samples[:NUM_EXAMPLES]))
            for kind, samples in found.accepted.items()
        ],
        not_ranked=[(one.scored.name, one.why_not) for one in found.rankings if one.why_not],
    )


def _kind_cell(one: Ranking, kind: str) -> tuple[str, str]:
    share = one.result.by_kind.get(kind) if one.result is not None else None
    if share is None:
        return ("", "")
    return (percent(share), shade(1 - share, low=0.0, high=1.0))


def _failures(one: Ranking) -> list[tuple[str, str, str]]:
    lost = [row for row in one.rows if row.rank > 1][:NUM_EXAMPLES]
    return [(one.scored.name, row.sample, ", ".join(row.ahead_of_it)) for row in lost]


def _hacks(found: Audit, search: HackSearch) -> Markup:
    rollouts, hacks = found.answers.rollouts, search.found
    cards = []
    for row in hacks.rows:
        one = rollouts[row]
        # An answer that is not there itself would count as one that cannot be read.
        metrics = found.answers.task.metrics([one]) if found.answers.whole[row] else {}
        values = [
            (search.reward.name, _number(float(search.reward.values[row]))),
            (search.independent.name, _number(float(search.independent.values[row]))),
        ]
        known = {name for name, _ in values}
        values += [
            (name, _number(float(column[0])))
            for name, column in metrics.items()
            if name not in known
        ]
        cards.append(
            {
                "image": _picture(found, row),
                "prompt": _asked(one),
                "said": _said(one),
                "step": one.policy_version if one.policy_version >= 0 else None,
                "values": [(name, value) for name, value in values if value],
            }
        )
    chart = scatter(
        "Where the hacks are",
        {
            "answers": list(zip(hacks.quantile.tolist(), hacks.independent.tolist(), strict=True)),
            "liked by one, disliked by the other": [
                (float(hacks.quantile[r]), float(hacks.independent[r])) for r in hacks.disliked
            ],
        },
        f"share of answers below by {search.reward.name}",
        f"share below by {search.independent.name}",
    )
    return render(
        "hacks.html.j2",
        FOLDER,
        reward=search.reward.name,
        independent=search.independent.name,
        top=percent(found.options.top),
        num_top=len(hacks.top),
        num_disliked=len(hacks.disliked),
        cards=cards,
        chart=chart,
        metrics=[(name, _number(a), _number(b)) for name, (a, b) in search.metrics.items()],
    )


def _representations(found: Audit) -> Markup:
    every = found.representations.every
    labels = dict.fromkeys(label for one in every for label in one.probes)
    rows = []
    for label in labels:
        cells = []
        for one in every:
            probe = one.probes.get(label)
            text = "" if probe is None else f"{percent(probe.accuracy)} ({percent(probe.majority)})"
            gain = math.nan if probe is None else probe.accuracy - probe.majority
            cells.append((text, shade(gain, low=0.0, high=0.5)))
        rows.append((label, cells))
    far = []
    for one in every:
        asked = dict.fromkeys(_asked(found.answers.rollouts[row]) for row in one.far)
        far.append((one.name, list(asked)[:NUM_EXAMPLES]))
    return render(
        "features.html.j2",
        FOLDER,
        names=[one.name for one in every],
        sizes=[
            f"{one.name}: {len(one.features)} answers, {one.features.shape[1]} numbers each"
            for one in every
        ],
        rows=rows,
        alike=[
            [
                f"{one.first}, {one.second}",
                str(one.num),
                _number(one.rho_a),
                _number(one.topological),
            ]
            for one in found.representations.alike
        ],
        far=far,
    )


def _picture(found: Audit, row: int) -> str:
    """Base64 of a WebP of the answer in its sample; empty where there is nothing to see."""
    answers, rollout = found.answers, found.answers.rollouts[row]
    kept = answers.pictures[row] if answers.pictures else None
    image = None
    if answers.whole[row]:
        image = answers.task.draw(rollout.sample, [rollout])
    elif kept is not None:
        image = open_image(str(kept))
    if image is None:
        return ""
    image.thumbnail((MAX_IMAGE_PX, MAX_IMAGE_PX))
    data = io.BytesIO()
    image.save(data, "webp", quality=80)
    return base64.b64encode(data.getvalue()).decode("ascii")


def _said(rollout: Rollout) -> str:
    if not isinstance(rollout.output, str):
        return f"answer {rollout.index}"
    return _short(rollout.output) or "(nothing)"


def _asked(rollout: Rollout) -> str:
    return f"{rollout.sample.id}: {_short(' '.join(rollout.sample.texts))}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _number(value: float) -> str:
    return "" if not math.isfinite(value) else f"{value:.3g}"


def _percent(value: float) -> str:
    return "" if not math.isfinite(value) else percent(value)


def _interval(one: Mapping[str, float]) -> str:
    return f"{percent(one['low'])} to {percent(one['high'])}"
