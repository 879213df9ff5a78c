"""Encoding through a store: scenes of any dimensions, names, types and invalid values come back within the error."""

import numpy as np
import pytest
import xarray as xr

from tests.support.speckle_arrays import array, speckle, through_store
from xsarcomp.errors import DomainWarning
from xsarcomp.latents.loss import LOSS_ATTRIBUTE

pytestmark = pytest.mark.slow

LARGEST_DIFFERENCE_DB = 8.0
"""Far above the error at 2 bits per pixel (0.3 dB RMS), far below what a wrong place or scale would give."""


def assert_restored(original, decoded, scale="power"):
    """Same frame, same invalid values bit for bit, valid values near."""
    assert decoded.dims == original.dims
    assert decoded.dtype == original.dtype
    assert decoded.name == original.name
    xr.testing.assert_identical(decoded.coords.to_dataset(), original.coords.to_dataset())
    attributes = {name: value for name, value in decoded.attrs.items() if name != LOSS_ATTRIBUTE}
    assert attributes == original.attrs
    expected, found = original.values.astype(np.float64), decoded.values.astype(np.float64)
    valid = np.isfinite(expected) & ((expected > 0) | (scale == "decibel"))
    np.testing.assert_array_equal(decoded.values[~valid], original.values[~valid])
    if scale != "decibel":
        factor = 10 if scale == "power" else 20
        expected, found = (factor * np.log10(values[valid]) for values in (expected, found))
    else:
        expected, found = expected[valid], found[valid]
    assert np.abs(found - expected).max(initial=0) < LARGEST_DIFFERENCE_DB


def test_a_scene_comes_back_with_coordinates_attributes_and_reference_system(scene, tmp_path):
    stored = through_store(scene.sarcomp.encode(bits_per_pixel=2), tmp_path / "scene.zarr")
    decoded = stored.sarcomp.decode()
    for name in ("vv", "vh"):
        assert_restored(scene[name], decoded[name])
        assert decoded[name].rio.crs == scene[name].rio.crs
        assert decoded[name].rio.transform() == scene[name].rio.transform()
    assert decoded.attrs == scene.attrs
    assert set(decoded.variables) == set(scene.variables)


def test_the_file_and_the_memory_decode_to_the_same_values(scene, tmp_path):
    encoded = scene.sarcomp.encode(bits_per_pixel=1)
    stored = through_store(encoded, tmp_path / "scene.zarr")
    xr.testing.assert_identical(stored.sarcomp.decode().compute(), encoded.sarcomp.decode())


def test_the_input_is_left_as_it_was(scene):
    original = scene.chunk(y=100).copy()
    original["angle"] = original.vv * 0
    original["angle"].encoding = {"chunks": (7, 7), "dtype": "int16", "scale_factor": 0.1}
    before = original.copy(deep=True)
    encoded = original.sarcomp.encode(bits_per_pixel=1)
    encoded.compute().sarcomp.decode()
    xr.testing.assert_identical(original, before)
    assert original.angle.encoding == {"chunks": (7, 7), "dtype": "int16", "scale_factor": 0.1}
    assert "chunks" not in encoded.angle.encoding


def test_other_variables_stay_as_they_are(scene, tmp_path):
    angle = array(np.linspace(30, 45, scene.vv.size).reshape(scene.vv.shape), name="angle").assign_coords(
        scene.vv.coords
    )
    original = scene.assign(angle=angle, orbit=((), 5))
    decoded = through_store(original.sarcomp.encode(), tmp_path / "scene.zarr").sarcomp.decode()
    xr.testing.assert_equal(decoded.angle, original.angle)
    assert int(decoded.orbit) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [
        ({"x": 40, "y": 50}, None),
        ({"time": 3, "y": 40, "x": 50}, None),
        ({"y": 40, "x": 50, "time": 3}, {"y": 17, "time": 2}),
        ({"time": 2, "polarization": 2, "lat": 40, "lon": 33}, {"time": 1}),
        ({"lon": 33, "time": 2, "lat": 40}, {"lon": 8}),
        ({"Y": 41, "X": 30}, {}),
        ({"time": 130, "y": 8, "x": 8}, {"time": 7}),
    ],
    ids=str,
)
def test_dimensions_of_any_number_and_order(tmp_path, sizes, chunks):
    original = array(speckle(list(sizes.values())), *sizes, name="backscatter")
    original = original.assign_coords({name: np.arange(size) * 1.5 for name, size in sizes.items()})
    given = original if chunks is None else original.chunk(chunks)
    stored = through_store(given.sarcomp.encode(bits_per_pixel=2), tmp_path / "a.zarr")
    assert_restored(original, stored.sarcomp.decode().backscatter)


@pytest.mark.parametrize("names", [("vv", "vh"), ("VV", "VH"), ("gamma0_vv", "gamma0_vh")])
def test_polarizations_as_variables_in_upper_and_lower_case(names):
    original = xr.Dataset({name: array(speckle((40, 40), seed), name=name) for seed, name in enumerate(names)})
    encoded = original.sarcomp.encode(bits_per_pixel=2)
    assert set(encoded.data_vars) == {f"{name}_{part}" for name in names for part in ("latents", "mask", "coding")}
    for name in names:
        assert_restored(original[name], encoded.sarcomp.decode()[name])


def test_an_array_without_a_name_is_called_backscatter(tmp_path):
    original = array(speckle((30, 20)), name=None)
    decoded = through_store(original.sarcomp.encode(bits_per_pixel=2), tmp_path / "a.zarr").sarcomp.decode()
    assert list(decoded.data_vars) == ["backscatter"]
    assert_restored(original.rename("backscatter"), decoded.backscatter)


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", ">f8"])
@pytest.mark.parametrize("chunks", [None, {"x": 20}], ids=["memory", "dask"])
def test_floating_point_types_and_byte_orders_come_back(tmp_path, dtype, chunks):
    values = speckle((40, 50)).astype(dtype)
    values[3, 4] = np.nan
    given = array(values) if chunks is None else array(values).chunk(chunks)
    decoded = given.sarcomp.encode(bits_per_pixel=2).sarcomp.decode().vv
    assert decoded.dtype.str == values.dtype.str
    assert_restored(array(values), decoded)


def test_integer_amplitude_is_accepted_where_it_is_called_so(tmp_path):
    values = np.rint(1000 * np.sqrt(speckle((60, 60)))).astype(np.uint16)
    values[:5] = 0
    original = array(values)
    with pytest.warns(UserWarning, match="outside the"):
        encoded = original.sarcomp.encode(bits_per_pixel=3, scale="amplitude")
    assert_restored(original, through_store(encoded, tmp_path / "a.zarr").sarcomp.decode().vv, scale="amplitude")


@pytest.mark.parametrize("scale", ["power", "amplitude", "decibel"])
def test_every_scale_comes_back_on_itself(scale):
    from xsarcomp.scenes.simulation import simulated_dataset

    original = simulated_dataset((64, 72), seed=2, scale=scale)
    encoded = original.sarcomp.encode(bits_per_pixel=2)
    assert encoded.sarcomp.info()["vv"]["scale"] == scale
    assert_restored(original.vv, encoded.sarcomp.decode().vv, scale)


INVALID = {
    "nan": (np.nan, {}),
    "zero": (0.0, {}),
    "negative zero": (-0.0, {}),
    "declared zero": (0.0, {"_FillValue": 0.0}),
    "declared number": (-9999.0, {"nodata": -9999.0}),
    "declared number as a tuple": (-32768.0, {"nodatavals": (-32768.0,)}),
    "infinity": (np.inf, {}),
    "negative infinity": (-np.inf, {}),
    "negative power": (-1.25e-4, {}),
}


@pytest.mark.parametrize("chunks", [None, {"y": 20}], ids=["memory", "dask"])
@pytest.mark.parametrize("case", INVALID)
def test_invalid_pixels_come_back_bit_for_bit(tmp_path, case, chunks):
    value, attributes = INVALID[case]
    values = speckle((50, 60))
    values[:9] = value
    values[30, 10:20] = value
    values[:, -1] = np.nan
    original = array(values, **attributes)
    given = original if chunks is None else original.chunk(chunks)
    encoded = given.sarcomp.encode(bits_per_pixel=2, scale="power")
    encoded.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    decoded = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).sarcomp.decode().vv
    is_value = np.isnan(values) if np.isnan(value) else values == np.float32(value)
    np.testing.assert_array_equal(decoded.values[is_value].view(np.uint32), values[is_value].view(np.uint32))
    assert_restored(original, decoded)
    assert np.isfinite(decoded.values[~is_value & ~np.isnan(values)]).all()


def test_a_fill_value_that_was_masked_on_opening_stays_in_the_encoding(tmp_path):
    original = array(speckle((40, 40)))
    original[:5] = np.nan
    original.encoding["_FillValue"] = -9999.0
    decoded = through_store(original.sarcomp.encode(bits_per_pixel=2), tmp_path / "a.zarr").sarcomp.decode().vv
    assert_restored(original, decoded)
    assert decoded.encoding["_FillValue"] == -9999.0


@pytest.mark.parametrize("value", [np.nan, 0.0])
@pytest.mark.parametrize("chunks", [None, 20], ids=["memory", "dask"])
def test_a_scene_without_any_valid_pixel(tmp_path, value, chunks):
    original = array(np.full((50, 30), value, np.float32))
    given = original if chunks is None else original.chunk(chunks)
    decoded = (
        through_store(given.sarcomp.encode(bits_per_pixel=1, scale="power"), tmp_path / "a.zarr").sarcomp.decode().vv
    )
    np.testing.assert_array_equal(decoded.values, original.values)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 9), (8, 8), (2, 1, 3)])
@pytest.mark.parametrize("chunks", [None, 1], ids=["memory", "dask"])
def test_tiny_arrays(tmp_path, shape, chunks):
    original = array(speckle(shape), *("time", "y", "x")[-len(shape) :])
    given = original if chunks is None else original.chunk(chunks)
    decoded = through_store(given.sarcomp.encode(bits_per_pixel=2000), tmp_path / "a.zarr").sarcomp.decode().vv
    assert_restored(original, decoded)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 5, 5)])
@pytest.mark.parametrize("chunks", [None, 5], ids=["memory", "dask"])
def test_empty_arrays_stay_empty(tmp_path, shape, chunks):
    original = array(speckle(shape), *("time", "y", "x")[-len(shape) :])
    given = original if chunks is None else original.chunk(chunks)
    encoded = given.sarcomp.encode(bits_per_pixel=1)
    xr.testing.assert_equal(encoded.sarcomp.decode().vv.compute(), original)
    xr.testing.assert_equal(through_store(encoded, tmp_path / "a.zarr").sarcomp.decode().vv.compute(), original)


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")  # band names
def test_attributes_of_readers_survive_and_python_objects_are_left_out(tmp_path):
    attributes = {
        "transform": (10.0, 0.0, 5e5),
        "resolution": np.float32(10),
        "flag": np.bool_(True),
        "epsg": np.int64(32632),
    }
    original = array(speckle((2, 1, 40, 40)), "time", "band", "y", "x", name="stackstac", **attributes, spec=object())
    original = original.assign_coords(band=["vv"], epsg=32632)
    with pytest.warns(UserWarning, match=r"'stackstac'.*spec \(object\)"):
        encoded = original.sarcomp.encode(bits_per_pixel=2)
    del original.attrs["spec"]
    assert_restored(original, through_store(encoded, tmp_path / "a.zarr").sarcomp.decode().stackstac)


def test_nodata_of_an_attribute_as_open_data_cube_gives_it(tmp_path):
    values = speckle((40, 40))
    values[:, :7] = -32768
    original = xr.Dataset({"vv": array(values, nodata=-32768)}).assign_coords(spatial_ref=32632)
    original.vv.encoding["grid_mapping"] = "spatial_ref"
    stored = through_store(original.chunk(y=16).sarcomp.encode(bits_per_pixel=2), tmp_path / "a.zarr")
    decoded = stored.sarcomp.decode()
    assert_restored(original.vv, decoded.vv)
    assert decoded.vv.encoding["grid_mapping"] == "spatial_ref"
    assert decoded.vv.attrs["nodata"] == -32768


@pytest.mark.slow
@pytest.mark.parametrize("masked", [True, False])
def test_a_real_scene_comes_back_through_a_store(sar_data, tmp_path, masked):
    import rioxarray

    file = sar_data / "validation/grd_decibel/Bolivia_312675.tif"
    original = rioxarray.open_rasterio(file, masked=masked, chunks={"x": 200, "y": 300})
    encoded = original.sarcomp.encode(bits_per_pixel=1)
    decoded = through_store(encoded, tmp_path / "a.zarr").sarcomp.decode()
    name = original.name or "backscatter"
    decoded = decoded[name]
    assert decoded.rio.crs == original.rio.crs
    assert decoded.rio.transform() == original.rio.transform()
    assert decoded.attrs["long_name"] == original.attrs["long_name"]
    np.testing.assert_array_equal(np.isnan(decoded), np.isnan(original))
    error = float(np.sqrt(((decoded - original) ** 2).mean()))
    assert 0.3 < error < 1.0  # design.md: 0.66 to 0.79 dB at this rate


def test_a_real_scene_of_nothing_but_nan(sar_data):
    import rioxarray

    original = rioxarray.open_rasterio(sar_data / "validation/grd_decibel/Paraguay_34417.tif", masked=True)
    decoded = original.sarcomp.encode(bits_per_pixel=1).sarcomp.decode()
    assert np.isnan(decoded["backscatter"]).all()


def test_a_real_stack_of_power_with_time(sar_data, tmp_path):
    pytest.importorskip("netCDF4")
    with xr.open_dataset(
        sar_data / "validation/rtc_stacks/T137-292320-IW1.nc", chunks={}, decode_coords="all"
    ) as stack:
        part = stack.isel({next(iter(set(stack.dims) - {"y", "x"})): slice(0, 4)}).load().set_coords("spatial_ref")
    with pytest.warns(DomainWarning, match="wider pixel spacing"):  # of 30 m
        encoded = part.sarcomp.encode(bits_per_pixel=2)
    stored = through_store(encoded, tmp_path / "a.zarr")
    decoded, names = stored.sarcomp.decode(), list(stored.sarcomp.info())
    assert names
    for name in names:
        assert_restored(part[name].rename(name), decoded[name])
