"""Metrics of parts of a scene add up to those of the whole."""

import numpy as np
import pytest

from xsarcomp.evaluation.matching import array_pairs
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums
from xsarcomp.scenes.simulation import simulate_scene


@pytest.fixture(scope="module")
def pairs():
    scene = np.concatenate([simulate_scene((60, 70), seed=seed) for seed in (1, 2)])
    scene[3] = np.nan
    restored = scene * 10 ** np.random.default_rng(0).normal(0, 0.05, scene.shape)
    return list(array_pairs(scene, restored, scale="power"))


@pytest.mark.parametrize("kind", [ErrorSums, TextureSums])
def test_the_order_in_which_planes_are_added_does_not_matter(kind, pairs):
    parts = [kind.from_pair(pair) for pair in pairs]
    forward = sum(parts, kind()).metrics()
    grouped = ((parts[3] + parts[1]) + (parts[2] + parts[0])).metrics()
    assert forward == pytest.approx(grouped, nan_ok=True)


@pytest.mark.parametrize("kind", [ErrorSums, TextureSums])
def test_adding_nothing_changes_nothing_and_leaves_the_parts_alone(kind, pairs):
    part = kind.from_pair(pairs[0])
    before = part.metrics()
    together = part + kind() + kind.from_pair(pairs[1])
    assert (kind() + part).metrics() == pytest.approx(before, nan_ok=True)
    assert part.metrics() == pytest.approx(before, nan_ok=True)
    assert together.metrics() != pytest.approx(before, nan_ok=True)


def test_the_largest_error_is_the_larger_one_and_not_the_sum(pairs):
    parts = [ErrorSums.from_pair(pair) for pair in pairs[:2]]
    largest = [part.metrics()["max_error_db"] for part in parts]
    assert (parts[0] + parts[1]).metrics()["max_error_db"] == max(largest)
