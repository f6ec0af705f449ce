"""Videos in prompts of the vision-language policy, on real classes of all three families."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers_video import moving_square, video_part, video_problem
from test_policy import FAMILIES, NONE, gradients, make_policy, problems

from vlrl.errors import DataError
from vlrl.policy.vision_language import layout
from vlrl.types import ImagePart, Message, Sample, TextPart


def asked(screens: Path) -> list[Sample]:
    """Videos of several lengths, one with an image, one image, one text."""
    image = str(screens.parent / "images/1.png")
    text_only = Sample("t", "x", (Message("user", (TextPart("Click: nothing"),)),), None)
    return [
        video_problem(0),
        video_problem(1, num_frames=23),
        video_problem(2, num_frames=9, image=image),
        *problems(screens, 1),
        text_only,
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_and_plain_layouts_agree_on_videos(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family])
    _, traj = policy.sample(asked(screens), 3, seed=1)
    policy.share_prompt = True
    shared = gradients(policy, traj)
    policy.share_prompt = False
    plain = gradients(policy, traj)
    assert torch.allclose(shared[0], plain[0], atol=1e-5)
    assert torch.allclose(shared[1], plain[1], atol=1e-5)
    assert float((shared[2] - plain[2]).abs().max() / plain[2].abs().max()) < 1e-5
    # Video tokens appear once per group, not once per answer.
    ids = policy.module.core.config.video_token_id
    once = int((layout.shared(traj, 0).input_ids == ids).sum())
    assert once == sum(int((p.input_ids == ids).sum()) for p in traj.prompts)
    assert int((layout.plain(traj, 0).input_ids == ids).sum()) == 3 * once


@pytest.mark.parametrize(
    "family",
    [
        "qwen2_5_vl",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("qwen2_vl", "qwen3_vl")),
    ],
)
def test_a_shared_video_gives_the_same_samples(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family], max_new_tokens=9)
    drawn = []
    for policy.share_prompt in (True, False):
        _, traj = policy.sample(asked(screens), 3, seed=5)
        drawn.append(traj)
    assert torch.equal(drawn[0].tokens, drawn[1].tokens)
    assert torch.allclose(drawn[0].logp, drawn[1].logp, atol=1e-5)
    now = policy.evaluate(drawn[0])
    assert torch.allclose(now.logp[traj.mask], drawn[0].logp[traj.mask], atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_are_the_models_own(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Against transformers' own forward: its placement of video tokens and its positions."""
    policy = make_policy(checkpoints[family])
    policy.module.forbidden = NONE
    config = policy.module.core.config
    # At 8 native frames per second and 16 frames, two per second are 0.5 s apart.
    samples = [video_problem(0), asked(screens)[2]]
    _, traj = policy.sample(samples, 2, seed=3)
    now = policy.evaluate(traj)
    for row in range(len(traj)):
        prompt = traj.prompts[int(traj.group[row])]
        answer = traj.tokens[row, traj.mask[row]]
        ids = torch.cat([prompt.input_ids, answer])[None]
        kinds = torch.zeros_like(ids)
        kinds[ids == config.image_token_id] = 1
        kinds[ids == config.video_token_id] = 2
        grid, pixels = prompt.media["grid_thw"], prompt.media["pixel_values"]
        has_image = bool((kinds == 1).any())
        cut = int(grid[0].prod()) if has_image else 0
        # Frames at 0, 4, 8, ... of 8 a second: 1 s for every pair.
        timed = {"second_per_grid_ts": torch.tensor([1.0])} if family == "qwen2_5_vl" else {}
        with torch.no_grad():
            logits = policy.module.core(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels[:cut] if has_image else None,
                image_grid_thw=grid[:1] if has_image else None,
                pixel_values_videos=pixels[cut:],
                video_grid_thw=grid[-1:],
                mm_token_type_ids=kinds,
                **timed,
            ).logits[0, prompt.num_tokens - 1 : -1]
        own = -torch.nn.functional.cross_entropy(logits, answer, reduction="none")
        assert torch.allclose(now.logp[row, traj.mask[row]], own, atol=2e-5)


def test_positions_count_seconds(checkpoints: dict[str, Path]) -> None:
    """Qwen2.5-VL: two position steps per second and tokens_per_second as its config says."""
    policy = make_policy(checkpoints["qwen2_5_vl"])
    rate = policy.module.core.config.vision_config.tokens_per_second
    for fps, seconds in ((8.0, 1.0), (16.0, 1.0), (4.0, 1.0)):
        prompt = policy.encoder.encode(video_problem(0, num_frames=int(4 * fps), fps=fps))
        assert prompt.media["grid_thw"].tolist()[0][0] == 4, "eight frames, read in pairs"
        is_video = prompt.input_ids == policy.module.core.config.video_token_id
        times = prompt.positions[0, is_video].unique()
        assert (times - times[0]).tolist() == [int(rate * seconds * k) for k in range(4)]
    # Half as many frames per second: the positions are twice as far apart.
    slow = policy.encoder.encode(video_problem(0, num_frames=32, fps=8.0))
    part = video_part(moving_square(32), 32)
    sparse = Sample(
        "s",
        "x",
        (
            Message(
                "user",
                (
                    type(part)(**{**vars(part), "frames": part.frames[::2]}),
                    TextPart("Find: the square"),
                ),
            ),
        ),
        None,
    )
    fast = policy.encoder.encode(sparse)
    is_video = fast.input_ids == policy.module.core.config.video_token_id
    times = fast.positions[0, is_video].unique()
    assert (times - times[0]).tolist() == [0, 2 * rate]
    assert slow.num_tokens > fast.num_tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_tower_sees_a_video_once(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    policy = make_policy(checkpoints[family], train_vision=False, sample_batch_size=32)
    calls: list[int] = []
    policy.module.core.model.visual.register_forward_hook(lambda *_: calls.append(1))
    _, traj = policy.sample(asked(screens), 3, seed=1)
    assert len(calls) == 1
    assert all(p.media is None for p in traj.prompts)
    for policy.share_prompt in (True, False):
        now = policy.evaluate(traj)
        assert torch.allclose(now.logp[traj.mask], traj.logp[traj.mask], atol=2e-5)
    assert len(calls) == 1
    counts = [p.num_visual_tokens for p in traj.prompts[:3]]
    assert counts == [p.features.num_tokens for p in traj.prompts[:3]]


def test_an_odd_number_of_frames_is_filled_up_and_sizes_are_the_tasks(
    checkpoints: dict[str, Path],
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    prompt = policy.encoder.encode(video_problem(1, num_frames=17))
    assert prompt.media["grid_thw"].tolist() == [[3, 6, 8]], "5 frames in 3 pairs, 84 x 112 px"
    assert policy.prompt_size(prompt) == (112, 84)
    small = policy.encoder.encode(video_problem(1, longer_side_px=56))
    assert policy.prompt_size(small) == (56, 56), "56 x 42 px, to the nearest multiple of 28"


def test_a_missing_video_names_the_sample(checkpoints: dict[str, Path]) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    part = video_part("nowhere.mp4", 16)
    sample = Sample("lost", "x", (Message("user", (part, TextPart("Find"))),), None)
    with pytest.raises(DataError, match=r"'lost'.*nowhere.mp4"):
        policy.encoder.encode(sample)
    image = ImagePart("gone.png", 56, 56)
    sample = Sample("gone", "x", (Message("user", (image,)),), None)
    with pytest.raises(DataError, match=r"'gone'.*image"):
        policy.encoder.encode(sample)
