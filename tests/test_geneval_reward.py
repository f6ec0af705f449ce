"""GenEval as a reward: a real detector and a real CLIP at tiny size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers_images import LABELS, SCENES, noise_image, rollout, save_clip, save_detr
from PIL import Image

from vlrl.errors import RewardError
from vlrl.image.geneval import COLOURS, judge, keep, scene_of
from vlrl.reward.tree import build_reward
from vlrl.tasks.text_to_image import TextToImage
from vlrl.train.summary import rows_of, summarise
from vlrl.types import Finish, Rollout

PLAIN = {"id": "plain", "prompt": "a cat, of which nothing is asked"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The reward on tiny checkpoints."""
    base = tmp_path_factory.mktemp("models")
    return {
        "use": "geneval",
        "detector": str(save_detr(base / "detr")),
        "model": str(save_clip(base / "clip")),
        "threshold": 0.2,
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def rollouts() -> list:
    """Images of several sizes."""
    sizes = ((40, 52), (64, 64), (40, 52), (30, 30), (97, 51))
    return [rollout(noise_image(i, *size), i, scene=SCENES[i % 3]) for i, size in enumerate(sizes)]


def test_geneval_is_the_judge_on_what_the_detector_finds(node, rollouts):
    from transformers import AutoImageProcessor, DetrForObjectDetection

    model = DetrForObjectDetection.from_pretrained(node["detector"]).eval()
    processor = AutoImageProcessor.from_pretrained(node["detector"])
    scores = build_reward(node)(rollouts)
    names = {**LABELS, 3: "computer mouse"}
    num_judged = 0
    for one, score in zip(rollouts, scores, strict=True):
        image, scene = one.parsed.image, scene_of(one.sample.target.scene, "row")
        inputs = processor(Image.fromarray(image), return_tensors="pt")
        with torch.no_grad():
            (found,) = processor.post_process_object_detection(
                model(**inputs), threshold=0.2, target_sizes=[image.shape[:2]]
            )
        counting = scene.tag == "counting"
        kept = keep(
            found["boxes"].numpy(),
            [names[int(label)] for label in found["labels"]],
            found["scores"].numpy(),
            threshold=0.9 if counting else 0.2,
        )
        num_judged += bool(kept)
        if scene.tag != "colors":
            verdict = judge(scene, kept)
            assert score.value == pytest.approx(verdict.score)
            assert score.parts["geneval_strict"] == verdict.strict
            assert score.parts["geneval_accuracy"] == verdict.correct
    assert num_judged >= 3


def test_geneval_names_the_colour_of_each_crop(node):
    from transformers import CLIPModel, CLIPProcessor

    from vlrl.image.networks.clip import TransformersClip
    from vlrl.image.networks.colours import ColourNamer, crop

    model = node["model"]
    image = noise_image(5, 60, 60)
    boxes = ((0, 0, 30, 30), (20.4, 10.6, 59, 59.9), (-5, 40, 3, 300), (10, 10, 10, 10))
    crops = [crop(image, box) for box in boxes]
    assert [one.shape[:2] for one in crops] == [(30, 30), (49, 39), (20, 3), (1, 1)]
    names = ["dog", "cat", "dog", "cat"]
    found = ColourNamer(TransformersClip(model, device="cpu"), batch_size=3).name(crops, names)
    clip, processor = CLIPModel.from_pretrained(model).eval(), CLIPProcessor.from_pretrained(model)
    for colour, one, name in zip(found, crops, names, strict=True):
        best = []
        for candidate in COLOURS:
            texts = [
                f"a photo of a {candidate} {name}",
                f"a photo of a {candidate}-colored {name}",
                f"a photo of a {candidate} object",
            ]
            big = Image.fromarray(one)
            inputs = processor(text=texts, images=[big], return_tensors="pt", padding=True)
            with torch.no_grad():
                out = clip(**inputs)
            mean = out.text_embeds.mean(0)
            best.append(float(out.image_embeds[0] @ mean / mean.norm()))
        assert colour == COLOURS[int(np.argmax(best))]


def test_geneval_refuses_a_class_that_the_detector_does_not_know(node):
    scene = {"tag": "counting", "include": [{"class": "teapot", "count": 1}]}
    with pytest.raises(RewardError, match=r"'s0'.*knows no 'teapot'"):
        build_reward(node)([rollout(noise_image(0), scene=scene)])
    scene = {"tag": "counting", "include": [{"class": "dog", "count": 0}]}
    with pytest.raises(RewardError, match=r"'s0'.*count"):
        build_reward(node)([rollout(noise_image(0), scene=scene)])


@pytest.mark.parametrize("value", ["score", "accuracy", "strict"])
def test_geneval_has_the_other_metrics_as_parts(node, rollouts, value):
    reward = build_reward({**node, "value": value, "label": "scene"})
    others = {f"scene_{name}" for name in ("score", "accuracy", "strict") if name != value}
    for score in reward(rollouts):
        assert set(score.parts) == {"scene", *others}
        assert score.parts["scene"] == score.value


def test_an_evaluation_has_overall_and_the_accuracy_of_each_tag(node, tmp_path):
    """The official metric: tasks count alike, however many prompts each of them has."""
    rows = [
        {"id": f"p{i}", "prompt": "a photo", **SCENES[0 if i < 5 else 2], "exclude": []}
        for i in range(8)
    ]
    path = tmp_path / "test_metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, PLAIN]), encoding="utf-8")
    data = {"test": {"path": str(path)}}
    task = TextToImage(TextToImage.Options(data=data, width_px=64, height_px=64, labels=["tag"]))
    answers = [
        Rollout(sample, 0, 0, image, Finish.STOP, 0, 0, parsed=task.parse(sample, image))
        for sample, image in zip(task.samples("test"), map(noise_image, range(9)), strict=True)
    ]
    metrics = {
        "geneval": build_reward({**node, "value": "accuracy"}),
        "partial": build_reward(node),
    }
    summary = summarise(json.loads(json.dumps(rows_of(task, answers, metrics))), 50)
    by_tag = summary["strata"]["tag"]
    assert {tag: metrics["geneval"]["num"] for tag, metrics in by_tag.items()} == {
        "single_object": 5,
        "counting": 3,
    }
    accuracies = [metrics["geneval"]["mean"] for metrics in by_tag.values()]
    assert accuracies[0] != accuracies[1]
    found = summary["overall"]["geneval_overall"]
    assert found["mean"] == pytest.approx(sum(accuracies) / 2)
    assert found["mean"] != pytest.approx(summary["overall"]["geneval"]["mean"])
    assert found["low"] <= found["mean"] <= found["high"]
    assert found["num"] == 8
    # Partial credit is not a verdict, and has no such metric.
    assert "partial_overall" not in summary["overall"]


def test_geneval_published_declares_its_range(node):
    assert build_reward({**node, "published": True}).range == (-14.0, 1.0)
    assert build_reward({**node, "published": True, "value": "strict"}).range == (0, 1)


def test_colours_reach_their_own_image(node):
    reward = build_reward(node)
    images = [noise_image(i, 64, 64) for i in range(8)]
    reward([rollout(images[0], scene=SCENES[0])])  # loads
    counts = [one.labels.count("person") for one in reward.detector.detect(images, 0.2)]
    peopled = [pair for pair in zip(images, counts, strict=True) if pair[1] > 0]
    assert len(peopled) > 1
    asked = []
    for image, num_people in peopled:
        for colour in COLOURS:
            clause = {"class": "person", "count": num_people, "color": colour}
            scene = {"tag": "colors", "include": [clause]}
            asked.append(rollout(image, scene=scene))
    # The count is right, so a score is (1 + share of that colour) / 2.
    shares = [2 * score.value - 1 for score in reward(asked)]
    by_image = np.reshape(shares, (len(peopled), len(COLOURS)))
    assert by_image.sum(1) == pytest.approx(1.0)  # every person has exactly one colour
