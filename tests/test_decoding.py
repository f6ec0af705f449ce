"""Where answers end, what decides a token, and what of a trajectory an update reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_policy import NONE, make_policy, problems
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.distribution import Sampling, log_probs
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decode import Decoded, decode
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.types import Finish

FAMILY = "qwen2_5_vl"


@pytest.fixture
def folder(checkpoints: dict[str, Path]) -> Path:
    return checkpoints[FAMILY]


def raise_logit(policy: VisionLanguagePolicy, token: int, by: float) -> None:
    bias = torch.zeros(policy.module.core.lm_head.out_features, device=policy.device)
    bias[token] = by
    distribution = policy.module.distribution
    policy.module.distribution = lambda logits, *rest: distribution(logits + bias, *rest)  # type: ignore[method-assign]


def move(policy: VisionLanguagePolicy, size: float) -> None:
    """A crude optimizer step: different noise on every matrix."""
    make = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=make)
                parameter += size * noise.to(parameter.device)


def test_the_stop_token_is_an_action_and_no_text(folder: Path, screens: Path) -> None:
    """Without it in the mask, the model would never learn when to stop."""
    policy = make_policy(folder, max_new_tokens=12)
    tokenizer = policy.processor.tokenizer
    eos = tokenizer.eos_token_id
    raise_logit(policy, eos, 6.0)
    rollouts, traj = policy.sample(problems(screens, 3), 4, seed=1)
    ended = [row for row, r in enumerate(rollouts) if r.finish is Finish.STOP]
    lengths = [rollouts[row].num_actions for row in ended]
    assert len(set(lengths)) > 2, "answers of several lengths"
    now = policy.evaluate(traj)
    for row in ended:
        tokens = traj.tokens[row, traj.mask[row]].tolist()
        assert tokens[-1] == eos
        assert eos not in tokens[:-1]
        assert rollouts[row].num_actions == len(tokens)
        assert rollouts[row].output == tokenizer.decode(tokens[:-1])
        assert tokenizer.eos_token not in rollouts[row].output
        # It has a log-prob like any other action.
        last = len(tokens) - 1
        assert float(traj.logp[row, last]) < 0
        assert float(now.logp[row, last].detach()) == pytest.approx(
            float(traj.logp[row, last]), abs=1e-4
        )
    for row, rollout in enumerate(rollouts):
        if row not in ended:
            assert rollout.num_actions == 12
            assert eos not in traj.tokens[row].tolist()


def test_an_answer_ends_with_the_token_that_completes_a_stop_string(
    folder: Path, screens: Path
) -> None:
    stop = ("e", "a", "1")
    policy = make_policy(folder, max_new_tokens=16, stop=stop)
    rollouts, traj = policy.sample(problems(screens, 4), 4, seed=5)

    def has_stop(tokens: list[int]) -> bool:
        text = policy.processor.tokenizer.decode(tokens)
        return any(word in text for word in stop)

    ended = 0
    for row, rollout in enumerate(rollouts):
        tokens = traj.tokens[row, traj.mask[row]].tolist()
        assert not has_stop(tokens[:-1])
        if tokens[-1] not in policy.stop_tokens:
            assert (rollout.finish is Finish.STOP) == has_stop(tokens)
            assert rollout.output == policy.processor.tokenizer.decode(tokens)
            ended += has_stop(tokens)
    assert ended > 4


class EndsAt:
    """Rules under which every row ends after its own number of tokens."""

    def __init__(self, lengths: list[int]) -> None:
        self.left = torch.tensor(lengths)

    def next(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(rows), torch.full_like(rows, -1)

    def take(self, rows: Tensor, tokens: Tensor) -> Tensor:
        self.left[rows] -= 1
        return self.left[rows] <= 0


def decoded_by(
    policy: VisionLanguagePolicy,
    prompts: list[EncodedPrompt],
    num_each: int,
    share: bool,
    **options: Any,
) -> tuple[Decoded, list[int]]:
    """Answers, and how many rows every call of the model had."""
    sizes: list[int] = []
    hidden = policy.module.hidden

    def counted(input_ids: Tensor, *args: Any, **named: Any) -> Tensor:
        sizes.append(len(input_ids))
        return hidden(input_ids, *args, **named)

    policy.module.hidden = counted  # type: ignore[method-assign]
    policy.module.eval()
    answers = decode(
        policy.module,
        prompts,
        num_each,
        list(range(len(prompts) * num_each)),
        share_prompt=share,
        max_new_tokens=8,
        stop_tokens=policy.stop_tokens,
        pad_id=policy.pad_id,
        **options,
    )
    policy.module.hidden = hidden  # type: ignore[method-assign]
    return answers, sizes


def test_rows_that_have_ended_leave_once_they_are_a_quarter(folder: Path, screens: Path) -> None:
    """Hand-worked: two groups of four. Alive after each token: 3 + 2, 2 + 2, 2 + 2, 0.

    Plain, 5 of 8 rows continue; then 4 of 5 are not a quarter less. Shared, all groups keep as many
    rows as the fullest one: 2 x 3, then 2 x 2.
    """
    lengths = [1, 2, 4, 4, 4, 1, 4, 1]
    policy = make_policy(folder)
    prompts = [policy.encoder.encode(sample) for sample in problems(screens, 2)]
    plain, sizes = decoded_by(policy, prompts, 4, False, rules=EndsAt(lengths))
    assert sizes == [2, 5, 5, 5]  # every prompt once, its cache then repeated
    shared, sizes = decoded_by(policy, prompts, 4, True, rules=EndsAt(lengths))
    assert sizes == [1, 6, 4, 4]  # prompts lie end to end in one row
    for answers in (plain, shared):
        assert answers.mask.sum(1).tolist() == lengths
        assert answers.finish == [Finish.STOP] * 8
    assert torch.equal(plain.tokens, shared.tokens)
    # Rows whose neighbours did not leave give the same.
    full, sizes = decoded_by(policy, prompts, 4, False, rules=EndsAt([4] * 8))
    assert sizes == [2, 8, 8, 8]
    assert torch.equal(full.tokens[plain.mask], plain.tokens[plain.mask])


def test_a_whole_group_that_has_ended_leaves(folder: Path, screens: Path) -> None:
    policy = make_policy(folder)
    prompts = [policy.encoder.encode(sample) for sample in problems(screens, 2)]
    lengths = [1, 1, 3, 3]
    shared, sizes = decoded_by(policy, prompts, 2, True, rules=EndsAt(lengths))
    assert sizes == [1, 2, 2]
    plain, _ = decoded_by(policy, prompts, 2, False, rules=EndsAt(lengths))
    assert torch.equal(plain.tokens, shared.tokens)


def test_the_samples_id_seeds_its_answers(folder: Path, screens: Path) -> None:
    """Samples with the same prompt get different draws, and the same id always gets the same."""
    policy = make_policy(folder)
    sample = problems(screens, 1)[0]
    twins = [sample, replace(sample, id="another")]
    _, traj = policy.sample(twins, 2, seed=1)
    assert torch.equal(traj.prompts[0].input_ids, traj.prompts[1].input_ids)
    answers = [traj.tokens[row].tolist() for row in range(4)]
    assert len({tuple(answer) for answer in answers}) == 4
    _, turned = policy.sample(twins[::-1], 2, seed=1)
    assert [turned.tokens[row].tolist() for row in range(4)] == [*answers[2:], *answers[:2]]


def test_greedy_takes_the_first_of_a_tie(folder: Path, screens: Path) -> None:
    policy = make_policy(folder, max_new_tokens=3)
    for token in (41, 17, 90):
        head = policy.module.core.lm_head
        wanted = torch.tensor([token])
        head.register_forward_hook(lambda _m, _i, out, at=wanted: out.index_fill(-1, at, 50.0))
    _, traj = policy.sample(problems(screens, 1), 2, seed=1, greedy=True)
    assert traj.tokens.tolist() == [[17] * 3] * 2


def test_top_p_counts_what_top_k_left() -> None:
    """k = 2 leaves 4/7 and 3/7; the first of them alone reaches 0.55, though 0.4 does not."""
    logits = torch.tensor([[0.2, 0.4, 0.1, 0.3]]).log()
    both = log_probs(logits, Sampling(top_p=0.55, top_k=2), NONE).exp()
    assert both[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    # Two are needed where top-p reaches further than the first, or where top-k is off.
    both = log_probs(logits, Sampling(top_p=0.6, top_k=2), NONE).exp()
    assert both[0].tolist() == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1e-6)
    alone = log_probs(logits, Sampling(top_p=0.55), NONE).exp()
    assert alone[0].tolist() == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1e-6)


def test_tokens_that_left_the_top_p_set_keep_a_finite_log_prob(folder: Path, screens: Path) -> None:
    policy = make_policy(folder, top_p=0.5)
    _, traj = policy.sample(problems(screens, 3), 4, seed=2)
    move(policy, 0.2)
    now = policy.evaluate(traj)
    assert now.logp.isfinite().all()
    assert now.entropy.isfinite().all()
    (now.logp * traj.mask).sum().backward()
    grads = [p.grad for p in policy.module.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    # The test is not vacuous: on the current support alone some have none.
    plain = policy.module.distribution
    policy.module.distribution = lambda logits, kinds=None, taken=None: plain(logits, kinds)  # type: ignore[method-assign]
    with torch.no_grad():
        assert policy.evaluate(traj).logp[traj.mask].isinf().any()


def test_entropy_has_a_gradient_only_when_asked(folder: Path, screens: Path) -> None:
    policy = make_policy(folder)
    _, traj = policy.sample(problems(screens, 2), 2, seed=1)
    plain = policy.evaluate(traj)
    asked = policy.evaluate(traj, with_entropy_grad=True)
    assert plain.logp.requires_grad
    assert plain.entropy is not None
    assert asked.entropy is not None
    assert not plain.entropy.requires_grad
    assert torch.allclose(plain.entropy, asked.entropy)
    asked.entropy.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in policy.module.parameters())


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({"train_vision": True}, False),
        ({"train_vision": False}, True),
        ({"train_vision": False, "lora": {"rank": 2}}, True),
        ({"train_vision": False, "lora": {"rank": 2, "target_modules": "all-linear"}}, False),
    ],
)
def test_a_tower_with_adapters_inside_is_not_frozen(
    folder: Path, options: dict[str, Any], frozen: bool
) -> None:
    """Features precomputed with the prompts would leave its adapters without a gradient."""
    policy = make_policy(folder, **options)
    tower = [p for n, p in policy.module.named_parameters() if ".visual." in n]
    assert any(p.requires_grad for p in tower) != frozen
    assert policy.module.keeps_features == frozen


def test_adapters_in_the_tower_get_a_gradient(folder: Path, screens: Path) -> None:
    lora = {"rank": 2, "target_modules": "all-linear"}
    policy = make_policy(folder, train_vision=False, lora=lora)
    _, traj = policy.sample(problems(screens, 1), 2, seed=1)
    policy.evaluate(traj).logp.sum().backward()
    grads = [
        p.grad for n, p in policy.module.named_parameters() if ".visual." in n and "lora_B" in n
    ]
    assert grads
    assert all(grad is not None for grad in grads)
    assert any(grad.any() for grad in grads)


def numbered(num_rows: int, group: Sequence[int], width: int = 2) -> TokenTrajectory:
    """Every tensor says which row and column it is; every prompt which group it is."""
    values = torch.arange(num_rows)[:, None] * 10 + torch.arange(width)
    prompts = [
        EncodedPrompt(torch.tensor([g]), torch.zeros(3, 1, dtype=torch.long), None, None)
        for g in range(max(group) + 1)
    ]
    return TokenTrajectory(
        tokens=values,
        mask=torch.ones(num_rows, width, dtype=torch.bool),
        logp=-1.0 - values,
        group=torch.tensor(group),
        prompts=tuple(prompts),
        reference=-2.0 - values,
        stage=values + 3,
    )


def test_selected_rows_bring_all_that_is_theirs() -> None:
    part = numbered(4, [0, 0, 1, 1]).select([3, 0])
    assert part.tokens.tolist() == [[30, 31], [0, 1]]
    assert part.logp.tolist() == [[-31, -32], [-1, -2]]
    assert part.group.tolist() == [1, 0]
    assert part.reference is not None
    assert part.reference.tolist() == [[-32, -33], [-2, -3]]
    assert part.stage is not None
    assert part.stage.tolist() == [[33, 34], [3, 4]]


def test_joined_rows_still_name_their_own_prompts() -> None:
    """Also after a part whose last group was dropped: its prompt stays, and keeps its number."""
    whole = numbered(6, [0, 0, 1, 1, 2, 2])
    other = numbered(3, [0, 1, 1], width=3)
    joined = TokenTrajectory.join([whole.select([0, 1, 2, 3]), other, whole.only_group(2)])
    assert joined.tokens.tolist() == [
        [0, 1, 0], [10, 11, 0], [20, 21, 0], [30, 31, 0],
        [0, 1, 2], [10, 11, 12], [20, 21, 22],
        [40, 41, 0], [50, 51, 0],
    ]  # fmt: skip
    assert joined.mask.sum(1).tolist() == [2, 2, 2, 2, 3, 3, 3, 2, 2]
    assert len(joined) == 9
    assert joined.group.tolist() == [0, 0, 1, 1, 3, 4, 4, 5, 5]
    named = [int(joined.prompts[g].input_ids) for g in joined.group.tolist()]
    assert named == [0, 0, 1, 1, 0, 1, 1, 2, 2]


def test_the_kl_is_k3_of_now_against_the_reference(folder: Path, screens: Path) -> None:
    """d = now - reference, exp(-d) + d - 1; the estimator is not symmetric."""
    policy = make_policy(folder)
    _, traj = policy.sample(problems(screens, 2), 3, seed=1)
    logp = policy.evaluate(traj).logp.detach()
    assert policy.evaluate(traj).kl is None
    shift = torch.linspace(-1.0, 1.5, logp.numel()).reshape(logp.shape)
    now = policy.evaluate(replace(traj, reference=logp - shift))
    assert now.kl is not None
    wanted = (-shift).exp() + shift - 1
    assert torch.allclose(now.kl.detach(), wanted, atol=1e-4)
    swapped = shift.exp() - shift - 1
    assert not torch.allclose(wanted, swapped, atol=0.1)
    # Its gradient goes into the policy: d kl / d logp = 1 - exp(-d).
    (gradient,) = torch.autograd.grad(now.kl.sum(), now.logp)
    assert torch.allclose(gradient, 1 - (-shift).exp(), atol=1e-4)
