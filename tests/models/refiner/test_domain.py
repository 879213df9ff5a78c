"""Ranges of training data: they hold it with a margin that its own spread sets, and the shipped models have theirs."""

import json
from pathlib import Path

import numpy as np
import pytest

import xsarcomp
from xsarcomp.models.refiner.domain import FALSE_ALARMS, FEWEST_BLOCKS, domain_entry, fitted_domain, tolerance_interval
from xsarcomp.radiometry.domain import Domain
from xsarcomp.radiometry.speckle_statistics import (
    DISTINCT,
    LEVEL,
    LOOKS,
    STATISTICS,
    cut_windows,
    flat_window_statistics,
)
from xsarcomp.scenes.simulation import simulate_scene
from xsarcomp.training.planes import Plane

pytestmark = pytest.mark.slow

ROOT = Path(xsarcomp.__file__).parents[1]


def blocks(count=60, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        values = rng.normal([2.0, 2.1, 0.6, 0.65, 0.99, -12.0], [0.2, 0.2, 0.04, 0.04, 0.002, 1.5])
        one = dict(zip(STATISTICS, values.tolist(), strict=True))
        one[LOOKS], one[STATISTICS[1]] = np.exp(values[:2]).tolist()
        found.append(("vh" if number % 2 else "vv", one))
    return found


def planes(seeds):
    for seed in seeds:
        power = simulate_scene((256, 512), seed=seed, nodata_border=False)
        for name, plane in zip(("vv", "vh"), 10 * np.log10(power), strict=True):
            valid = np.ones(plane.shape, bool)
            valid[:20, :20] = False
            yield Plane(f"scene-{seed}", name, np.where(valid, plane, 99.0).astype(np.float32), valid)


def test_no_block_of_the_training_data_lies_outside():
    found = fitted_domain(blocks())
    assert found.blocks == 60
    for name, one in blocks():
        assert found.deviations([(name, one)]) == []


def test_few_further_blocks_like_them_lie_outside():
    found = fitted_domain(blocks(400))
    further = blocks(2000, seed=1)
    alarms = sum(bool(found.deviations([block])) for block in further)
    assert alarms < 2 * len(STATISTICS) * 3 * FALSE_ALARMS * len(further)


@pytest.mark.parametrize("count", [200, 2000])
def test_ends_of_exponential_tails_are_exceeded_as_often_as_said(count):
    rng = np.random.default_rng(2)
    exceeded = []
    for _ in range(40):
        low, high = tolerance_interval(rng.laplace(size=count))
        # survival of the Laplace distribution
        exceeded.append((np.exp(low) / 2 + np.exp(-high) / 2) / 2)
    assert 0.2 * FALSE_ALARMS < np.mean(exceeded) < 2 * FALSE_ALARMS


def test_one_value_or_equal_values_make_a_range_of_no_width():
    assert tolerance_interval(np.array([3.0])) == (3.0, 3.0)
    assert tolerance_interval(np.full(50, 3.0)) == (3.0, 3.0)


def test_the_gain_of_augmentation_widens_levels_alone():
    without, with_gain = fitted_domain(blocks()), fitted_domain(blocks(), gain_db=3.0)
    assert with_gain.ranges == without.ranges
    for name in ("vv", "vh"):
        widened = np.subtract(with_gain.levels_db[name], without.levels_db[name])
        np.testing.assert_allclose(widened, (-3.0, 3.0), atol=2e-4)


def test_data_without_quantisation_still_lets_float16_pass():
    exact = [(name, one | {DISTINCT: 1.0}) for name, one in blocks()]
    assert fitted_domain(exact).ranges[DISTINCT] == (0.75, 1.0)


def test_too_little_data_tells_no_range():
    assert fitted_domain(blocks(FEWEST_BLOCKS - 1)) is None
    assert domain_entry(list(planes([1]))) == {}


def test_dark_blocks_count_for_the_level_alone():
    dark = [("vv", {LEVEL: -33.0})] * 9
    assert fitted_domain([*blocks(), *dark]).ranges == fitted_domain(blocks()).ranges
    assert fitted_domain([*blocks(), *dark]).levels_db["vv"][0] <= -33.0


def test_planes_give_an_entry_that_holds_them_and_scenes_like_them():
    entry = domain_entry(list(planes(range(3, 9))))
    found = Domain.from_json(json.loads(json.dumps(entry["domain"])))
    assert found.blocks == 24  # two of each plane
    for plane in planes([3, 20]):
        windows = cut_windows(plane.decibel[None], plane.valid[None])
        assert found.deviations([(plane.polarization, flat_window_statistics(windows))]) == []


@pytest.mark.data
def test_the_shipped_models_say_what_their_training_data_says(sar_data):
    from xsarcomp.models.config import read_config
    from xsarcomp.training.scenes import load_planes

    config = read_config(ROOT / "examples/s1-grd-10m.toml", sar_data)
    planes = load_planes(config.data, config.train)
    for path in (ROOT / "xsarcomp/pretrained").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        shipped, scenes = record["domain"], record["training"]["training_scenes"]
        # the folder may have got scenes that the shipped models were not trained on
        trained_on = [plane for plane in planes if plane.name in scenes]
        assert {plane.name for plane in trained_on} == set(scenes)
        entry = domain_entry(trained_on, config.patches.augmentation.gain_db)
        for name in ("looks", "looks_at_common_sharpness", "correlation_y", "correlation_x", "distinct_values"):
            np.testing.assert_allclose(shipped[name], entry["domain"][name], rtol=1e-3)
        assert shipped["blocks"] == entry["domain"]["blocks"]
