"""Rate control: what was asked for is what the stored chunks hold, and what cannot be is said."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.rate_control import Sample, find_step
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.target import PRESETS, Target
from xsarcomp.errors import RateError
from xsarcomp.scenes.simulation import simulate_scene

HEADER_BITS = 8 * 96

POWER = Settings(step_db=3.0, scale="power")


@pytest.fixture(scope="module")
def planes():
    return simulate_scene((256, 256), seed=5, nodata_border=True)


def target(**arguments):
    return Target.from_arguments(**arguments)


def sample(planes, scale="power"):
    return [Sample(backscatter=planes, settings=Settings(step_db=3.0, scale=scale))]


@pytest.mark.parametrize(
    ("arguments", "quantity", "value"),
    [
        ({}, "bits_per_pixel", PRESETS["analysis"]),
        ({"bits_per_pixel": 0.5}, "bits_per_pixel", 0.5),
        ({"bits_per_pixel": np.float32(0.5)}, "bits_per_pixel", 0.5),
        ({"ratio": 64}, "bits_per_pixel", 0.5),
        ({"rmse_db": 1}, "rmse_db", 1.0),
        ({"preset": "browse"}, "bits_per_pixel", 0.25),
    ],
    ids=str,
)
def test_arguments_become_a_target(arguments, quantity, value):
    found = target(**arguments)
    assert (found.quantity, found.value) == (quantity, value)
    assert all(name in found.request for name in arguments)


def test_two_targets_are_refused_by_name():
    with pytest.raises(RateError, match="bits_per_pixel, rmse_db were given together"):
        target(bits_per_pixel=1, rmse_db=1)


def test_an_unknown_preset_is_refused_with_those_that_exist():
    with pytest.raises(RateError, match="'best' is unknown, expected one of archive, analysis, browse"):
        target(preset="best")


@pytest.mark.parametrize("name", ["bits_per_pixel", "ratio", "rmse_db"])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, "1", True, [1]], ids=repr)
def test_a_target_that_is_no_positive_number_is_refused(name, value):
    with pytest.raises(RateError, match=f"{name} is .*expected a positive number"):
        target(**{name: value})


@pytest.mark.parametrize("bits_per_pixel", [0.1, 0.25, 1, 2, 4])
def test_the_step_gives_a_chunk_of_the_asked_rate(coder, planes, bits_per_pixel):
    estimate = find_step(sample(planes), target(bits_per_pixel=bits_per_pixel), coder, HEADER_BITS / planes.size)
    stored = encode_backscatter(planes, Settings(step_db=estimate.step_db, scale="power"), coder)
    assert 8 * len(stored) / planes.size == pytest.approx(bits_per_pixel, rel=0.03)
    assert estimate.bits_per_pixel == pytest.approx(bits_per_pixel, rel=0.011)


@pytest.mark.parametrize("rmse_db", [0.2, 0.7, 2])
def test_the_step_gives_the_asked_error_of_decoded_values(coder, planes, rmse_db):
    estimate = find_step(sample(planes), target(rmse_db=rmse_db), coder, 0.0)
    settings = Settings(step_db=estimate.step_db, scale="power")
    decoded = decode_backscatter(encode_backscatter(planes, settings, coder), None, coder)
    found = np.sqrt(np.nanmean((10 * np.log10(decoded / planes)) ** 2))
    assert found == pytest.approx(rmse_db, rel=0.02)
    assert estimate.rmse_db == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("arguments", [{"bits_per_pixel": 0.5}, {"rmse_db": 1.5}], ids=str)
def test_where_the_tables_change_and_the_rate_jumps_the_side_that_is_no_worse_is_taken(coder, planes, arguments):
    asked = target(**arguments)
    estimate = find_step(sample(planes), asked, coder, 0.0)
    assert 0.85 * asked.value < getattr(estimate, asked.quantity) < 1.01 * asked.value


def test_less_is_asked_for_more_step_is_taken(coder, planes):
    steps = [find_step(sample(planes), target(bits_per_pixel=rate), coder, 0.0).step_db for rate in (4, 2, 1, 0.5)]
    assert steps == sorted(steps)
    assert len(set(steps)) == 4


def test_the_scale_does_not_change_the_step(coder):
    planes = simulate_scene((128, 128), seed=6, nodata_border=False).astype(np.float64)
    scales = {"power": planes, "amplitude": np.sqrt(planes), "decibel": 10 * np.log10(planes)}
    steps = [
        find_step(sample(values, scale), target(bits_per_pixel=1), coder, 0.0).step_db
        for scale, values in scales.items()
    ]
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_many_pieces_are_searched_coarsely_first_and_measured_as_a_whole(coder, planes):
    pieces = [Sample(backscatter=planes[:, y : y + 64], settings=POWER) for y in range(0, 256, 64)]
    estimate = find_step(pieces * 2, target(bits_per_pixel=1), coder, 0.0)
    assert estimate.bits_per_pixel == pytest.approx(1, rel=0.011)


def test_pieces_without_a_valid_pixel_cost_nothing_and_count_as_pixels(coder, planes):
    empty = Sample(backscatter=np.full_like(planes, np.nan), settings=POWER)
    half = find_step([*sample(planes), empty], target(bits_per_pixel=0.5), coder, 0.0)
    whole = find_step(sample(planes), target(bits_per_pixel=1.0), coder, 0.0)
    assert half.step_db == pytest.approx(whole.step_db, rel=0.03)


@pytest.mark.parametrize(
    "pieces",
    [[], [Sample(backscatter=np.full((1, 4, 4), np.nan), settings=POWER)]],
)
@pytest.mark.parametrize("arguments", [{"bits_per_pixel": 1}, {"rmse_db": 1}], ids=str)
def test_nothing_to_code_takes_any_step(coder, pieces, arguments):
    assert find_step(pieces, target(**arguments), coder, 0.1).step_db > 0


@pytest.mark.parametrize("arguments", [{"bits_per_pixel": 1}, {"rmse_db": 1}, {"ratio": 32}], ids=str)
def test_a_constant_image_is_better_than_asked_and_no_error(coder, arguments):
    values = np.full((1, 64, 64), 0.1, np.float32)
    estimate = find_step(sample(values), target(**arguments), coder, 0.0)
    assert estimate.bits_per_pixel < 1


def test_a_rate_below_the_coarsest_step_is_refused_with_what_is_possible(coder, planes):
    with pytest.raises(RateError, match=r"bits_per_pixel=0.0001 cannot be met: the coarsest step .* Ask for at least"):
        find_step(sample(planes), target(bits_per_pixel=0.0001), coder, 0.0)


@pytest.mark.parametrize("arguments", [{"bits_per_pixel": 40}, {"bits_per_pixel": 20}, {"ratio": 1}], ids=str)
def test_more_bits_than_the_finest_step_takes_are_refused_with_what_is_possible(coder, planes, arguments):
    asked = target(**arguments)
    with pytest.raises(
        RateError, match=rf"bits_per_pixel {asked.value:g} was asked for.*finest step of 0\.02 dB gives"
    ) as error:
        find_step(sample(planes), asked, coder, 0.0)
    named = float(re.search(r"dB gives ([0-9.]+) on", str(error.value))[1])
    found = find_step(sample(planes), target(bits_per_pixel=named), coder, 0.0)
    assert found.bits_per_pixel == pytest.approx(named, rel=0.01)


def test_a_larger_error_than_the_coarsest_step_makes_is_refused_with_what_is_possible(coder, planes):
    with pytest.raises(RateError, match=r"rmse_db 100 was asked for.*coarsest step of 64 dB gives [0-9.]+ on") as error:
        find_step(sample(planes), target(rmse_db=100), coder, 0.0)
    named = float(re.search(r"dB gives ([0-9.]+) on", str(error.value))[1])
    assert find_step(sample(planes), target(rmse_db=named), coder, 0.0).rmse_db == pytest.approx(named, rel=0.05)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("values", [[0.1, 0.1], [0.1, np.nan], [0.1, -0.1], [-1e-3, -0.0], [np.nan, np.nan]], ids=str)
def test_a_preset_is_no_error_on_any_data(coder, preset, values):
    planes = np.random.default_rng(0).choice(np.array(values, np.float32), (1, 64, 64))
    assert find_step(sample(planes), target(preset=preset), coder, 0.0).step_db > 0


def with_negative(share, shape=(1, 256, 256)):
    """Power as noise subtraction leaves it: some of it is negative, each value another one."""
    values = np.random.default_rng(1).gamma(4.4, 0.02 / 4.4, shape).astype(np.float32)
    return values - np.quantile(values, share).astype(np.float32)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
def test_values_that_are_kept_exactly_count_in_the_rate(coder, share):
    planes = with_negative(share)
    fixed = find_step(sample(planes), target(rmse_db=1), coder, 0.0).exact_bits_per_pixel
    assert 20 * share < fixed < 40 * share
    estimate = find_step(sample(planes), target(bits_per_pixel=fixed + 1), coder, HEADER_BITS / planes.size)
    stored = encode_backscatter(planes, Settings(step_db=estimate.step_db, scale="power"), coder)
    assert 8 * len(stored) / planes.size == pytest.approx(fixed + 1, rel=0.02)


def test_a_rate_that_exactly_kept_values_exceed_is_refused_with_what_they_cost(coder):
    planes = with_negative(0.25)
    with pytest.raises(RateError, match=r"of which [78][.0-9]* go to masks and.*negative power.*clip\(min=1e-3\)"):
        find_step(sample(planes), target(bits_per_pixel=1), coder, 0.0)
    assert find_step(sample(planes.clip(min=1e-3)), target(bits_per_pixel=1), coder, 0.0).exact_bits_per_pixel == 0


def test_a_preset_that_exactly_kept_values_exceed_says_what_the_rate_is(coder):
    planes = with_negative(0.25)
    estimate = find_step(sample(planes), target(preset="analysis"), coder, 0.0)
    stored = encode_backscatter(planes, Settings(step_db=estimate.step_db, scale="power"), coder)
    assert 8 * len(stored) / planes.size == pytest.approx(estimate.bits_per_pixel, rel=0.02)
    assert estimate.bits_per_pixel - estimate.exact_bits_per_pixel == pytest.approx(0.5, rel=0.02)


def test_a_scene_that_is_all_header_is_coded_all_the_same(coder):
    tiny = sample(simulate_scene((8, 8), seed=1, nodata_border=False))
    found = find_step(tiny, target(bits_per_pixel=0.5), coder, HEADER_BITS / 64)
    # half of it counted as header; one symbol more or less is some bits of so few pixels
    assert found.bits_per_pixel == pytest.approx(0.5, abs=4 / 64)


def test_an_error_below_the_finest_step_is_refused_with_what_is_possible(coder, planes):
    with pytest.raises(RateError, match=r"rmse_db=1e-06 cannot be met: the finest step .* Ask for at least"):
        find_step(sample(planes), target(rmse_db=1e-6), coder, 0.0)


@pytest.mark.parametrize("size", [1, 7, 20, 60])
@pytest.mark.parametrize("request_", [{"bits_per_pixel": 1e-4}, {"preset": "browse", "max_error_db": 0.3}], ids=str)
def test_a_rate_that_an_error_names_would_do(coder, size, request_):
    values = simulate_scene((size, size), seed=1, nodata_border=False)
    headers = HEADER_BITS / size**2
    try:
        find_step(guaranteeing(values, request_), target(**request_), coder, headers)
    except RateError as error:
        named = float(re.search(r"gives bits_per_pixel ([0-9.e+-]+)", str(error))[1])
        again = {name: value for name, value in request_.items() if name == "max_error_db"} | {"bits_per_pixel": named}
        found = find_step(guaranteeing(values, again), target(**again), coder, headers)
        assert found.bits_per_pixel == pytest.approx(named, rel=0.02)
    else:
        assert size == 1  # symbols of one pixel may be all zeros


def guaranteeing(values, request_):
    """A sample of decibels with what a request guarantees."""
    [plain] = sample(values)
    guarantees = target(**request_).guarantees(values.dtype, None, "power")
    return [replace(plain, settings=replace(plain.settings, guarantees=guarantees))]


@pytest.mark.parametrize("best", [0.5, 1.2, 4.0])
def test_the_cheapest_step_of_a_small_bound_may_be_many_times_as_wide(best):
    from xsarcomp.codec.rate_control import Estimate, _cheapest_step

    def measure(step_db):
        return Estimate(step_db=step_db, bits_per_pixel=abs(math.log(step_db / best)), rmse_db=None)

    assert _cheapest_step(measure, 0.05) == pytest.approx(best, rel=0.1)
