"""The vision-language policy on real classes of all three families, at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlrl.errors import ConfigError
from vlrl.policy.distribution import Sampling, draw, entropy, log_probs
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.policy import VisionLanguagePolicy, layout
from vlrl.protocols import PolicySetup
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.types import Finish, Message, Sample, TextPart

NONE = torch.zeros(0, dtype=torch.long)
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def make_policy(folder: Path, **options: object) -> VisionLanguagePolicy:
    settings = {"max_new_tokens": 7, "sample_batch_size": 8, **options}
    torch.manual_seed(0)
    return VisionLanguagePolicy(
        VisionLanguagePolicy.Options(model=str(folder), **settings),
        PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096, kl_estimator="k3"),
    )


def problems(path: Path, count: int) -> list[Sample]:
    task = GuiGrounding(
        GuiGrounding.Options(data={"train": {"path": str(path)}}, prompt="Click: {instruction}")
    )
    return list(task.samples("train"))[:count]


def gradients(policy: VisionLanguagePolicy, traj: TokenTrajectory) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs, entropies and the gradient of a weighted sum of the log-probs."""
    policy.module.zero_grad()
    now = policy.evaluate(traj)
    weight = torch.linspace(-1, 2, now.logp.numel()).reshape(now.logp.shape)
    (now.logp * (weight * traj.mask).to(now.logp.device)).sum().backward()
    grads = [p.grad.flatten() for p in policy.module.parameters() if p.grad is not None]
    return now.logp.detach(), now.entropy.detach(), torch.cat(grads)


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_and_plain_layouts_are_one_function(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family])
    rollouts, traj = policy.sample(problems(screens, 3), 4, seed=1)
    assert len(rollouts) == 12
    assert len({r.num_actions for r in rollouts}) >= 1
    policy.share_prompt = True
    shared = gradients(policy, traj)
    policy.share_prompt = False
    plain = gradients(policy, traj)
    assert torch.allclose(shared[0], plain[0], atol=1e-5)
    assert torch.allclose(shared[1], plain[1], atol=1e-5)
    scale = plain[2].abs().max()
    assert scale > 0
    assert float((shared[2] - plain[2]).abs().max() / scale) < 1e-5
    # The test is not vacuous: answers that see each other give other log-probs.
    rows = layout.shared(traj, policy.pad_id)
    wrong = policy.module(
        rows.input_ids,
        rows.positions,
        torch.ones_like(rows.input_ids),
        rows.media,
        rows.predictor,
        rows.targets,
    )[0]
    assert float((wrong - plain[0][traj.mask]).abs().max()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_changes_no_gradient(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        policy = VisionLanguagePolicy(
            VisionLanguagePolicy.Options(model=str(checkpoints[family]), max_new_tokens=7),
            PolicySetup(
                dtype=torch.float32, max_tokens_per_chunk=4096, checkpointing=checkpointing
            ),
        )
        _, traj = policy.sample(problems(screens, 3), 4, seed=1)
        for policy.share_prompt in (True, False):
            found.append(gradients(policy, traj))
    plain = found[1]
    for logp, entropies, grad in found:
        assert torch.allclose(logp, plain[0], atol=1e-5)
        assert torch.allclose(entropies, plain[1], atol=1e-5)
        assert float((grad - plain[2]).abs().max() / plain[2].abs().max()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prompt_gives_the_same_samples(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family], max_new_tokens=12, stop=("e", "a", "1"))
    drawn = []
    for policy.share_prompt in (True, False):
        _, traj = policy.sample(problems(screens, 4), 3, seed=5)
        drawn.append(traj)
    assert len({p.num_tokens for p in drawn[0].prompts}) > 1, "prompts of several lengths"
    assert len(set(drawn[0].mask.sum(1).tolist())) > 3, "rows end at several steps"
    assert torch.equal(drawn[0].mask, drawn[1].mask)
    assert torch.equal(drawn[0].tokens, drawn[1].tokens)
    assert torch.allclose(drawn[0].logp, drawn[1].logp, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [True, False])
def test_sampled_log_probs_are_those_of_the_update(
    family: str, share: bool, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family], temperature=0.7, top_k=50, top_p=0.9)
    policy.share_prompt = share
    _, traj = policy.sample(problems(screens, 3), 3, seed=2)
    now = policy.evaluate(traj)
    assert torch.allclose(now.logp[traj.mask], traj.logp[traj.mask], atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_are_the_models_own_cross_entropy(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Against transformers' own forward, without any of our layouts, positions or heads."""
    policy = make_policy(checkpoints[family])
    policy.module.forbidden = NONE
    samples = problems(screens, 2)
    _, traj = policy.sample(samples, 2, seed=3)
    now = policy.evaluate(traj)
    for row in range(len(traj)):
        prompt = traj.prompts[int(traj.group[row])]
        answer = traj.tokens[row, traj.mask[row]]
        ids = torch.cat([prompt.input_ids, answer])[None]
        kinds = torch.zeros_like(ids)
        kinds[ids == policy.module.core.config.image_token_id] = 1
        with torch.no_grad():
            logits = policy.module.core(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=prompt.media["pixel_values"],
                image_grid_thw=prompt.media["grid_thw"],
                mm_token_type_ids=kinds,
            ).logits[0, prompt.num_tokens - 1 : -1]
        plain = -torch.nn.functional.cross_entropy(logits, answer, reduction="none")
        assert torch.allclose(now.logp[row, traj.mask[row]], plain, atol=2e-5)


def test_an_answer_depends_on_its_own_seed_alone(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    samples = problems(screens, 4)
    together, _ = policy.sample(samples, 3, seed=5)
    policy = make_policy(checkpoints["qwen2_5_vl"], sample_batch_size=3)
    alone = [policy.sample([sample], 3, seed=5)[0] for sample in samples]
    assert [r.output for r in together] == [r.output for part in alone for r in part]
    other, _ = policy.sample(samples, 3, seed=6)
    assert [r.output for r in other] != [r.output for r in together]
    assert [r.group for r in together] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_greedy_answers_equal_transformers_generate(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    policy.module.forbidden = NONE
    samples = problems(screens, 3)
    _, traj = policy.sample(samples, 1, seed=0, greedy=True)
    for row, prompt in enumerate(traj.prompts):
        kinds = (prompt.input_ids == policy.module.core.config.image_token_id).long()
        out = policy.module.core.generate(
            input_ids=prompt.input_ids[None],
            attention_mask=torch.ones_like(prompt.input_ids[None]),
            pixel_values=prompt.media["pixel_values"],
            image_grid_thw=prompt.media["grid_thw"],
            mm_token_type_ids=kinds[None],
            max_new_tokens=7,
            do_sample=False,
        )[0, prompt.num_tokens :]
        assert traj.tokens[row, traj.mask[row]].tolist() == out.tolist()


def test_a_prompt_without_a_image_trains_beside_one_with(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    text_only = Sample("t", "x", (Message("user", (TextPart("Click: nothing"),)),), None)
    _, alone = policy.sample([text_only], 2, seed=1)
    logp, _, _ = gradients(policy, alone)
    touched = policy.module.core.model.visual.patch_embed.proj.weight.grad
    assert touched is not None
    assert not touched.any()
    # The same next to an image: the blank image of a rank without one changes nothing.
    _, mixed = policy.sample([*problems(screens, 1), text_only], 2, seed=1)
    for share in (True, False):
        policy.share_prompt = share
        both = policy.evaluate(mixed).logp[2:, : logp.shape[1]]
        assert torch.allclose(both[alone.mask], logp[alone.mask], atol=1e-5)


def test_a_vision_token_is_never_sampled(checkpoints: dict[str, Path], screens: Path) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"], max_new_tokens=30)
    head = policy.module.core.lm_head
    # A model that prefers image tokens to everything else.
    wanted = policy.module.core.config.image_token_id
    head.register_forward_hook(lambda _m, _i, out: out.index_fill(-1, torch.tensor([wanted]), 50.0))
    _, traj = policy.sample(problems(screens, 1), 2, seed=1)
    assert wanted not in traj.tokens[traj.mask].tolist()


def test_answers_stop_at_stop_strings_and_at_the_limit(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"], max_new_tokens=12)
    long, _ = policy.sample(problems(screens, 4), 4, seed=9)
    cut = next(r for r in long if r.finish is Finish.LENGTH and len(r.output) > 3)
    letter = cut.output[1]
    policy = make_policy(checkpoints["qwen2_5_vl"], max_new_tokens=12, stop=(letter,))
    short, _ = policy.sample(problems(screens, 4), 4, seed=9)
    for before, after in zip(long, short, strict=True):
        if letter in before.output:
            assert after.finish is Finish.STOP
            assert before.output.startswith(after.output)
            assert letter in after.output
        else:
            assert after.output == before.output


def test_lora_switched_off_is_the_start(checkpoints: dict[str, Path], screens: Path) -> None:
    policy = make_policy(
        checkpoints["qwen2_5_vl"], lora={"rank": 2, "alpha": 4}, train_vision=False
    )
    samples = problems(screens, 2)
    _, traj = policy.sample(samples, 2, seed=1)
    start = policy.evaluate(traj).logp.detach()
    with torch.no_grad():
        for name, parameter in policy.module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    assert torch.allclose(policy.reference(traj), start, atol=1e-6)
    assert not torch.allclose(policy.evaluate(traj).logp, start, atol=1e-3)
    trained = [n for n, p in policy.module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name and "visual" not in name for name in trained)


def test_lora_on_layers_that_are_not_there_is_refused(checkpoints: dict[str, Path]) -> None:
    lora = {"rank": 2, "alpha": 4, "target_modules": "nothing"}
    with pytest.raises(ConfigError, match=r"lora\.target_modules: .*nothing"):
        make_policy(checkpoints["qwen2_5_vl"], lora=lora)


def test_plans_keep_to_the_budget_and_lose_no_row(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    _, traj = policy.sample(problems(screens, 5), 3, seed=1)
    for share in (True, False):
        policy.share_prompt = share
        for budget in (1, 60, 100, 10_000):
            policy.max_tokens_per_chunk = budget
            chunks = policy.plan(traj, range(len(traj)))
            assert sorted(b for chunk in chunks for b in chunk) == list(range(len(traj)))
            for chunk in chunks:
                build = layout.shared if share else layout.plain
                part = traj.select(chunk)
                assert len(part) == 1 or build(part, 0).num_tokens <= budget


def test_scores_keep_to_the_budget(checkpoints: dict[str, Path], screens: Path) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    _, traj = policy.sample(problems(screens, 3), 3, seed=1)
    passes: list[int] = []
    policy.module.register_forward_hook(lambda *_: passes.append(1))
    whole = policy.score(traj)
    policy.max_tokens_per_chunk = 60
    torch.testing.assert_close(policy.score(traj), whole)
    assert len(passes) == 1 + len(policy.plan(traj, range(len(traj)))) > 3


def test_a_group_above_the_budget_is_split_without_a_change(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    """Log-probs and gradients of the parts, each with the prompt, are those of the whole."""
    policy = make_policy(checkpoints["qwen2_5_vl"])
    _, traj = policy.sample(problems(screens, 2), 6, seed=1)
    found = []
    for budget in (10_000, layout.shared(traj.only_group(0), 0).num_tokens - 1):
        policy.max_tokens_per_chunk = budget
        chunks = policy.plan(traj, range(len(traj)))
        policy.module.zero_grad()
        logps = torch.zeros(traj.mask.shape)
        for chunk in chunks:
            logp = policy.evaluate(traj.select(chunk)).logp
            width = logp.shape[1]
            (logp * traj.mask[chunk][:, :width]).sum().backward()
            logps[chunk, :width] = logp.detach()
        grads = [p.grad.clone() for p in policy.module.parameters() if p.grad is not None]
        found.append((len(chunks), logps, torch.cat([g.flatten() for g in grads])))
    (one, logp, grad), (several, split_logp, split_grad) = found
    assert one == 1
    assert several >= 3
    assert torch.allclose(split_logp, logp, atol=1e-5)
    assert float((split_grad - grad).abs().max() / grad.abs().max()) < 1e-5


def test_log_probs_equal_cross_entropy_and_categorical() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 11)
    taken = torch.randint(0, 11, (20,))
    logp = log_probs(logits, Sampling(), NONE)
    chosen = logp.gather(-1, taken[:, None])[:, 0]
    plain = -torch.nn.functional.cross_entropy(logits, taken, reduction="none")
    assert torch.allclose(chosen, plain, atol=1e-6)
    assert torch.allclose(
        entropy(logp), torch.distributions.Categorical(logits=logits).entropy(), atol=1e-6
    )


@pytest.mark.parametrize(
    "sampling", [Sampling(0.5), Sampling(1.3, 0.8), Sampling(1.0, 1.0, 3), Sampling(0.9, 0.7, 4)]
)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 8)
    logp = log_probs(logits, sampling, torch.tensor([2]))
    probs = logp.exp()[0]
    assert float(probs.sum()) == pytest.approx(1, abs=1e-6)
    assert probs[2] == 0
    num = 40_000
    drawn = draw(logp.expand(num, -1), torch.rand(num)).bincount(minlength=8) / num
    assert torch.allclose(drawn, probs, atol=0.012)
    assert (drawn[probs == 0] == 0).all()


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = log_probs(logits, Sampling(top_p=0.75), NONE).exp()
    assert kept[0].tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=1e-6)
    # A token that an update pushed out of the set is kept in it, so that its ratio is finite.
    still = log_probs(logits, Sampling(top_p=0.75), NONE, torch.tensor([3])).exp()
    assert float(still[0, 3]) == pytest.approx(0.05 / 0.85, abs=1e-6)


def test_the_ends_of_the_unit_interval_draw_real_tokens() -> None:
    logp = torch.tensor([[0.0, 1.0, 0.0]]).log().expand(2, -1)
    assert draw(logp, torch.tensor([0.0, 1.0])).tolist() == [1, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_tower_runs_once_a_rollout(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family], train_vision=False)
    calls: list[int] = []
    policy.module.core.model.visual.register_forward_hook(lambda *_: calls.append(1))
    text_only = Sample("t", "x", (Message("user", (TextPart("Click: nothing"),)),), None)
    samples = [*problems(screens, 2), text_only]
    _, traj = policy.sample(samples, 3, seed=1)
    assert len(calls) == 1
    assert all(p.media is None for p in traj.prompts)
    reference = policy.reference_module(torch.float32)
    policy.bind_reference(reference)
    reference.core.model.visual.register_forward_hook(lambda *_: calls.append(1))
    for policy.share_prompt in (True, False):
        now = policy.evaluate(traj)
        assert torch.allclose(now.logp[traj.mask], traj.logp[traj.mask], atol=2e-5)
        # The reference is the start, and needs no tower either.
        assert torch.allclose(policy.reference(traj), now.logp.detach(), atol=2e-5)
    assert len(calls) == 1
    # A trained tower runs in every pass, since its features change.
    trained = make_policy(checkpoints[family])
    _, again = trained.sample(samples, 3, seed=1)
    assert torch.equal(again.tokens, traj.tokens)
    assert again.prompts[0].features is None
    assert trained.evaluate(again).logp.requires_grad
