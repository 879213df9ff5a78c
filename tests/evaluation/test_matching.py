"""Planes of two scenes: their names, their places, their order. What does not fit is tested with the comparison."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsarcomp.evaluation import plane_pair
from xsarcomp.evaluation.matching import array_pairs, scene_pairs, scene_pieces
from xsarcomp.scenes.simulation import simulated_dataset


@pytest.fixture(scope="module")
def dataset():
    return simulated_dataset((30, 40), 1)


def names(scene, **options):
    return [(pair.name, pair.label) for pair in scene_pairs(scene, scene, scale="power", **options)]


def test_variables_are_named_and_single_planes_need_no_label(dataset):
    assert names(dataset) == [("vv", ""), ("vh", "")]
    assert names(dataset.vv.expand_dims("time")) == [("vv", "")]
    assert names(dataset.vv.rename(None)) == [("backscatter", "")]


def test_dates_are_labels_and_polarizations_are_names(dataset):
    times = pd.date_range("2024-01-01T05:30", periods=2, freq="12D", name="time")
    stack = xr.concat([dataset.to_dataarray("polarization", name="sigma0")] * 2, dim=times)
    assert names(stack) == [
        (f"sigma0 polarization {name}", f"time 2024-01-{day}T05:30") for name in ("vv", "vh") for day in ("01", "13")
    ]
    assert names(stack.drop_vars("time"))[1] == ("sigma0 polarization vv", "time 1")


def test_bands_of_a_raster_are_called_what_the_file_calls_them(dataset):
    raster = dataset.to_dataarray("band", name="band_data").assign_attrs(long_name=("VV", "VH"))
    assert names(raster) == [("VV", ""), ("VH", "")]
    assert names(raster.drop_attrs())[1] == ("band_data band vh", "")
    many = xr.concat([dataset.vv] * 5, dim="band")
    assert names(many)[3] == ("vv", "band 3")


def test_axes_have_the_coordinates_of_the_plane(dataset):
    pair = next(scene_pairs(dataset, dataset))
    assert pair.axes == (("y", 5_399_995.0, -10.0), ("x", 600_005.0, 10.0))
    assert next(scene_pairs(dataset.drop_vars("y"), dataset)).axes == ()


def test_pieces_of_a_scene_are_those_of_its_planes(dataset, monkeypatch):
    monkeypatch.setattr(plane_pair, "PIECE_PIXELS", 16)
    lazily = list(scene_pieces(dataset, dataset))
    at_once = [piece for pair in scene_pairs(dataset, dataset) for piece in pair.pieces()]
    assert len(lazily) == len(at_once) == 2 * 2 * 3
    for first, second in zip(lazily, at_once, strict=True):
        assert (first.name, first.axes, first.origin) == (second.name, second.axes, second.origin)
        assert first.whole_shape == second.whole_shape == (30, 40)
        np.testing.assert_array_equal(first.original_power, second.original_power)


def test_planes_of_arrays_come_in_order_with_power_decibel_and_validity():
    values = np.array([[[-10.0, np.nan], [0.0, 10.0]], [[1.0, 2.0], [3.0, -9999.0]]])
    first, second = array_pairs(values, values + 1, scale="decibel", nodata=-9999.0)
    np.testing.assert_allclose(first.original_power, [[0.1, 1], [1, 10]])
    np.testing.assert_allclose(first.restored_db, [[-9, 0], [1, 11]])
    assert first.valid.tolist() == [[True, False], [True, True]]
    # -9998 dB is not the nodata number, but its power is no positive number
    assert second.original_valid.tolist() == second.restored_valid.tolist() == [[True, True], [True, False]]


def test_dates_of_one_place_follow_each_other_and_share_a_series(dataset):
    times = pd.date_range("2024-01-01", periods=2, name="time")
    stack = xr.concat([dataset.to_dataarray("polarization", name="sigma0")] * 2, dim=times)
    assert [pair.series for pair in scene_pairs(stack, stack)] == [("sigma0", 0)] * 2 + [("sigma0", 1)] * 2
    pairs = scene_pairs(dataset.expand_dims(time=times), dataset.expand_dims(time=times))
    assert [pair.series for pair in pairs] == [("vv",)] * 2 + [("vh",)] * 2
    assert [pair.series for pair in scene_pairs(dataset, dataset)] == [(), ()]
