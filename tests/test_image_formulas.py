"""Image rewards that are formulas: JPEG size, read text, and means of shares."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from helpers_images import noise_image, rollout, word
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlrl.errors import ConfigError, RewardError
from vlrl.image.written import levenshtein, written_score
from vlrl.protocols import Reward
from vlrl.reward.combinators.combine import Geomean, Harmonic
from vlrl.reward.tree import build_reward
from vlrl.types import Score


def values(node: dict, given_rollouts: list) -> list[float | None]:
    """The values alone."""
    return [score.value for score in build_reward(node)(given_rollouts)]


# --- JPEG --------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    side=st.integers(1, 64),
    scale_kb=st.floats(0.5, 500),
    direction=st.sampled_from(["compressible", "incompressible"]),
)
def test_jpeg_is_the_size_of_the_file(seed, side, scale_kb, direction):
    image = noise_image(seed, side, side + 3)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95)
    share = min(len(buffer.getvalue()) / 1000 / scale_kb, 1)
    node = {"use": "jpeg_compressibility", "scale_kb": scale_kb, "direction": direction}
    sign = -1 if direction == "compressible" else 1
    assert values(node, [rollout(image)]) == [pytest.approx(sign * share)]


def test_flat_images_compress_best():
    flat = np.full((64, 64, 3), 90, np.uint8)
    calm, noisy = values(
        {"use": "jpeg_compressibility"}, [rollout(flat), rollout(noise_image(1, 64, 64))]
    )
    assert -0.01 < calm < 0
    assert noisy < 2 * calm
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    (loud,) = values({"use": "jpeg_compressibility"}, [rollout(noise)])
    assert -0.75 < loud < -0.6  # as documented: 310 to 375 kB of 500


# --- OCR ---------------------------------------------------------------------------------------

texts = st.text("abc XY", max_size=8)


@given(texts, texts, texts)
def test_levenshtein_is_a_distance(a, b, c):
    assert levenshtein(a, b) == levenshtein(b, a)
    assert (levenshtein(a, b) == 0) == (a == b)
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)
    assert abs(len(a) - len(b)) <= levenshtein(a, b) <= max(len(a), len(b))
    assert levenshtein(a + c, b + c) == levenshtein(a, b)


@pytest.mark.parametrize(
    ("read", "target", "score"),
    [
        ("STOP", "Stop", 1),
        ("S T OP", "stop", 1),
        ("xxSTOPxx", "stop", 1),
        ("ST0P", "stop", 0.75),
        ("STP", "stop", 0.75),
        ("", "stop", 0),
        ("something else altogether", "stop", 0),
        ("kitten", "sitting", 4 / 7),
        ("hello", "hello world", 1 / 2),
    ],
)
def test_written_score_by_hand(read, target, score):
    assert written_score(read, target) == pytest.approx(score)


@given(read=st.text(max_size=12), target=st.text(min_size=1, max_size=12))
def test_written_score_range(read, target):
    if not "".join(target.split()):
        with pytest.raises(ValueError, match="no characters"):
            written_score(read, target)
        return
    assert 0 <= written_score(read, target) <= 1
    assert written_score(read + target + read, target) == 1


WORDS = ("STOP", "hello", "Flow 42")


@pytest.mark.parametrize(("size_px", "letters_px"), [(64, 18), (256, 60)])
@pytest.mark.parametrize("recognise_only", [False, True])
def test_ocr_reads_drawn_words(size_px, letters_px, recognise_only):
    pytest.importorskip("rapidocr_onnxruntime")
    reward = build_reward({"use": "ocr_match", "recognise_only": recognise_only})
    shown = [rollout(word(text, size_px, letters_px), written=text) for text in WORDS]
    assert [score.value for score in reward(shown)] == [1.0, 1.0, 1.0]
    others = [
        rollout(word(text, size_px, letters_px), written=other)
        for text, other in zip(WORDS, ("GIVE", "river", "quickly"), strict=True)
    ]
    assert max(score.value for score in reward(others)) < 0.5
    empty = rollout(np.full((size_px, size_px, 3), 200, np.uint8), written="STOP")
    unread = rollout(None, written="STOP")
    assert [score.value for score in reward([empty, unread])] == [0.0, 0.0]


def test_ocr_options_change_what_is_read():
    pytest.importorskip("rapidocr_onnxruntime")
    tiny = [rollout(word("hello", 48, 9), written="hello")]
    plain, larger = ({"use": "ocr_match", "upscale": times} for times in (1, 4))
    assert values(larger, tiny)[0] >= values(plain, tiny)[0]
    # Words of 60 px in a whole image of 256 px are too small for one line; half of it is not.
    shown = [rollout(word("hello", 256, 60), written="hello")]
    band = {"use": "ocr_match", "recognise_only": True}
    assert values({**band, "band": 1.0}, shown)[0] < values(band, shown)[0] == 1.0
    assert values({"use": "ocr_match", "min_confidence": 1.0}, shown) == [0.0]


def test_ocr_hands_over_blue_green_red():
    pytest.importorskip("rapidocr_onnxruntime")
    reward = build_reward({"use": "ocr_match", "upscale": 2})
    shown = rollout(word("STOP", 64, 18), written="STOP")
    reward([shown])
    real, seen = reward.reader, []

    def watched(image, **options):
        seen.append(image)
        return real(image, **options)

    reward.reader = watched
    assert reward([shown])[0].value == 1.0
    assert seen[0].shape == (128, 128, 3)
    np.testing.assert_array_equal(seen[0][0, 0], [228, 236, 240])  # the background, reversed


def test_ocr_applies_only_where_a_text_is_asked_for():
    pytest.importorskip("rapidocr_onnxruntime")
    reward = build_reward({"use": "ocr_match"})
    assert reward([rollout(noise_image(0)), rollout(None)]) == [Score(None), Score(None)]
    with pytest.raises(RewardError, match=r"'s3'.*correct the data"):
        reward([rollout(noise_image(0), 3, written="  ")])


# --- means of shares ---------------------------------------------------------------------------


def constant(value: float, low: float = -1.0, high: float = 1.0):
    """A reward of one value; None = does not apply."""

    class Constant(Reward):
        name, needs, range = "constant", frozenset(), (low, high)

        def __call__(self, rollouts):
            return [Score(value, {} if value is None else {self.name: value}) for _ in rollouts]

    return Constant()


def joined(kind: str, rows: list, weights: list) -> float | None:
    """A combinator over constants."""
    node = {"harmonic": Harmonic, "geomean": Geomean}[kind](
        [constant(*row) if isinstance(row, tuple) else constant(row) for row in rows], weights
    )
    assert node.range == (0.0, 1.0)
    (score,) = node([rollout(noise_image(0))])
    return score.value


cosines = st.floats(-1, 1)
positive = st.floats(0.01, 10)


@given(rows=st.lists(st.tuples(cosines, positive), min_size=1, max_size=4))
def test_means_of_shares(rows):
    found, weights = [row[0] for row in rows], [row[1] for row in rows]
    shares = [(value + 1) / 2 for value in found]
    arithmetic = math.fsum(w * s for w, s in zip(weights, shares, strict=True)) / math.fsum(weights)
    harmonic, geomean = joined("harmonic", found, weights), joined("geomean", found, weights)
    assert min(shares) - 1e-9 <= harmonic or min(shares) == 0
    assert harmonic <= geomean + 1e-9 <= arithmetic + 2e-9
    assert 0 <= harmonic <= 1
    if min(shares) == 0:
        assert harmonic == geomean == 0
    # Only the ratio of the weights counts.
    assert joined("harmonic", found, [3 * w for w in weights]) == pytest.approx(harmonic)


def test_harmonic_is_rpos_lambda_harmonic():
    image, text, lam = 0.62, 0.27, 0.3
    s_image, s_text = (image + 1) / 2, (text + 1) / 2
    expected = 1 / (lam / s_image + (1 - lam) / s_text)
    assert joined("harmonic", [image, text], [lam, 1 - lam]) == pytest.approx(expected)
    expected = s_image**lam * s_text ** (1 - lam)
    assert joined("geomean", [image, text], [lam, 1 - lam]) == pytest.approx(expected)
    # Equal shares; a part that does not apply; another range.
    assert joined("harmonic", [0.4, 0.4], [1, 2]) == pytest.approx(0.7)
    assert joined("harmonic", [None, text], [lam, 1 - lam]) == pytest.approx(s_text)
    assert joined("harmonic", [None, None], [1, 1]) is None
    assert joined("geomean", [(5.0, 0.0, 10.0), (5.0, 0.0, 10.0)], [1, 1]) == pytest.approx(0.5)


def test_means_of_shares_refuse_what_they_cannot_map():
    with pytest.raises(ConfigError, match="put it under `clip`"):
        Harmonic([constant(0.0, -math.inf, 1.0)])
    with pytest.raises(ConfigError, match="above 0"):
        Harmonic([constant(0.5)], [0.0])
