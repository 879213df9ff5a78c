"""Fill values that nobody declared are told from backscatter, clipped targets, quantized values and constant scenes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.radiometry.fill_values import find_fill_values
from xsarcomp.scenes.simulation import simulate_scene

POWER = simulate_scene((160, 176), seed=3, nodata_border=False)[:1]
DECIBEL = 10 * np.log10(POWER)
SCENES = {"power": POWER, "amplitude": np.sqrt(POWER), "decibel": DECIBEL}


def filled(values, number, columns=40):
    values = values.copy()
    values[..., :columns] = number
    return values


def found(values, scale, **options):
    return [fill.value for fill in find_fill_values([values], scale=scale, **options)]


@pytest.mark.parametrize("number", [0.0, -99.0, -9999.0, -32768.0, -50.0, 40.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_an_area_of_one_number_in_decibels_is_fill(number, dtype):
    values = filled(DECIBEL.astype(dtype), number)
    fill = find_fill_values([values], scale="decibel")
    assert [each.value for each in fill] == [float(dtype(number))]
    assert fill[0].share == pytest.approx(40 / 176, rel=0.01)


@pytest.mark.parametrize("scale", ["power", "amplitude"])
def test_an_area_of_one_number_in_power_is_fill_unless_it_is_kept_exactly_anyway(scale):
    for number in (1e-10, 1e4, -9999.0):
        expected = [float(np.float32(number))]
        assert found(filled(SCENES[scale].astype(np.float32), number), scale) == expected
    assert found(filled(SCENES[scale], 0.0), scale) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_numbers_at_the_end_of_a_data_type_are_searched_without_a_warning(dtype):
    values = filled(POWER.astype(dtype), np.finfo(dtype).max)
    assert found(values, "power") == [float(np.finfo(dtype).max)]


@pytest.mark.parametrize("scale", SCENES)
def test_backscatter_has_no_fill(scale):
    for dtype in (np.float32, np.float16):
        assert found(SCENES[scale].astype(dtype), scale) == []


@pytest.mark.parametrize("step", [0.01, 0.1, 0.5, 1.0])
def test_quantized_decibels_have_no_fill_but_that_in_areas(step):
    values = (np.rint(DECIBEL / step) * step).astype(np.float32)
    assert found(values, "decibel") == []
    assert found(np.rint(DECIBEL).astype(np.int8), "decibel") == []
    assert found(filled(np.rint(DECIBEL).astype(np.int8), -128), "decibel") == [-128]
    smooth = np.rint(np.broadcast_to(np.linspace(-20, -5, 176), (1, 160, 176))).astype(np.int8)
    assert found(smooth, "decibel") == []


def test_bright_and_dark_values_at_which_data_was_clipped_are_no_fill():
    assert found(np.clip(DECIBEL, -17, -9), "decibel") == []
    assert found(np.clip(POWER, 0.02, 0.15), "power") == []


def test_a_number_that_is_no_backscatter_may_be_scattered():
    values = DECIBEL.copy()
    values.reshape(-1)[::40] = -9999
    assert found(values, None) == [-9999]
    assert found(values, "decibel", nodata=-9999) == []
    values[values == -9999] = 0
    assert found(values, "decibel") == []


@pytest.mark.parametrize(
    "values",
    [
        np.full((1, 64, 64), -11.0),
        np.where(np.arange(64) < 20, -20.0, np.full((1, 64, 64), -10.0)),
        np.full((1, 64, 64), np.nan),
        np.empty((0, 64, 64)),
        np.zeros((1, 2, 2)),
    ],
    ids=["constant", "two constants", "NaN", "empty", "tiny"],
)
def test_what_is_no_scene_has_no_fill(values):
    assert found(values, "decibel") == []


@given(columns=st.integers(12, 170), number=st.sampled_from([0.0, -60.0, 30.0]), windows=st.integers(1, 4))
def test_fill_is_found_in_any_share_of_a_scene_however_it_is_cut(columns, number, windows):
    values = filled(DECIBEL, number, columns)
    pieces = np.array_split(values, windows, axis=1)
    assert found(values, "decibel") == [number]
    assert [fill.value for fill in find_fill_values(pieces, scale="decibel")] == [number]
