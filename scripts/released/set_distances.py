"""FID as pytorch-fid computes it from features, and KID as torch-fidelity does."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source

FID, FID_COMMIT = "mseitzer/pytorch-fid", "b9c18118d082cbd263c1b8963fc4221dc1cbb659"
KID, KID_COMMIT = "toshas/torch-fidelity", "5e211a950a7b45206bd4976813ffd6aed6cf4ccc"
POLYNOMIAL = {
    "kid_kernel": "poly",
    "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None,
    "kid_kernel_poly_coef0": 1,
}
"""Its defaults, which are KID's."""


def sets(rng: random.Random) -> list[Json]:
    """[seed, number of images in each set, dimensions, shift, scale]; see `features_of`."""
    return [
        [
            seed,
            rng.randrange(12, 60),
            rng.randrange(1, 12),
            round(rng.choice((0.0, rng.gauss(0, 2))), 2),
            round(rng.choice((1.0, rng.uniform(0.2, 3))), 2),
        ]
        for seed in range(210)
    ]


def features_of(row: Json) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features, float64 [N, D]; the second is shifted and scaled."""
    seed, size, dimensions, shift, scale = row
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, size, dimensions))
    return one, shift + scale * other


def fid(source: Source) -> Answer:
    """`calculate_frechet_distance` of means and covariances, as its statistics are."""
    from scipy import linalg

    name = "calculate_frechet_distance"
    file = "src/pytorch_fid/fid_score.py"
    # SciPy once returned the root with its error.
    roots = SimpleNamespace(sqrtm=lambda matrix, disp: (linalg.sqrtm(matrix), 0.0))
    distance: Any = source.define(file, [name], {"np": np, "linalg": roots})[name]

    def answer(row: Json) -> Json:
        a, b = features_of(row)
        found = distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
        return float(f"{found:.12g}")

    return answer


def kid(source: Source) -> Answer:
    """`kernel_mmd` of the whole sets: KID with one subset that holds all."""
    names = ["mmd2", "kernel_poly", "kernel_rbf", "kernel_mmd"]
    given = {
        "np": np,
        "vassert": lambda *checked: None,
        "get_kwarg": lambda name, options: options[name],
    }
    distance: Any = source.define("torch_fidelity/metric_kid.py", names, given)["kernel_mmd"]
    return lambda row: float(f"{distance(*features_of(row), **POLYNOMIAL):.12g}")


COMPARISONS = [
    Comparison("set_distances_fid", FID, FID_COMMIT, "src/pytorch_fid/fid_score.py", sets, fid),
    Comparison("set_distances_kid", KID, KID_COMMIT, "torch_fidelity/metric_kid.py", sets, kid),
]
