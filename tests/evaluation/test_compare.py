"""The comparison of whole scenes: pooling, masks, matching of xarray objects."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.evaluation import matching, plane_pair
from xsarcomp.evaluation.compare import compare, compare_array_errors, compare_arrays
from xsarcomp.metrics import fidelity
from xsarcomp.scenes.simulation import simulate_scene, simulated_dataset

KEYS = {
    "rmse_db",
    "bias_db",
    "max_error_db",
    "p99_error_db",
    "psnr_db",
    "enl_ratio",
    "edge_preservation",
    "valid_pixels",
    "pixels",
    "mask_mismatch_pixels",
}
TEXTURE_KEYS = {
    "ssim",
    "ms_ssim",
    "epd_roa_y",
    "epd_roa_x",
    "ks_distance",
    "semivariogram_ratio_1",
    "semivariogram_ratio_8",
    "ratio_mean",
    "ratio_variance",
    "ratio_correlation_y",
    "ratio_correlation_x",
    "window_bias_p95_db",
    "point_targets",
    "point_target_error_db",
    "point_target_shift_pixels",
}
MAP_KEYS = {"water_fraction", "water_iou", "change_fraction", "change_false_alarm_rate", "change_miss_rate"}


@pytest.fixture(scope="module")
def scene():
    return simulate_scene((150, 175), seed=1)


@pytest.fixture(scope="module")
def dataset():
    return simulated_dataset((100, 120), 2)


def noisy(scene, rmse_db=0.5, seed=0):
    return scene * 10 ** (np.random.default_rng(seed).normal(0, rmse_db / 10, scene.shape))


def same(first, second):
    numbers = KEYS - {"p99_error_db"}
    return all(first[key] == pytest.approx(second[key], rel=1e-6, nan_ok=True) for key in numbers)


def test_identical_arrays_are_perfect(scene):
    result = compare_arrays(scene, scene, scale="power")
    assert result.keys() >= KEYS
    assert result["rmse_db"] == result["max_error_db"] == result["p99_error_db"] == result["bias_db"] == 0
    assert result["enl_ratio"] == 1
    assert result["edge_preservation"] == pytest.approx(1)
    assert result["psnr_db"] == math.inf
    assert result["pixels"] == scene.size
    assert result["valid_pixels"] == np.count_nonzero(np.isfinite(scene))
    assert result["mask_mismatch_pixels"] == 0


def test_texture_and_structure_of_identical_arrays_are_perfect():
    scene = simulate_scene((240, 250), seed=1)
    result = compare_arrays(scene, scene, scale="power")
    assert result.keys() == KEYS | TEXTURE_KEYS
    ones = {"ssim", "ms_ssim", "epd_roa_y", "epd_roa_x", "semivariogram_ratio_1", "semivariogram_ratio_8", "ratio_mean"}
    zeros = {
        "ks_distance",
        "ratio_variance",
        "window_bias_p95_db",
        "point_target_error_db",
        "point_target_shift_pixels",
    }
    assert {key: result[key] for key in ones} == pytest.approx(dict.fromkeys(ones, 1))
    assert {key: result[key] for key in zeros} == dict.fromkeys(zeros, 0)
    assert math.isnan(result["ratio_correlation_y"])  # a constant ratio image has no structure to correlate
    assert result["point_targets"] > 0


def test_texture_metrics_are_means_over_planes_weighted_with_valid_pixels(scene):
    restored = noisy(scene)
    restored[1] = noisy(scene[1:], 2.0)[0]
    planes = [compare_arrays(scene[index], restored[index], scale="power") for index in (0, 1)]
    together = compare_arrays(scene, restored, scale="power")
    weights = [plane["valid_pixels"] for plane in planes]
    for key in ("ssim", "epd_roa_x", "ks_distance", "semivariogram_ratio_1", "ratio_variance"):
        assert together[key] == pytest.approx(np.average([plane[key] for plane in planes], weights=weights))
    assert together["point_targets"] == sum(plane["point_targets"] for plane in planes)
    assert planes[0]["window_bias_p95_db"] < together["window_bias_p95_db"] < planes[1]["window_bias_p95_db"]


def test_the_metrics_of_errors_are_those_of_the_whole_comparison(scene):
    restored = noisy(scene)
    errors, everything = (measure(scene, restored, scale="power") for measure in (compare_array_errors, compare_arrays))
    assert errors.keys() == KEYS
    assert errors == {key: everything[key] for key in KEYS}


def test_a_gain_of_one_decibel_is_a_bias_of_one_decibel(scene):
    result = compare_arrays(scene, scene * 10**0.1, scale="power")
    for key in ("rmse_db", "bias_db", "max_error_db"):
        assert result[key] == pytest.approx(1, abs=1e-5)
    assert result["p99_error_db"] == pytest.approx(1, rel=1e-3)
    assert result["psnr_db"] == pytest.approx(20 * math.log10(50), abs=1e-4)
    assert result["enl_ratio"] == pytest.approx(1, abs=1e-5)


def test_smoothing_raises_the_enl_ratio_and_lowers_edge_preservation():
    scene = simulate_scene((150, 175), seed=1, nodata_border=False)
    smoothed = ndimage.uniform_filter(scene, (0, 5, 5))
    result = compare_arrays(scene, smoothed, scale="power")
    assert result["enl_ratio"] > 2
    assert result["edge_preservation"] < 0.5


def test_the_scale_does_not_change_the_metrics(scene):
    restored = noisy(scene)
    expected = compare_arrays(scene, restored, scale="power")
    decibel = compare_arrays(10 * np.log10(scene), 10 * np.log10(restored), scale="decibel")
    amplitude = compare_arrays(np.sqrt(scene), np.sqrt(restored), scale="amplitude")
    for result in (decibel, amplitude):
        for key in KEYS:
            assert result[key] == pytest.approx(expected[key], rel=2e-3, abs=1e-4)


def test_errors_are_pooled_over_valid_pixels_of_all_planes(scene):
    restored = noisy(scene)
    restored[1] *= 1.2
    result = compare_arrays(scene, restored, scale="power")
    valid = np.isfinite(scene)
    errors = 10 * np.log10(restored[valid].astype(float) / scene[valid])
    assert result["rmse_db"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert result["p99_error_db"] == pytest.approx(np.percentile(np.abs(errors), 99), rel=5e-3)
    assert result["bias_db"] == pytest.approx(fidelity.radiometric_bias_db(scene, restored, valid), abs=1e-6)


@given(st.floats(1e-6, 100), st.integers(1, 300), st.integers(0, 2**31))
def test_the_percentile_from_the_histogram_is_exact_to_a_thousandth(size, count, seed):
    original = np.zeros((1, count))
    restored = np.random.default_rng(seed).normal(0, size, (1, count))
    expected = np.percentile(np.abs(restored), 99, method="inverted_cdf")
    result = compare_array_errors(original, restored, scale="decibel")
    assert result["p99_error_db"] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_mask_mismatch_counts_pixels_that_are_valid_in_one_only():
    original, restored = np.ones((2, 30, 30)), np.ones((2, 30, 30))
    original[0, 0, :4] = [np.nan, 0, -1, np.inf]
    restored[0, 0, 0] = np.nan
    restored[1, 5, 5] = -9999
    result = compare_arrays(original, restored, scale="power", nodata=-9999)
    assert result["mask_mismatch_pixels"] == 4
    assert result["valid_pixels"] == 1800 - 5
    assert result["rmse_db"] == 0


@pytest.mark.parametrize("shape", [(2, 30, 30), (30, 30), (0, 30, 30), (0, 0)])
def test_scenes_without_a_valid_pixel_give_nan(shape):
    empty = np.full(shape, np.nan, dtype=np.float32)
    result = compare_arrays(empty, empty, scale="decibel")
    counts = {"valid_pixels", "pixels", "mask_mismatch_pixels"}
    assert result["valid_pixels"] == 0
    assert result["pixels"] == empty.size
    assert result["point_targets"] == 0
    assert all(math.isnan(result[key]) for key in (KEYS | TEXTURE_KEYS) - counts - {"point_targets"})


def test_an_empty_plane_does_not_spoil_the_others(scene):
    stack = np.concatenate((scene, np.full_like(scene[:1], np.nan)))
    restored = noisy(scene)
    result = compare_arrays(stack, np.concatenate((restored, stack[2:])), scale="power")
    expected = compare_arrays(scene, restored, scale="power")
    assert same({**result, "pixels": expected["pixels"]}, expected)


def test_results_are_plain_numbers(scene):
    result = compare_arrays(scene, noisy(scene), scale="power")
    assert all(type(value) in (int, float) for value in result.values())
    text = json.dumps(result)
    assert json.dumps(json.loads(text)) == text


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DimensionError, match="two equal"):
        compare_arrays(np.ones((4, 4)), np.ones((4, 5)), scale="power")
    with pytest.raises(DimensionError, match="two equal"):
        compare_arrays(np.ones(4), np.ones(4), scale="power")
    with pytest.raises(RadiometryError, match="found scale"):
        compare_arrays(np.ones((4, 4)), np.ones((4, 4)), scale="log")


def test_datasets_give_the_metrics_of_their_arrays(dataset):
    restored = dataset.map(noisy, keep_attrs=True)
    result = compare(dataset, restored, scale="power")
    arrays = [np.stack([each.vv, each.vh]) for each in (dataset, restored)]
    assert result.pop("scale") == "power"
    assert result.keys() >= MAP_KEYS
    assert same(
        {key: value for key, value in result.items() if key not in MAP_KEYS}, compare_arrays(*arrays, scale="power")
    )


def test_dimension_order_and_laziness_do_not_matter(dataset):
    stack = dataset.to_dataarray("polarization").expand_dims(time=3)
    restored = noisy(stack)
    expected = compare(stack, restored, scale="power")
    turned = restored.transpose("x", "polarization", "y", "time").chunk(x=50, time=1)
    assert same(compare(stack.chunk(time=1), turned, scale="power"), expected)
    last = stack.transpose("y", "x", "time", "polarization")
    assert same(compare(last, turned, scale="power"), expected)


def test_lazy_arrays_are_loaded_plane_by_plane():
    loaded = []

    def load(block):
        loaded.append(block.shape)
        return block

    stack = xr.DataArray(np.ones((4, 30, 30)), dims=("time", "y", "x"), name="vv").chunk(time=1)
    lazy = xr.apply_ufunc(load, stack, dask="parallelized", output_dtypes=[stack.dtype])
    loaded.clear()
    assert compare(lazy, stack, scale="power")["pixels"] == 3600
    assert loaded == [(1, 30, 30)] * 4


def test_large_planes_are_measured_in_pieces_with_one_in_memory(monkeypatch):
    monkeypatch.setattr(plane_pair, "PIECE_PIXELS", 100)
    loaded = []

    def load(block):
        loaded.append(block.shape)
        return block

    values = simulate_scene((230, 260), seed=1, nodata_border=False)[0]
    restored = noisy(values)
    plane = xr.DataArray(values, dims=("y", "x"), name="vv").chunk(50)
    lazy = xr.apply_ufunc(load, plane, dask="parallelized", output_dtypes=[plane.dtype])
    loaded.clear()
    result = compare(lazy, xr.DataArray(restored, dims=("y", "x")), scale="power")
    assert sum(rows * columns for rows, columns in loaded) == values.size  # each chunk once
    result = {key: value for key, value in result.items() if key not in MAP_KEYS | {"scale"}}
    assert result == pytest.approx(compare_arrays(values, restored, scale="power"), nan_ok=True)
    monkeypatch.undo()
    whole = compare_arrays(values, restored, scale="power")
    for key in KEYS - {"enl_ratio", "edge_preservation"}:  # what is pooled does not depend on pieces
        assert result[key] == pytest.approx(whole[key])
    for key in ("enl_ratio", "edge_preservation", "ssim", "semivariogram_ratio_1"):
        assert result[key] == pytest.approx(whole[key], rel=0.02)


def test_single_variables_are_paired_whatever_their_names(dataset):
    one = dataset[["vv"]]
    for other in (one.rename(vv="restored"), one.vv.rename(None), one.vv):
        assert compare(one, other, scale="power")["rmse_db"] == 0


def test_masks_and_further_variables_are_left_out(dataset):
    original = dataset.assign(water=(("y", "x"), np.ones((100, 120), dtype=np.uint8)))
    restored = dataset.assign(quality=dataset.vv)
    assert compare(original, restored, scale="power")["pixels"] == 2 * 100 * 120


def test_declared_nodata_is_heeded_and_inherited():
    values = np.full((30, 30), -12.0, dtype=np.float32)
    values[:5] = 0
    for declare in ({"attrs": {"_FillValue": 0.0}}, {"attrs": {"nodata": 0}}):
        original = xr.DataArray(values, dims=("y", "x"), name="vv", **declare)
        assert compare(original, original.drop_attrs(), scale="decibel")["valid_pixels"] == 25 * 30
    original = xr.DataArray(values, dims=("y", "x"), name="vv")
    original.encoding["_FillValue"] = 0.0
    restored = original.where(original != 0, np.nan)
    result = compare(original, restored, scale="decibel")
    assert (result["valid_pixels"], result["mask_mismatch_pixels"]) == (25 * 30, 0)
    original.encoding["scale_factor"] = 0.01
    assert compare(original, restored, scale="decibel")["mask_mismatch_pixels"] == 5 * 30


def test_the_scale_is_inferred_from_each_original_variable(dataset, monkeypatch):
    asked = []

    def infer(sample, *, name, attributes, nodata=None):
        asked.append((name, sample.shape, attributes["units"], nodata))
        return SimpleNamespace(scale="power", reason="units")

    monkeypatch.setattr(matching, "infer_scale", infer)
    assert compare(dataset, dataset)["scale"] == "power"
    assert asked == [("vv", (100, 120), "1", None), ("vh", (100, 120), "1", None)]


def test_objects_that_do_not_fit_are_refused(dataset):
    cases = {
        "in restored, expected": dataset[["vv"]],
        "two equal": dataset.isel(x=slice(60)),
        "other coordinates 'y' of 'vv'": dataset.isel(y=slice(None, None, -1)),
        "other coordinates 'x' of 'vv'": dataset.assign_coords(x=dataset.x + 10),
        "found dimensions": dataset.expand_dims("time"),
        "expected xarray": np.ones((2, 100, 120)),
    }
    for message, restored in cases.items():
        with pytest.raises(DimensionError, match=message):
            compare(dataset, restored, scale="power")


def test_coordinates_may_differ_by_rounding(dataset):
    rounded = dataset.assign_coords(x=dataset.x + 1e-6)
    assert compare(dataset, rounded, scale="power")["rmse_db"] == 0


def decibels(scene):
    return 10 * np.log10(scene.drop_attrs())


@pytest.mark.parametrize("scale", [None, "power", "decibel"])
def test_decibels_are_not_compared_with_power(dataset, scale):
    for pair in ((dataset, decibels(dataset)), (decibels(dataset), dataset)):
        with pytest.raises(RadiometryError, match=r"original 'vv'.*restored 'vv'.*10 \* log10\(power\)") as refusal:
            compare(*pair, scale=scale)
        assert "in decibels" in str(refusal.value)
        assert "in power" in str(refusal.value)


def test_decibels_are_not_compared_as_power(dataset):
    with pytest.raises(RadiometryError, match=r"'vv' and 'vv' are mostly negative.*scale='decibel'"):
        compare(decibels(dataset), decibels(dataset), scale="power")


def test_power_is_not_compared_with_amplitude_where_the_record_tells_it(dataset):
    amplitude = np.sqrt(dataset).drop_attrs()
    decoded = amplitude.sarcomp.encode(scale="amplitude", bits_per_pixel=2).sarcomp.decode()
    assert compare(amplitude, decoded)["scale"] == "amplitude", "the values alone look like power"
    assert compare(amplitude, decoded)["rmse_db"] < 1
    stated = xr.Dataset({name: plane.assign_attrs(units="m2 m-2") for name, plane in dataset.items()})
    with pytest.raises(RadiometryError, match="original 'vv' is in power, and restored 'vv' in amplitude"):
        compare(stated, decoded)
    assert compare(dataset, dataset.sarcomp.encode(bits_per_pixel=2).sarcomp.decode())["scale"] == "power"


def test_one_polarization_is_not_compared_with_another(dataset):
    for other in (dataset.vh, dataset[["vh"]], dataset.vh.rename("x").assign_attrs(polarization="VH")):
        with pytest.raises(DimensionError, match=r"'(vh|x \(VH\))'.* in restored, expected \['vv'\]"):
            compare(dataset.vv, other)
    assert compare(dataset.vv, dataset.vv.rename("restored"))["rmse_db"] == 0


def raster(dataset, *labels):
    """Bands of one variable, as rioxarray opens them."""
    angle = xr.full_like(dataset.vv, 35.0)
    bands = [{"vv": dataset.vv, "vh": dataset.vh}.get(label.lower(), angle) for label in labels]
    joined = xr.concat(bands, dim="band", combine_attrs="drop", coords="minimal", compat="override")
    return joined.assign_attrs(long_name=labels).to_dataset(name="band_data")


def test_bands_are_matched_with_variables_and_bands_in_another_order_by_polarization(dataset):
    expected = compare(dataset, dataset * 1.1)
    restored = dataset * 1.1
    for labels in (("vv", "vh"), ("VH", "VV"), ("vh", "incidence_angle", "vv")):
        assert compare(raster(dataset, *labels), restored) == pytest.approx(expected, nan_ok=True)
        assert compare(dataset, raster(restored, *labels)) == pytest.approx(expected, nan_ok=True)
    for labels in (("vv", "vh"), ("vh", "vv")):
        assert compare(raster(dataset, *labels), raster(restored, "vv", "vh"))["rmse_db"] == pytest.approx(
            0.414, abs=1e-3
        )
    assert compare(dataset.vh, raster(dataset, "vv", "vh"))["rmse_db"] == 0


def test_a_raster_of_one_band_is_matched_with_its_variable(dataset):
    single = dataset[["vv"]].drop_attrs().expand_dims("band").rename(vv="band_data")
    assert compare(dataset.vv, single)["rmse_db"] == compare(single, dataset.vv)["rmse_db"] == 0
    single.band_data.attrs["long_name"] = "VH"
    with pytest.raises(DimensionError, match=r"band_data \(VH\)"):
        compare(dataset.vv, single)


def test_bands_that_are_missing_are_named(dataset):
    with pytest.raises(
        DimensionError, match=r"found variables \['vv'\] in restored, expected \['band_data \(VV, VH\)'\]"
    ):
        compare(raster(dataset, "vv", "vh"), dataset.vv)
