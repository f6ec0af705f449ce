"""Trains a judge: preferences in, "yes" and "no" (or scores) out.

stage ──> PairSampler ──> this rank's pairs ──> questions, images once each ──> packed chunks
                                                                      │
          one optimizer step <── backward <── -log p(word), or Bradley-Terry's loss
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlrl.data.json_file import whole_lines
from vlrl.distributed.comm import World, all_gather, all_max, all_sum
from vlrl.distributed.engine import Engine
from vlrl.errors import DataError, NonFiniteError, RewardError, StoppedError
from vlrl.judge.agreement import Judgement
from vlrl.judge.data.preference import Preference
from vlrl.judge.head import HeadJudge, gathered
from vlrl.judge.interfaces import Processor
from vlrl.judge.local import LocalJudge
from vlrl.judge.module import JudgeModule
from vlrl.judge.packing import EncodedAsk, batches, pack, padded
from vlrl.judge.question import Ask, ImageBook, Questions
from vlrl.judge.train.config import JudgeTrainConfig
from vlrl.judge.train.items import encode_completion, items_of
from vlrl.judge.train.pairs import Entry, PairSampler, entries_of
from vlrl.judge.train.summary import summary
from vlrl.judge.verdicts import judged, judged_by_scores
from vlrl.log.console import StepConsole
from vlrl.log.metrics import Meter
from vlrl.log.report.write import write_report
from vlrl.log.sinks import Sink
from vlrl.stats import one_a_stretch
from vlrl.train.checkpoint import Checkpoints, TrainerState
from vlrl.train.failures import Result, after_saving, on_all
from vlrl.train.lock import RunLock
from vlrl.train.stopping import StopRequest
from vlrl.train.unreadable import Unreadable

Patches = Sequence[tuple[Tensor, Tensor]]

COLUMNS = (
    ("loss", "loss", "{:.4g}"),
    ("accuracy", "accuracy", "{:.1%}"),
    ("grad", "grad_norm", "{:.3g}"),
)
"""What a step shows on the screen."""


@dataclass(frozen=True)
class Batch:
    """The questions of one step on this rank."""

    encoded: list[EncodedAsk]
    """Questions followed by their target answers."""
    patches: Patches
    ids: list[str]


class JudgeTrainer:
    """All stages, one optimizer step after the other; built by vlrl/judge/train/build.py."""

    def __init__(
        self,
        config: JudgeTrainConfig,
        config_yaml: str,
        world: World,
        folder: Path,
        module: JudgeModule,
        processor: Processor,
        engine: Engine,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.config_yaml, self.world, self.folder = config, config_yaml, world, folder
        self.module, self.processor, self.engine = module, processor, engine
        self.checkpoints = checkpoints
        self.questions = Questions(config.template, config.criteria, config.examples)
        limits: Any = {
            "min_pixels": config.min_pixels,
            "max_pixels": config.max_pixels,
            "max_tokens": config.dist.max_tokens_per_chunk,
        }
        self.head = HeadJudge(module, processor, **limits)
        self.encoder = self.head.encoder
        # Both judges use the very weights that are being trained.
        self.judge: LocalJudge | None = None
        if config.kind == "yes_token":
            self.judge = LocalJudge(module.model, processor, config.template, **limits)
        self.data = [entries_of(stage.data) for stage in config.stages]
        self.held_out = {
            name: one_a_stretch(entries_of([one.data]), one.limit)
            for name, one in config.held_out.items()
        }
        self.unreadable: Unreadable[Entry] = Unreadable(self._check_pair, world, folder)
        self.sinks: Sequence[Sink] = ()
        """Set on the main rank once the run is known to start."""
        self.step = 0
        self.lock: RunLock | None = None
        """Of the run's folder; held while the trainer lives."""
        self.started = time.monotonic()
        self.times = Meter()
        """Since the last line of metrics.jsonl."""

    def train(self) -> None:
        """Evaluate, train to the end, evaluate again; continues from `step`."""
        config, last = self.config, self.config.num_steps_total
        show = self.world.is_main and config.log.console
        with (
            StepConsole(
                config.name, last, self.step, show=show, quiet=config.log.quiet, columns=COLUMNS
            ) as console,
            StopRequest(is_main=self.world.is_main) as stop,
        ):
            if self.step == 0 or self._is_unevaluated():
                console.note(self._saved_if_failed(self.evaluate))
            while self.step < last:
                metrics = self.train_step()
                logged = self.step % config.log_every == 0 or self.step == last
                if logged:
                    self.write(metrics)
                console.advance(1, metrics if logged else None)
                if self._due(config.eval_every):
                    console.note(self._saved_if_failed(self.evaluate))
                # After the evaluation, so that a run that resumes here has its line already.
                if self._due(config.save_every):
                    self.save()
                elif number := stop.agreed(self.world):
                    self.save()
                    raise StoppedError(number, self.step)
        for sink in self.sinks:
            sink.close()
        if config.log.report and self.world.is_main:
            print(f"report: {write_report(self.folder)}", flush=True)

    def _due(self, every: int) -> bool:
        """Every so many steps, and after the last one."""
        return self.step == self.config.num_steps_total or bool(every and self.step % every == 0)

    def train_step(self) -> dict[str, float]:
        """One optimizer step; its metrics, the same on all ranks."""
        with self.times.timed("step"):
            return self._train_step()

    def _train_step(self) -> dict[str, float]:
        meter = Meter()
        batch = self._saved_if_failed(self._drawn)
        bradley_terry = self.config.kind == "bradley_terry"
        # A pair of scores is compared, so the two stay in one chunk.
        unit = 2 if bradley_terry else 1
        chunks = _chunks(batch.encoded, self.config.dist.max_tokens_per_chunk, unit)
        mine = len(batch.encoded) / unit
        total = all_sum([mine], self.world)[0]
        most = int(all_max(len(chunks), self.world))
        loss_sum, hits = 0.0, 0.0
        broken = False
        for number in range(most):
            # The same number of forwards on every rank: ZeRO-3 gathers weights in each.
            real = number < len(chunks)
            rows = chunks[number if real else 0]
            losses, right = self._losses(batch, rows, bradley_terry)
            loss = losses.sum() / total
            broken |= not bool(torch.isfinite(loss))
            self.engine.backward(loss if real else loss * 0.0)
            if real:
                loss_sum += float(loss.detach()) * total
                hits += float(right.sum())
        if any(all_gather(broken, self.world)):
            raise NonFiniteError(f"the loss is nan or inf; pairs: {', '.join(batch.ids)}")
        norm = self.engine.step(batch.ids)
        self.step += 1
        meter.add_sum("loss", loss_sum, mine)
        meter.add_sum("accuracy", hits, mine)
        if self.unreadable.reasons:
            meter.maximum("data/unreadable", len(self.unreadable.reasons))
        if not math.isnan(norm):  # DeepSpeed reports no norm where it shards nothing
            meter.maximum("grad_norm", norm)
        return meter.reduce(self.world)

    def _saved_if_failed(self, work: Callable[[], Result]) -> Result:
        """Some work; where a pair cannot be read in it, what was learnt is saved first."""
        try:
            return work()
        except (DataError, RewardError) as error:
            problem = DataError(str(error))  # a RewardError: of what a judge is shown
            if not self.step:
                raise problem from error
            if self.checkpoints.newest_step != self.step:
                self.save()
            raise after_saving(problem, self.step) from error

    def _drawn(self) -> Batch:
        """The next pairs; where one cannot be read and may be skipped, others in its place."""
        while True:
            try:
                return on_all(self.draw, self.world)
            except (DataError, RewardError):
                entries, mine = self._next()
                if not self.unreadable.find([entries[i] for i in mine if entries[i].skips]):
                    raise

    def _next(self) -> tuple[list[Entry], list[int]]:
        """The pairs of the stage, and the places of this rank's share of the next ones."""
        size = self.config.batch_size
        stage, done = self._stage()
        entries, reasons = self.data[stage], self.unreadable.reasons
        out = frozenset(i for i, one in enumerate(entries) if reasons and one.id in reasons)
        drawn = PairSampler(len(entries), f"{self.config.seed}/{stage}", out).at(done * size, size)
        return entries, drawn[self.world.rank :: self.world.size] or drawn[:1]

    def draw(self) -> Batch:
        """This rank's share of the next pairs, as questions with their target answers."""
        config = self.config
        entries, mine = self._next()
        singles = config.stages[self._stage()[0]].singles
        book, asked, said, ids = ImageBook(), [], [], []
        for i in mine:
            pair = entries[i].pair
            rng = random.Random(f"{config.seed}/{self.step}/{i}")
            single = config.kind == "bradley_terry" or (
                rng.random() < singles and not pair.reasoning
            )
            items = items_of(
                pair, self.questions, book, both_orders=config.both_orders, single=single, rng=rng
            )
            asked += [item.ask for item in items]
            said += [item.completion for item in items]
            ids.append(pair.id)
        patches, questions = self._encoded(book, asked)
        tokenizer = self.processor.tokenizer
        encoded = [
            question.followed_by(encode_completion(tokenizer, text))
            for question, text in zip(questions, said, strict=True)
        ]
        return Batch(encoded, patches, ids)

    def _encoded(self, book: ImageBook, asked: Sequence[Ask]) -> tuple[Patches, list[EncodedAsk]]:
        patches = self.encoder.patches(book.images)
        grids = [grid for _, grid in patches]
        return patches, [self.encoder.encode(ask, grids) for ask in asked]

    def _check_pair(self, entry: Entry) -> None:
        """Raise DataError where a pair cannot be made into questions: damaged, or too long."""
        pair, book = entry.pair, ImageBook()
        try:
            if self.config.kind == "bradley_terry":
                sides = (pair.first, pair.second)
                asked = [self.questions.single(book, pair.caption, side) for side in sides]
            else:
                asked = [
                    self.questions.compare(
                        book, pair.caption, pair.first, pair.second, context=pair.context
                    )
                ]
            self._encoded(book, asked)
        except RewardError as error:
            raise DataError(str(error)) from error

    def _stage(self) -> tuple[int, int]:
        """The stage of the next step, and the steps done in it."""
        done = self.step
        for place, stage in enumerate(self.config.stages):
            if done < stage.num_steps:
                return place, done
            done -= stage.num_steps
        return len(self.config.stages) - 1, done

    def _losses(
        self, batch: Batch, rows: Sequence[int], bradley_terry: bool
    ) -> tuple[Tensor, Tensor]:
        """Loss and correctness, one per question; or with a head, one per pair."""
        mine = [batch.encoded[i] for i in rows]
        row = pack(mine) if self.config.share_prompt else padded(mine)
        pixels, grid, shown = gathered(row.images, batch.patches, self.encoder.merge)
        places, targets = (row.last, row.last[1]) if bradley_terry else row.answer_places(mine)
        lengths = [len(mine[i].input_ids) - mine[i].length for i in row.order]
        device = self.world.device
        dtype = next(self.module.parameters()).dtype
        found = self.engine(
            row.input_ids.to(device),
            row.positions.to(device),
            None if row.attention_mask is None else row.attention_mask.to(device),
            row.groups,
            pixels.to(device, dtype),
            grid,
            shown.to(device),
            places.to(device),
            targets.to(device),
        )
        if bradley_terry:
            back = torch.empty(len(rows), dtype=torch.long)
            back[torch.tensor(row.order)] = torch.arange(len(rows))
            chosen, rejected = found[back].view(-1, 2).unbind(1)
            return -functional.logsigmoid(chosen - rejected), (chosen > rejected).detach()
        parts = found.split(lengths)
        losses = torch.stack([-part.mean() for part in parts])
        # The word itself is the last token, or the one before the end of a longer answer.
        word = torch.stack([part[-1] if len(part) == 1 else part[-2] for part in parts]).detach()
        return losses, word.exp() > 0.5

    def evaluate(self) -> dict[str, float]:
        """Pairwise accuracy on every held-out set, by kind, written to the log."""
        self.module.eval()
        metrics: dict[str, float] = {}
        with self.times.timed("evaluation"), torch.no_grad(), self.engine.serving():
            for name, entries in self.held_out.items():
                mine = self._judged_readable(entries[self.world.rank :: self.world.size])
                found = [one for part in all_gather(mine, self.world) for one in part]
                metrics |= {f"{name}/{key}": value for key, value in summary(found).items()}
        self.module.train()
        if metrics:
            self.write(metrics)
        return metrics

    def _judged_readable(self, mine: Sequence[Entry]) -> list[Judgement]:
        """Judgements of this rank's pairs, without those that cannot be read and may be skipped."""
        while True:
            left = [one for one in mine if one.id not in self.unreadable.reasons]
            pairs = [one.pair for one in left]
            try:
                return on_all(partial(self._judged, pairs), self.world)
            except (DataError, RewardError):
                if not self.unreadable.find([one for one in left if one.skips]):
                    raise

    def _judged(self, pairs: Sequence[Preference]) -> list[Judgement]:
        if self.judge is not None:
            return judged(self.judge, self.questions, pairs)
        scores = []
        for start in range(0, len(pairs), 64):
            book, asks = ImageBook(), []
            for pair in pairs[start : start + 64]:
                for content in (pair.first, pair.second):
                    asks.append(self.questions.single(book, pair.caption, content))
            flat = self.head.scores(book, asks)
            scores += list(zip(flat[::2], flat[1::2], strict=True))
        return judged_by_scores(pairs, scores)

    def write(self, metrics: Mapping[str, float]) -> None:
        """One line of metrics.jsonl; all ranks call this."""
        minutes = round((time.monotonic() - self.started) / 60, 2)
        times, self.times = self.times.reduce(self.world), Meter()
        line = {"minutes": minutes, "lr": self.engine.lr, **times, **metrics}
        for sink in self.sinks:
            sink.write(self.step, line)

    def save(self) -> None:
        """Write a checkpoint; all ranks call this."""
        state = TrainerState.of(self.engine, self.step, version=self.step)
        self.checkpoints.save(self.engine, state, [], self.config_yaml)

    def resume(self, path: Path) -> None:
        """Continue as if never interrupted: what is drawn depends on the step alone."""
        state, _ = self.checkpoints.load(path, self.engine)
        self.step = state.step
        every = [one for entries in (*self.data, *self.held_out.values()) for one in entries]
        self.unreadable.find_again([one for one in every if one.skips])

    def _is_unevaluated(self) -> bool:
        """Whether this step's evaluation failed, so that its line is still to come."""
        if not (self.held_out and self._due(self.config.eval_every)):
            return False
        found = False
        file = self.folder / "metrics.jsonl"
        if self.world.is_main and file.is_file():
            rows = [json.loads(line) for line in whole_lines(file)]
            keys = {key for row in rows if row["step"] == self.step for key in row}
            found = any(key.startswith(f"{name}/") for key in keys for name in self.held_out)
        return not all_gather(found, self.world)[0]


def _chunks(encoded: Sequence[EncodedAsk], max_tokens: int, unit: int) -> list[list[int]]:
    """Rows of one forward each, `unit` neighbours together."""
    if unit == 1:
        return batches(encoded, max_tokens)
    found: list[list[int]] = []
    cost = 0
    for start in range(0, len(encoded), unit):
        rows = list(range(start, start + unit))
        own = sum(len(encoded[i].input_ids) for i in rows)
        if not found or cost + own > max_tokens:
            found.append([])
            cost = 0
        found[-1] += rows
        cost += own
    return found
