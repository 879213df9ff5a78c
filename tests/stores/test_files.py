"""Scenes from files and back, and the sizes of stores; also every real scene through both kinds of stores."""

import numpy as np
import pytest
import rioxarray
import xarray as xr

from xsarcomp.benchmarks.classical import JpegXl
from xsarcomp.benchmarks.measurement import measured_curve
from xsarcomp.errors import ConfigurationError, DimensionError, NotEncodedError
from xsarcomp.metrics.rate_distortion import rmse_at_rates
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.stores.report import store_report

pytestmark = pytest.mark.slow

STORES = ("latents", "transparent")


def write(scene, path, kind, **request):
    """Write a store as the command does."""
    if kind == "latents":
        files.write_store(scene.sarcomp.encode(**request), str(path))
    else:
        files.write_store(scene, str(path), encoding=scene.sarcomp.encoding(**request))


@pytest.fixture(scope="module")
def small():
    return simulated_dataset((72, 80), 5)


@pytest.fixture
def geotiff(small, tmp_path):
    bands = xr.concat([small.vv, small.vh], dim="band", combine_attrs="drop")
    bands.assign_attrs(long_name=("vv", "vh")).rio.write_nodata(np.nan).rio.to_raster(tmp_path / "scene.tif")
    return tmp_path / "scene.tif"


def test_zarr_stores_are_known_by_their_content(small, tmp_path):
    small.to_zarr(tmp_path / "store", zarr_format=3, consolidated=False)
    small.to_zarr(tmp_path / "old", zarr_format=2, consolidated=True)
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "scene.tif").touch()
    assert files.is_zarr(str(tmp_path / "store"))
    assert files.is_zarr(str(tmp_path / "old"))
    assert files.is_zarr("s3://bucket/scene.zarr/")
    assert not files.is_zarr(str(tmp_path / "empty.zarr"))
    assert not files.is_zarr(str(tmp_path / "scene.tif"))


def test_raster_opens_lazily_with_its_nodata_number(small, tmp_path):
    filled = small.vv.fillna(-9999.0).rio.write_nodata(-9999.0)
    filled.rio.to_raster(tmp_path / "scene.tif")
    scene = files.open_scene(str(tmp_path / "scene.tif"))
    assert scene.band_data.chunks is not None
    assert scene.band_data.dtype == np.float32
    assert not {"scale_factor", "add_offset"} & set(scene.band_data.attrs)
    np.testing.assert_array_equal(scene.band_data.isel(band=0).values, filled.values)


def test_packing_of_a_raster_is_not_forgotten(tmp_path):
    packed = simulated_dataset((20, 24), 1, "decibel").vv.fillna(0)
    packed = (100 * packed).round().astype(np.int16)
    packed.attrs = {"scale_factor": 0.01, "add_offset": 0.0}
    packed.rio.to_raster(tmp_path / "packed.tif")
    scene = files.open_scene(str(tmp_path / "packed.tif"))
    assert scene.band_data.attrs["scale_factor"] == 0.01


def test_latents_store_opens_decoded(small, tmp_path):
    write(small.chunk(), tmp_path / "a.zarr", "latents", bits_per_pixel=2)
    scene = files.open_scene(str(tmp_path / "a.zarr"))
    assert set(scene.data_vars) == {"vv", "vh"}
    assert set(files.open_store(str(tmp_path / "a.zarr")).data_vars) >= {
        "vv_latents",
        "vv_mask",
        "vh_latents",
        "vh_mask",
    }
    assert scene.rio.crs == small.rio.crs


@pytest.mark.parametrize("opener", [files.open_scene, store_report])
def test_missing_path_is_named(tmp_path, opener):
    with pytest.raises(FileNotFoundError, match="absent"):
        opener(str(tmp_path / "absent.zarr"))


def test_existing_store_is_kept_unless_asked(small, tmp_path):
    path = tmp_path / "a.zarr"
    write(small, path, "latents")
    with pytest.raises(ConfigurationError, match="--overwrite"):
        files.write_store(small, str(path))
    assert "vv_latents" in files.open_store(str(path))
    files.write_store(small, str(path), overwrite=True)
    assert "vv" in files.open_store(str(path))


def test_folder_that_is_no_store_is_never_removed(small, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.txt").write_text("keep")
    with pytest.raises(ConfigurationError, match="not overwritten"):
        files.write_store(small, str(tmp_path / "photos"), overwrite=True)
    assert (tmp_path / "photos/one.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("source", "target", "is_refused"),
    [
        ("a.zarr", "a.zarr", True),
        ("a.zarr", "./x/../a.zarr/", True),
        ("a.zarr", "a.zarr/inner.zarr", True),
        ("a.zarr/group", "a.zarr", True),
        ("a.zarr", "a.zarr2", False),
        ("a.tif", "b.zarr", False),
        ("s3://bucket/a.zarr", "a.zarr", False),
    ],
)
def test_what_is_read_is_not_written_over(tmp_path, monkeypatch, source, target, is_refused):
    monkeypatch.chdir(tmp_path)
    if is_refused:
        with pytest.raises(ConfigurationError, match="choose another name"):
            files.refuse_overlapping(source, target)
    else:
        files.refuse_overlapping(source, target)


def test_variables_become_named_bands(small, tmp_path):
    write(small, tmp_path / "a.zarr", "latents", bits_per_pixel=2)
    files.write_scene(files.open_scene(str(tmp_path / "a.zarr")), str(tmp_path / "a.tif"))
    restored = rioxarray.open_rasterio(tmp_path / "a.tif")
    assert set(restored.attrs["long_name"]) == {"vv", "vh"}
    assert restored.rio.crs == small.rio.crs
    assert restored.rio.transform() == small.rio.transform()
    for name, band in zip(restored.attrs["long_name"], restored, strict=True):
        np.testing.assert_array_equal(np.isnan(band.values), small[name].isnull().values)
        error = 10 * np.log10(band.values / small[name].values)
        assert np.sqrt(np.nanmean(error**2)) < 1


@pytest.mark.parametrize("ending", ["png", "", "hdf"])
def test_unknown_ending_is_refused(small, tmp_path, ending):
    with pytest.raises(ConfigurationError, match=r"expected \.tif, \.nc or \.zarr"):
        files.write_scene(small, str(tmp_path / f"scene.{ending}"))


def test_existing_file_is_kept_unless_asked(small, tmp_path):
    (tmp_path / "a.nc").write_text("keep")
    with pytest.raises(ConfigurationError, match="--overwrite"):
        files.write_scene(small, str(tmp_path / "a.nc"))
    assert (tmp_path / "a.nc").read_text() == "keep"
    files.write_scene(small, str(tmp_path / "a.nc"), overwrite=True)
    xr.testing.assert_equal(xr.open_dataset(tmp_path / "a.nc", decode_coords="all"), small)


def test_stack_does_not_fit_a_geotiff(small, tmp_path):
    stack = xr.concat([small, small], dim="time")
    with pytest.raises(DimensionError, match=r"write \.nc or \.zarr"):
        files.write_scene(stack, str(tmp_path / "a.tif"))


@pytest.mark.parametrize("kind", STORES)
def test_report_counts_every_byte(small, tmp_path, kind):
    path = tmp_path / "a.zarr"
    write(small, path, kind, bits_per_pixel=2)
    report = store_report(str(path))
    everything = {file: file.stat().st_size for file in path.rglob("*") if file.is_file()}
    coded = sum(size for file, size in everything.items() if file.parts[-1] != "zarr.json" and "v" in file.parts[-5][0])
    assert report.stored_bytes == sum(everything.values())
    assert report.pixels == small.vv.size + small.vh.size
    assert report.bits_per_pixel == 8 * report.payload_bytes / report.pixels
    assert 0 < report.payload_bytes <= max(coded, report.payload_bytes) < report.stored_bytes
    assert set(report.variables) == {"vv", "vh"}
    assert report.model == "s1-grd-10m"


def test_store_of_a_model_that_is_not_installed_is_reported_with_its_id(small, tmp_path, monkeypatch):
    write(small, tmp_path / "a.zarr", "latents")
    monkeypatch.setattr("xsarcomp.codec.installed_models.model_folders", list)
    report = store_report(str(tmp_path / "a.zarr"))
    assert len(report.model) == 64


def test_plain_store_has_no_report(small, tmp_path):
    small.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(NotEncodedError, match="nothing that xsarcomp compressed"):
        store_report(str(tmp_path / "a.zarr"))


def chips(folder):
    return sorted(path for path in folder.glob("*/grd_decibel/*.tif") if not path.stem.endswith("_water"))


def assert_survives(original, restored, scale):
    """Same frame; invalid pixels the same bits; valid pixels near."""
    assert restored.dtype == original.dtype
    assert restored.dims == original.dims
    for dimension in original.dims:
        xr.testing.assert_equal(restored[dimension].variable, original[dimension].variable)
    assert restored.rio.transform() == original.rio.transform()
    first, second = original.values, restored.values
    nodata = original.attrs.get("_FillValue", np.nan)
    valid = np.isfinite(first) & (first != nodata) & ((first > 0) | (scale == "decibel"))
    np.testing.assert_array_equal(first[~valid].view(np.uint32), second[~valid].view(np.uint32))
    if valid.any():
        first, second = first[valid].astype(float), second[valid].astype(float)
        error = second - first if scale == "decibel" else 10 * np.log10(second / first)
        assert np.sqrt(np.mean(error**2)) < 2.5


@pytest.mark.data
@pytest.mark.parametrize("kind", STORES)
def test_every_real_chip_survives(sar_data, tmp_path, kind):
    assert len(chips(sar_data)) >= 14
    for number, path in enumerate(chips(sar_data)):
        # the middle holds the gaps of all chips that have any, too
        scene = files.open_scene(str(path)).isel(y=slice(0, 352), x=slice(160, 512)).load()
        store = tmp_path / f"{number}.zarr"
        write(scene, store, kind, model="s1-grd-10m" if number % 4 == 0 else "s1-grd-10m-lapped")
        if kind == "latents":
            restored = files.open_scene(str(store))
        else:  # nodata numbers as they stand in the store
            restored = xr.open_dataset(store, engine="zarr", decode_coords="all", mask_and_scale=False)
            restored = restored.assign_coords(spatial_ref=scene.spatial_ref)
        assert_survives(scene.band_data, restored.band_data, "decibel")
        assert restored.rio.crs == scene.rio.crs


@pytest.mark.data
@pytest.mark.parametrize("kind", STORES)
def test_every_real_time_stack_survives(sar_data, tmp_path, kind):
    paths = sorted(sar_data.glob("*/rtc_stacks/*.nc"))
    assert len(paths) >= 10
    for number, path in enumerate(paths):
        scene = files.open_scene(str(path)).isel(time=slice(number, None, 12)).load()
        store = tmp_path / f"{number}.zarr"
        write(scene, store, kind, model="s1-grd-10m" if number % 4 == 0 else "s1-grd-10m-lapped")
        restored = files.open_scene(str(store))
        if "spatial_ref" in scene.variables:  # not all stacks have one
            assert restored.spatial_ref.attrs == scene.spatial_ref.attrs
        names = {"vv", "vh"} & set(scene.data_vars)
        assert names
        for name in names:
            assert_survives(scene[name], restored[name], "power")


def assert_better_than_jpeg_xl(paths, tmp_path):
    """Compare errors at one bit per pixel; whole chunks with mask and headers against whole streams."""
    pytest.importorskip("imagecodecs")
    for path in paths:
        scene = files.open_scene(str(path)).load()
        write(scene, tmp_path / f"{path.stem}.zarr", "latents", bits_per_pixel=1)
        report = store_report(str(tmp_path / f"{path.stem}.zarr"))
        metrics = files.open_scene(str(tmp_path / f"{path.stem}.zarr")).sarcomp.compare(scene, scale="decibel")
        nodata = scene.band_data.attrs.get("_FillValue", np.nan)
        planes = [np.where(plane == nodata, np.nan, plane) for plane in scene.band_data.values]
        points = measured_curve(JpegXl(settings=(0.25, 0.5, 1.0, 1.5, 2.2, 3.2, 4.6)), planes)
        (classical,) = rmse_at_rates(points, [report.bits_per_pixel])
        assert report.bits_per_pixel == pytest.approx(1, rel=0.06)
        assert metrics["rmse_db"] < 0.97 * classical, path.stem


def chips_kept_apart(sar_data):
    """Chips of places that were neither trained nor tuned on."""
    return [path for path in sorted((sar_data / "test/grd_decibel").glob("*.tif")) if not path.stem.endswith("_water")]


@pytest.mark.data
def test_error_at_one_bit_per_pixel_is_below_that_of_jpeg_xl(sar_data, tmp_path):
    assert_better_than_jpeg_xl(chips_kept_apart(sar_data)[:1], tmp_path)


@pytest.mark.data
@pytest.mark.soak
def test_error_at_one_bit_per_pixel_is_below_that_of_jpeg_xl_on_every_chip(sar_data, tmp_path):
    assert_better_than_jpeg_xl(chips_kept_apart(sar_data), tmp_path)
