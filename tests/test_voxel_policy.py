"""The voxel-token policy: constrained decoding, log-probs under the same constraint, stages."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_voxels import NUM_CODES, make_voxel_policy, samples, save_voxel_model
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrl.errors import ConfigError, DataError
from vlrl.mesh.mesh_words import fit_codes, read_codes, write_codes
from vlrl.policy.distribution import log_probs
from vlrl.policy.vision_language.layout import plain
from vlrl.policy.voxel_tokens.grammar import CODES, FREE, WORDS
from vlrl.policy.voxel_tokens.policy import mesh_tokens
from vlrl.types import Finish, ImagePart, Message, Sample

LORA = {"rank": 4, "alpha": 8}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voxel_model(tmp_path_factory.mktemp("voxel") / "model")


def test_answers_have_the_asked_form(folder: Path) -> None:
    policy = make_voxel_policy(folder)
    rollouts, trajectory = policy.sample(samples(), 4, seed=1)
    mesh = policy.mesh
    assert len(rollouts) == 12
    for row, rollout in enumerate(rollouts):
        assert rollout.finish is Finish.STOP
        assert [stage.fault for stage in rollout.output] == ["", ""]
        tokens = trajectory.tokens[row][trajectory.present[row]]
        assert (tokens == mesh.start).sum() == 2
        assert (tokens == mesh.end).sum() == 2
        assert tokens[-1] == mesh.end
        is_code = mesh.is_code(trajectory.tokens[row]) & trajectory.present[row]
        assert is_code.sum() == 16
        assert torch.equal(is_code, (trajectory.kind[row] == CODES) & trajectory.present[row])
        for s, stage in enumerate(rollout.output):
            own = is_code & (trajectory.stage[row] == s)
            codes = (trajectory.tokens[row][own] - mesh.first).tolist()
            assert tuple(codes) == stage.codes
            expected = policy.codec.decode(torch.tensor([codes]))[0].numpy()
            assert np.array_equal(stage.occupancy, expected)
        assert rollout.num_actions == int(trajectory.mask[row].sum())
    # Forced tokens are there, and are not actions.
    forced = trajectory.present & ~trajectory.mask
    assert forced.any()
    assert not trajectory.logp[forced].any()
    assert set(trajectory.kind[trajectory.mask].tolist()) == {WORDS, CODES}
    words = trajectory.tokens[trajectory.mask & (trajectory.kind == WORDS)]
    assert not torch.isin(words, policy.module.banned[WORDS].nonzero()[:, 0]).any()


def test_a_captions_mesh_words_are_characters(folder: Path) -> None:
    policy = make_voxel_policy(folder)
    mesh = policy.mesh
    for text in ("a chair <mesh3><mesh0>", "<mesh-start> a chair <mesh-end>"):
        (sample,) = samples(text)
        ids = policy.encoder.encode(sample).input_ids
        assert not (mesh.is_code(ids) | (ids == mesh.start) | (ids == mesh.end)).any()


def test_one_stage_and_no_words(folder: Path) -> None:
    policy = make_voxel_policy(folder, refine=None, max_plan_tokens=0)
    rollouts, trajectory = policy.sample(samples(), 2, seed=1)
    assert {len(r.output) for r in rollouts} == {1}
    assert {r.output[0].words for r in rollouts} == {""}
    assert int(trajectory.mask.sum()) == 6 * 8
    assert not trajectory.stage.any()


def test_words_that_never_end_are_ended(folder: Path) -> None:
    policy = make_voxel_policy(folder)
    with torch.no_grad():
        # The start becomes all but impossible.
        policy.module.core.lm_head.weight[policy.mesh.start] = 0
    _, trajectory = policy.sample(samples(), 4, seed=1)
    words = (trajectory.kind == WORDS) & trajectory.mask
    longest = [(words & (trajectory.stage == s)).sum(1).max() for s in range(2)]
    assert [int(n) for n in longest] == [5, 4]


def test_log_probs_are_those_of_the_constraint(folder: Path) -> None:
    """Against a plain forward pass of transformers and a mask written down by hand."""
    policy = make_voxel_policy(folder, temperature=0.8)
    _, trajectory = policy.sample(samples(), 2, seed=5)
    with torch.no_grad():
        logp = policy.evaluate(trajectory).logp
    rows = plain(trajectory.as_input(), policy.pad_id)
    model = policy.module.core
    with torch.no_grad():
        logits = model(
            input_ids=rows.input_ids,
            attention_mask=rows.attention_mask,
            position_ids=rows.positions,
        ).logits
    start = rows.input_ids.shape[1] - trajectory.tokens.shape[1]
    mesh = policy.mesh
    codes = torch.arange(mesh.first, mesh.first + NUM_CODES)
    banned = policy.module.banned[WORDS].nonzero()[:, 0]
    for b, t in trajectory.mask.nonzero().tolist():
        scores = logits[b, start + t - 1] / 0.8
        token = trajectory.tokens[b, t]
        if trajectory.kind[b, t] == CODES:
            expected = torch.log_softmax(scores[codes], 0)[token - mesh.first]
        else:
            allowed = torch.ones(len(scores), dtype=torch.bool)
            allowed[banned] = False
            expected = scores[token] - torch.logsumexp(scores[allowed], 0)
        assert float(logp[b, t]) == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(logp[trajectory.mask], trajectory.logp[trajectory.mask], atol=1e-5)


def test_ratio_is_one_on_the_first_update(folder: Path) -> None:
    policy = make_voxel_policy(folder)
    _, trajectory = policy.sample(samples(), 4, seed=2)
    one, two = policy.evaluate(trajectory).logp, policy.evaluate(trajectory).logp
    assert torch.equal((one - two.detach()).exp(), torch.ones_like(one))


@pytest.mark.parametrize(
    ("options", "checkpointing"),
    [
        ({}, False),
        ({}, True),
        ({"constrained": False}, False),
        ({"lora": LORA}, False),
        pytest.param({"constrained": False}, True, marks=pytest.mark.slow),
        pytest.param({"lora": LORA}, True, marks=pytest.mark.slow),
    ],
)
def test_sharing_the_prompt_changes_nothing(
    folder: Path, options: dict, checkpointing: bool
) -> None:
    """Same samples for the same seeds, log-probs to 1e-5, gradients to 1e-5 of their size."""
    found = {}
    for share in ("on", "off"):
        policy = make_voxel_policy(
            folder, share_prompt=share, checkpointing=checkpointing, **options
        )
        _, trajectory = policy.sample(samples(), 4, seed=7)
        now = policy.evaluate(trajectory)
        weight = torch.linspace(-1, 1, now.logp.numel()).view(now.logp.shape)
        (now.logp * weight * trajectory.mask).sum().backward()
        grads = {
            n: p.grad.clone() for n, p in policy.module.named_parameters() if p.grad is not None
        }
        found[share] = (trajectory, now.logp.detach(), grads)
    (a, logp_a, grads_a), (b, logp_b, grads_b) = found["on"], found["off"]
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.present, b.present)
    assert torch.equal(a.stage, b.stage)
    assert (logp_a - logp_b).abs().max() < 1e-5
    assert grads_a.keys() == grads_b.keys()
    assert grads_a
    for name, grad in grads_a.items():
        scale = grads_b[name].norm()
        assert (grad - grads_b[name]).norm() <= 1e-5 * scale + 1e-9, name
    assert not any("visual" in name for name in grads_a)


def test_a_row_does_not_depend_on_its_neighbours(folder: Path) -> None:
    policy = make_voxel_policy(folder)
    _, together = policy.sample(samples(), 2, seed=3)
    alone = make_voxel_policy(folder)
    _, single = alone.sample(samples()[1:2], 2, seed=3)
    width = single.tokens.shape[1]
    own = together.select([2, 3])
    assert torch.equal(own.tokens[:, :width][single.present], single.tokens[single.present])


def test_chunks_add_up(folder: Path) -> None:
    """The same log-probs whatever the rows of a forward pass."""
    policy = make_voxel_policy(folder)
    _, trajectory = policy.sample(samples(), 4, seed=2)
    whole = policy.evaluate(trajectory).logp.detach()
    policy.max_tokens_per_chunk = 1
    chunks = policy.plan(trajectory, range(len(trajectory)))
    assert len(chunks) == 12, "one answer each, with its prompt"
    for chunk in chunks:
        part = policy.evaluate(trajectory.select(chunk)).logp.detach()
        assert torch.allclose(part, whole[chunk], atol=1e-5)


def test_free_answers_are_read_without_a_crash(folder: Path) -> None:
    policy = make_voxel_policy(folder, constrained=False)
    rollouts, trajectory = policy.sample(samples(), 8, seed=4)
    assert any(stage.fault for r in rollouts for stage in r.output)
    assert {len(r.output) for r in rollouts} == {2}
    assert (trajectory.kind[trajectory.mask] == FREE).all()
    forbidden = policy.module.forbidden
    assert not torch.isin(trajectory.tokens[trajectory.mask], forbidden).any()
    assert any(r.finish is Finish.LENGTH for r in rollouts)
    logp = policy.evaluate(trajectory).logp
    assert torch.allclose(logp[trajectory.mask], trajectory.logp[trajectory.mask], atol=1e-5)


def test_rows_can_be_selected_and_joined(folder: Path) -> None:
    policy = make_voxel_policy(folder)
    _, one = policy.sample(samples()[:1], 3, seed=2)
    _, two = policy.sample(samples()[1:], 3, seed=2)
    both = type(one).join([one, two])
    assert both.group.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    back = both.only_group(0)
    width = one.tokens.shape[1]
    assert torch.equal(back.tokens[:, :width][one.present], one.tokens[one.present])
    assert torch.equal(back.stage[:, :width], one.stage)
    assert torch.equal(back.kind[:, :width][one.present], one.kind[one.present])
    logp = policy.evaluate(both).logp.detach()
    assert torch.allclose(logp[both.mask], both.logp[both.mask], atol=1e-5)


def test_saved_weights_load_again(folder: Path, tmp_path: Path) -> None:
    policy = make_voxel_policy(folder)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(1.1)
    weights = {n: p.detach().clone() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path), weights)
    again = make_voxel_policy(tmp_path)
    first, _ = policy.sample(samples(), 2, seed=0)
    second, _ = again.sample(samples(), 2, seed=0)
    for a, b in zip(first, second, strict=True):
        assert [s.codes for s in a.output] == [s.codes for s in b.output]
        assert [s.words for s in a.output] == [s.words for s in b.output]


def test_wrong_use_says_what_is_wrong(folder: Path, checkpoints: dict[str, Path]) -> None:
    policy = make_voxel_policy(folder)
    image = Sample("p", "text_to_3d", (Message("user", (ImagePart("a.png", 8, 8),)),), None)
    with pytest.raises(DataError, match=r"'p'.*holds an image"):
        policy.sample([image], 1, seed=0)
    plain_one = type(policy.processor.tokenizer).from_pretrained(checkpoints["qwen2_5_vl"])
    with pytest.raises(ConfigError, match="lacks <mesh0>"):
        mesh_tokens(plain_one, NUM_CODES, "plain")
    with pytest.raises(ConfigError, match="there is no file"):
        make_voxel_policy(folder, codec="nowhere.bin")


PIECES = (
    "<mesh-start>", "<mesh-end>", "<mesh", ">", "<mesh0>", "<mesh31>", "<mesh32>", "<mesh-1>",
     "<mesh99999999999999999999>", "<mesh٣>", "<mesh²>", " ", "a", "<mesh1><mesh2>", "\n", "<mesh>",
)  # fmt: skip


def check_read(text: str) -> None:
    codes = read_codes(text, 8, NUM_CODES)
    assert len(codes.values) in (0, 8)
    assert all(0 <= value < NUM_CODES for value in codes.values)
    assert codes.values or codes.fault


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30))
def test_any_text_is_read(pieces: list[str]) -> None:
    check_read("".join(pieces))


def test_ten_thousand_token_strings_are_read() -> None:
    rng = random.Random(0)
    for _ in range(10_000):
        pieces = rng.choices(PIECES, k=rng.randrange(30))
        pieces += [chr(rng.randrange(1, 0x2FFF)) for _ in range(rng.randrange(3))]
        rng.shuffle(pieces)
        check_read("".join(pieces))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(-5, 900), max_size=60))
def test_any_tokens_are_read(ids: list[int]) -> None:
    policy = _policy()
    first = policy.mesh.first
    words, codes = policy.read_stage([max(0, first - 300 + i) if i > 0 else first for i in ids])
    assert isinstance(words, str)
    assert len(codes.values) in (0, 8)


_CACHE: list = []


def _policy():
    if not _CACHE:
        import tempfile

        _CACHE.append(make_voxel_policy(save_voxel_model(Path(tempfile.mkdtemp()) / "m")))
    return _CACHE[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, NUM_CODES - 1), min_size=8, max_size=8))
def test_written_codes_are_read_again(values: list[int]) -> None:
    assert read_codes("plan " + write_codes(values) + " done", 8, NUM_CODES).values == tuple(values)
    assert read_codes(write_codes(values), 8, NUM_CODES).fault == ""


@pytest.mark.parametrize(
    ("count", "fault"),
    [(0, "no codes"), (1023, "1023 codes for 1024"), (1024, ""), (1025, "1025 codes for 1024"),
     (2048, "2048 codes for 1024")],
)  # fmt: skip
def test_wrong_numbers_of_codes(count: int, fault: str) -> None:
    found = fit_codes([k % 8192 for k in range(count)], 1024, 8192)
    assert found.fault == fault
    assert len(found.values) == (1024 if count else 0)
    if count == 1023:
        assert found.values[-1] == found.values[-2] == 1022


def test_other_faults_are_named() -> None:
    one = write_codes(range(8))
    assert "several objects" in read_codes(one + one, 8, 32).fault
    assert "no end" in read_codes(one.removesuffix("<mesh-end>"), 8, 32).fault
    assert "1 that are no codes" in read_codes(one.replace("<mesh3>", "<mesh32>"), 8, 32).fault
    assert "words between" in read_codes(one.replace("<mesh3>", "<mesh3> and"), 8, 32).fault
    assert read_codes("a chair", 8, 32).fault == "no start"


def test_only_ascii_digits_make_a_code() -> None:
    found = read_codes(write_codes(range(8)).replace("<mesh3>", "<mesh٣>"), 8, 32)
    assert found.values == (0, 1, 2, 4, 5, 6, 7, 7)
    assert found.fault == "7 codes for 8, words between codes"


def test_a_constraint_is_the_distribution_given_the_allowed_tokens() -> None:
    """Log-probs under a mask are those of the plain distribution, conditioned."""
    torch.manual_seed(0)
    from vlrl.policy.distribution import Sampling

    logits = torch.randn(5, 40)
    banned = torch.arange(10, 40)
    masked = log_probs(logits, Sampling(), banned)[:, :10]
    whole = logits.log_softmax(-1)[:, :10]
    assert torch.allclose(masked, whole - whole.logsumexp(-1, keepdim=True), atol=1e-6)
