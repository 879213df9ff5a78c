"""The grid of an overview: centers of blocks of any coordinate, and a transform that says where the blocks lie."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.latents import overview_grid
from xsarcomp.latents.overview_grid import block_means, coarse_attributes, coarse_coordinate, coarse_reference


def mean_of_runs(values, factor):
    """The definition, run by run."""
    return np.array([values[start : start + factor].mean() for start in range(0, len(values), factor)])


@given(size=st.integers(1, 40), factor=st.sampled_from([8, 16, 32]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_a_block_lies_at_the_mean_of_its_pixels_whatever_their_spacing(size, factor, seed):
    values = 5.4e6 + np.cumsum(np.random.default_rng(seed).uniform(1, 30, size))
    found = block_means(values, 0, factor)
    assert found.shape == (overview_grid.block_count(size, factor),)
    np.testing.assert_allclose(found, mean_of_runs(values, factor), rtol=1e-14)


def test_even_coordinates_stay_exact_also_in_a_last_block_of_fewer_pixels():
    y = 5_400_000.0 - 10 * (np.arange(19) + 0.5)
    assert block_means(y, 0, 8).tolist() == [5_399_960.0, 5_399_880.0, 5_399_825.0]
    assert block_means(np.arange(19), 0, 8).tolist() == [3.5, 11.5, 17.0]


@pytest.mark.parametrize(
    ("given_as", "found_as"), [("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("u2", "f8"), (">f8", "f8")]
)
def test_numbers_keep_their_precision(given_as, found_as):
    found = block_means(np.arange(10).astype(given_as), 0, 8)
    assert found.dtype == np.dtype(found_as)
    assert found.tolist() == [3.5, 8.5]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_times_are_averaged_to_the_nanosecond_and_missing_ones_stay_missing(unit):
    times = np.datetime64("2024-01-01T05:30", unit) + np.arange(19).astype(f"m8[{unit}]")
    times[17] = "NaT"
    found = block_means(times, 0, 8)
    step = np.timedelta64(1, unit).astype("m8[ns]")
    np.testing.assert_array_equal(found[:2], times[0] + (step * np.array([7, 23])) // 2)
    assert np.isnat(found[2])
    lengths = block_means(np.arange(16).astype("m8[ns]"), 0, 8)
    assert lengths.dtype == "m8[ns]"
    assert lengths.astype(int).tolist() == [4, 12]  # halves go to the even number


def test_longitudes_do_not_meet_halfway_round_the_world():
    across = np.array([[179.97, 179.98, 179.99, -180.0, -179.99, -179.98, -179.97, -179.96, 10.0]])
    found = block_means(across, 1, 8, turns=True)
    np.testing.assert_allclose(np.mod(found, 360), [[180.005, 10.0]])
    assert np.abs(found).max() <= 180
    eastward = block_means(np.array([359.5, 359.9, 0.3, 0.7]), 0, 4, turns=True)
    np.testing.assert_allclose(np.mod(eastward, 360), 0.1, atol=1e-9)


@pytest.mark.parametrize("chunks", [None, (5, 7), (40, 9)])
def test_coordinates_of_two_dimensions_are_means_over_blocks_and_lazy_where_they_are(chunks):
    values = np.random.default_rng(0).normal(size=(37, 30))
    variable = xr.Variable(("y", "x"), values, {"units": "degrees_north"}, {"chunks": (5, 5)})
    variable = variable if chunks is None else variable.chunk(dict(zip(("y", "x"), chunks, strict=True)))
    found = coarse_coordinate(variable, {"y", "x"}, 8, name="latitude")
    assert (found.chunks is None) == (chunks is None)
    expected = [[values[i : i + 8, j : j + 8].mean() for j in range(0, 30, 8)] for i in range(0, 37, 8)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-13)
    assert found.attrs == {"units": "degrees_north"}
    assert not found.encoding


def test_other_dimensions_of_a_coordinate_stay():
    variable = xr.Variable(("time", "y"), np.arange(20.0).reshape(2, 10))
    assert coarse_coordinate(variable, {"y", "x"}, 8).values.tolist() == [[3.5, 8.5], [13.5, 18.5]]


def numbers(reference):
    return [float(number) for number in reference["GeoTransform"].split()]


def test_a_transform_has_the_same_corner_and_larger_steps():
    attributes = {"GeoTransform": "600000 10 0 5400000 0 -10", "crs_wkt": "kept"}
    found = coarse_reference(attributes, None, None, 8)
    assert numbers(found) == [600000, 80, 0, 5400000, 0, -80]
    assert found["crs_wkt"] == "kept"
    assert attributes["GeoTransform"] == "600000 10 0 5400000 0 -10"


def test_rotated_transforms_are_scaled_whatever_the_coordinates_say():
    attributes = {"GeoTransform": "5 3 1 7 -1 -3"}
    assert numbers(coarse_reference(attributes, np.arange(9.0), np.arange(9.0), 16)) == [5, 48, 16, 7, -16, -48]


def test_a_part_of_a_scene_gets_the_transform_of_its_coordinates():
    y, x = 5_400_000 - 10 * (np.arange(50) + 100.5), 600_000 + 10 * (np.arange(60) + 20.5)
    of_the_whole = {"GeoTransform": "600000 10 0 5400000 0 -10"}
    expected = [600200, 80, 0, 5399000, 0, -80]
    assert numbers(coarse_reference(of_the_whole, y, x, 8)) == expected
    assert numbers(coarse_reference({}, y, x, 8)) == expected


def test_what_says_no_transform_gets_none():
    uneven = np.array([0.0, 1.0, 5.0, 6.0])
    for y, x in [(None, None), (uneven, np.arange(4.0)), (np.arange(1.0), np.arange(4.0))]:
        assert coarse_reference({"crs_wkt": "kept"}, y, x, 8) == {"crs_wkt": "kept"}
    assert coarse_reference({"GeoTransform": "broken"}, None, None, 8) == {"GeoTransform": "broken"}


def test_ground_control_points_are_counted_in_blocks():
    point = {
        "type": "Feature",
        "properties": {"id": "1", "row": 80.0, "col": 12.0},
        "geometry": {"coordinates": [9, 48]},
    }
    attributes = {"gcps": json.dumps({"type": "FeatureCollection", "features": [point]})}
    found = json.loads(coarse_reference(attributes, None, None, 8)["gcps"])["features"][0]
    assert found["properties"] == {"id": "1", "row": 10.0, "col": 1.5}
    assert found["geometry"] == point["geometry"]


def test_an_affine_among_the_attributes_is_scaled():
    assert coarse_attributes({"transform": (10.0, 0.0, 600.0, 0.0, -10.0, 500.0), "units": "1"}, 8) == {
        "transform": (80.0, 0.0, 600.0, 0.0, -80.0, 500.0),
        "units": "1",
    }
    assert coarse_attributes({"transform": "logarithm"}, 8) == {"transform": "logarithm"}


def test_chunks_cover_a_bounded_number_of_pixels():
    assert overview_grid.block_chunks(5000, 8) == (256, 256, 113)
    assert overview_grid.block_chunks(5000, 512) == (4, 4, 2)
    assert overview_grid.block_chunks(0, 8) == (0,)
