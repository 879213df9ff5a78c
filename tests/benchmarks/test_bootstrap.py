"""The bootstrap over scenes: what it draws, how wide it gets, and when it says nothing."""

import numpy as np
import pytest

from xsarcomp.benchmarks.bootstrap import bd_rate_intervals
from xsarcomp.benchmarks.measurement import Measurement, pooled_curve
from xsarcomp.metrics.rate_distortion import bd_rate

ERRORS = (0.2, 0.4, 0.8, 1.6, 2.4)


def swept(factors, pixels=1000):
    """Sweep whose scenes have the rate of a power law times a factor each, two planes a scene."""
    return {
        error: [
            [
                Measurement(
                    coded_bits=factor * 0.6 / error * pixels,
                    pixels=pixels,
                    valid_pixels=pixels,
                    squared_error=error**2 * pixels,
                )
            ]
            * 2
            for factor in factors
        ]
        for error in ERRORS
    }


def test_curves_pool_the_scenes_that_are_named_as_often_as_they_are_named():
    measured = swept([1.0, 4.0])
    assert pooled_curve(measured, [0, 1, 1])[0].bits_per_pixel == pytest.approx(3.0 * 0.6 / 0.2)
    assert pooled_curve(measured, [1])[2].rmse_db == pytest.approx(0.8)


def test_a_gain_that_all_scenes_share_is_certain():
    sweeps = {"test": swept([0.9] * 5), "reference": swept([1.0] * 5)}
    low, high = bd_rate_intervals(sweeps, ["reference"])["test", "reference"]
    assert low == pytest.approx(-10.0)
    assert high == pytest.approx(-10.0)


def test_the_interval_holds_the_result_and_narrows_with_the_scenes():
    widths = []
    for scenes in (4, 36):
        factors = np.tile([0.7, 0.8, 1.0, 1.1], scenes // 4)
        sweeps = {"test": swept(factors), "reference": swept(np.ones(scenes))}
        low, high = bd_rate_intervals(sweeps, ["reference"], resamples=400)["test", "reference"]
        assert low < bd_rate(*(pooled_curve(sweep, range(scenes)) for sweep in sweeps.values())) < high
        widths.append(high - low)
    # the standard error falls with the root of the number of scenes: nine times as many, a third
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.25)


@pytest.mark.slow
def test_the_interval_of_the_mean_is_that_of_the_central_limit():
    rng = np.random.default_rng(1)
    factors = rng.normal(1.0, 0.1, 60)
    sweeps = {"test": swept(factors), "reference": swept(np.ones(60))}
    low, high = bd_rate_intervals(sweeps, ["reference"], resamples=1000)["test", "reference"]
    half = 100 * 1.96 * factors.std() / np.sqrt(60)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_the_same_measurements_give_the_same_interval():
    sweeps = {"test": swept([0.7, 0.8, 1.1]), "reference": swept([1.0] * 3)}
    assert bd_rate_intervals(sweeps, ["reference"]) == bd_rate_intervals(sweeps, ["reference"])


def test_each_pair_of_codec_and_reference_has_an_interval():
    sweeps = {"a": swept([1.0, 1.0]), "b": swept([1.1, 1.1]), "c": swept([1.2, 1.2])}
    found = bd_rate_intervals(sweeps, ["a", "c"], resamples=20)
    assert set(found) == {("b", "a"), ("c", "a"), ("a", "c"), ("b", "c")}


def test_one_scene_tells_nothing_of_others():
    sweeps = {"test": swept([0.9]), "reference": swept([1.0])}
    assert np.isnan(bd_rate_intervals(sweeps, ["reference"])["test", "reference"]).all()


def test_curves_without_common_errors_have_no_interval():
    far = {error * 100: scenes for error, scenes in swept([1.0, 1.0]).items()}
    far = {
        error: [[Measurement(coded_bits=1e4 / error, pixels=1000, valid_pixels=1000, squared_error=error**2 * 1e3)]] * 2
        for error in far
    }
    single = {0.2: swept([1.0, 1.0])[0.2]}
    sweeps = {"far": far, "single": single, "reference": swept([1.0, 1.0])}
    found = bd_rate_intervals(sweeps, ["reference"], resamples=20)
    assert np.isnan(found["far", "reference"]).all()
    assert np.isnan(found["single", "reference"]).all()
