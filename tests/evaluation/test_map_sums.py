"""Maps in a comparison: they add up to those of the whole scene, and of a stack no more than two dates are in memory."""

import dataclasses
import math

import numpy as np
import pytest
import xarray as xr

from xsarcomp.evaluation import plane_pair
from xsarcomp.evaluation.compare import compare
from xsarcomp.evaluation.map_sums import LEAST_WATER_FRACTION, MapComparer, MapSums, water_threshold_db
from xsarcomp.evaluation.plane_pair import PlanePair
from xsarcomp.metrics.maps import compare_change_maps, compare_water_maps

KEYS = ("water_fraction", "water_iou", "change_fraction", "change_false_alarm_rate", "change_miss_rate")


def speckle(shape, seed, level_db=-10.0):
    return 10 ** (level_db / 10) * np.random.default_rng(seed).gamma(20, 1 / 20, shape)


@pytest.fixture(scope="module")
def lake():
    """Power of land at -10 dB with a lake at -22 dB on a quarter of it."""
    values = speckle((60, 80), 0)
    values[10:40, 10:50] *= 10**-1.2
    return values


def noisy(values, seed=1, rmse_db=1.5):
    return values * 10 ** np.random.default_rng(seed).normal(0, rmse_db / 10, values.shape)


def array(values, name="vv", **coordinates):
    dims = ("time", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, name=name, coords=coordinates)


@pytest.mark.parametrize(
    ("name", "threshold_db"),
    [
        ("vv", -15.0),
        ("VH", -21.5),
        ("sigma0_vh", -21.5),
        ("band_data VV", -15.0),
        ("Gamma0-HH (dB)", -15.0),
        ("hv2", -21.5),
        ("backscatter", None),
        ("band_data band 1", None),
        ("vvalley", None),
    ],
)
def test_the_threshold_follows_the_polarization_that_a_name_says(name, threshold_db):
    assert water_threshold_db(name) == threshold_db


def test_water_of_a_scene_is_that_of_the_agreement_with_the_same_threshold(lake):
    restored = noisy(lake)
    found = compare(array(lake), array(restored), scale="power")
    expected = compare_water_maps(lake, restored, np.ones(lake.shape, bool), threshold_db=-15.0)
    assert 0.8 < found["water_iou"] == expected.intersection_over_union < 1
    assert found["water_fraction"] == expected.original_water_fraction == pytest.approx(0.25, abs=0.04)
    assert math.isnan(found["change_fraction"])
    assert compare(array(lake), array(lake), scale="power")["water_iou"] == 1


def test_water_is_not_looked_for_without_a_polarization_and_not_compared_without_water(lake):
    unknown = compare(array(lake, "backscatter"), array(lake, "backscatter"), scale="power")
    assert all(math.isnan(unknown[key]) for key in KEYS)
    land = speckle(lake.shape, 3)
    dry = compare(array(land), array(noisy(land, rmse_db=9.0)), scale="power")
    assert dry["water_fraction"] == 0
    assert math.isnan(dry["water_iou"])
    land[:4, :11] = 1e-3  # 0.9 % and less at its rim
    few = compare(array(land), array(land), scale="power")
    assert 0 < few["water_fraction"] < LEAST_WATER_FRACTION
    assert math.isnan(few["water_iou"])


@pytest.fixture(scope="module")
def stack(lake):
    """Four dates; the lake dries up on the third. A hole on the second."""
    dry = speckle(lake.shape, 7)
    values = np.stack([noisy(lake, 2, 0.1), noisy(lake, 3, 0.1), noisy(dry, 4, 0.1), noisy(dry, 5, 0.1)])
    values[1, 45:50, 60:70] = np.nan
    return values


def test_change_is_that_between_dates_that_follow_each_other(stack):
    restored = noisy(stack, 9)
    found = compare(array(stack), array(restored), scale="power")
    pairs = [
        compare_change_maps(
            tuple(np.nan_to_num(stack[date : date + 2], nan=1.0)),
            tuple(np.nan_to_num(restored[date : date + 2], nan=1.0)),
            np.isfinite(stack[date : date + 2]).all(axis=0),
        )
        for date in range(3)
    ]
    changed, unchanged, added, lost = (
        sum(getattr(pair, f"{kind}_pixels") for pair in pairs)
        for kind in ("changed", "unchanged", "false_alarm", "missed")
    )
    assert pairs[1].changed_pixels > 1000 > pairs[0].changed_pixels
    assert found["change_fraction"] == changed / (changed + unchanged)
    assert 0 < found["change_false_alarm_rate"] == added / unchanged < 0.2
    assert 0 < found["change_miss_rate"] == lost / changed < 0.2
    copy = compare(array(stack), array(stack), scale="power")
    assert copy["change_false_alarm_rate"] == copy["change_miss_rate"] == 0


def test_dates_are_found_by_name_or_by_type_wherever_they_stand(stack):
    original, restored = array(stack), array(noisy(stack, 9))
    expected = compare(original, restored, scale="power")
    renamed = [
        each.rename(time="acquired").assign_coords(acquired=np.arange(4).astype("M8[D]"))
        for each in (original, restored)
    ]
    turned = [each.transpose("x", "time", "y") for each in (original, restored)]
    frames = [each.expand_dims(frame=2, axis=1) for each in (original, restored)]
    for first, second in (renamed, turned, frames):
        found = compare(first, second, scale="power")
        assert [found[key] for key in KEYS] == [expected[key] for key in KEYS]
    numbered = [each.rename(time="scene") for each in (original, restored)]
    assert math.isnan(compare(*numbered, scale="power")["change_fraction"])


def test_variables_are_added_up_and_their_dates_kept_apart(stack):
    original = xr.Dataset({"vv": array(stack), "vh": array(stack[::-1] / 4, "vh")})
    restored = original.map(noisy)
    both = compare(original, restored, scale="power")
    single = [compare(original[[name]], restored[[name]], scale="power") for name in original]
    for key in ("change_false_alarm_rate", "change_fraction"):
        low, high = sorted(metrics[key] for metrics in single)
        assert low <= both[key] <= high


def pieces_of(values, restored, series):
    whole = np.isfinite(values)
    pair = PlanePair(
        original_power=values,
        restored_power=restored,
        original_valid=whole,
        restored_valid=whole,
        name="vv",
        series=series,
    )
    return list(pair.pieces())


def test_of_planes_in_pieces_water_is_that_of_all_and_change_that_of_the_middle(monkeypatch, lake):
    monkeypatch.setattr(plane_pair, "PIECE_PIXELS", 20)
    later = lake[::-1].copy()
    map_comparer, sums = MapComparer(), MapSums()
    for values in (lake, later):
        pieces = pieces_of(values, noisy(values), ("vv",))
        assert len(pieces) == 12
        assert sum(piece.is_middle_piece for piece in pieces) == 1
        for piece in pieces:
            sums += map_comparer.compare(piece)
            previous = map_comparer._previous
            assert previous is None or previous.valid.shape == (20, 20)
    middle = next(piece for piece in pieces if piece.is_middle_piece)
    assert sums.water_valid == 2 * lake.size
    assert sums.changed + sums.unchanged == middle.valid.size


def test_the_order_of_sums_does_not_matter():
    first, second = (
        MapSums(**{field.name: seed + number for number, field in enumerate(dataclasses.fields(MapSums))})
        for seed in (1, 50)
    )
    assert (first + second).metrics() == (second + first).metrics()
    assert (MapSums() + first).metrics() == first.metrics()
    assert all(math.isnan(value) for value in MapSums().metrics().values())
