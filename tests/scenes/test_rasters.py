"""GeoTIFF and NetCDF files: the same values, georeference and nodata after a round trip."""

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr

from xsarcomp.errors import DimensionError, MissingDependencyError
from xsarcomp.scenes import rasters
from xsarcomp.scenes.simulation import simulated_dataset


@pytest.fixture(scope="module")
def scene():
    return simulated_dataset((40, 52), 3)


@pytest.fixture(scope="module")
def large():
    """A scene of several tiles."""
    return simulated_dataset((600, 1100), 3)


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_geotiff_keeps_values_georeference_and_order_of_polarizations(scene, tmp_path, is_lazy):
    path = str(tmp_path / "scene.tif")
    dataset = scene.chunk(y=16, x=16) if is_lazy else scene
    rasters.write_geotiff(dataset, ["vh", "vv"], path, measure_transform=True)
    raster = rasters.open_raster(path)[rasters.RASTER_VARIABLE]
    assert raster.chunks is not None
    assert raster.attrs["long_name"] == ("vv", "vh")
    assert raster.dtype == np.float32
    np.testing.assert_array_equal(raster.values, scene[["vv", "vh"]].to_dataarray().values)
    assert raster.rio.crs == scene.rio.crs
    assert raster.rio.transform() == scene.rio.transform()


def test_a_nodata_number_stays_in_the_values_and_is_declared(scene, tmp_path):
    path = str(tmp_path / "scene.tif")
    filled = scene.vv.fillna(-9999.0).assign_attrs(_FillValue=-9999.0)
    rasters.write_geotiff(filled.to_dataset(), ["vv"], path, measure_transform=True)
    raster = rasters.open_raster(path)[rasters.RASTER_VARIABLE]
    assert raster.attrs["_FillValue"] == -9999.0
    np.testing.assert_array_equal(raster.squeeze("band").values, filled.values)


def test_only_a_packing_that_changes_values_is_kept(scene, tmp_path):
    plain, packed = str(tmp_path / "plain.tif"), str(tmp_path / "packed.tif")
    scene.vv.rio.to_raster(plain)
    xr.zeros_like(scene.vv, dtype=np.int16).assign_attrs(scale_factor=0.01, add_offset=0.0).rio.to_raster(packed)
    assert not {"scale_factor", "add_offset"} & set(rasters.open_raster(plain)[rasters.RASTER_VARIABLE].attrs)
    assert rasters.open_raster(packed)[rasters.RASTER_VARIABLE].attrs["scale_factor"] == 0.01


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: scene.expand_dims(time=2),
        lambda scene: scene.assign(vh=scene.vh.astype(np.float64)),
        lambda scene: scene.assign(vh=scene.vh.rename(y="row", x="column")),
    ],
    ids=["dates", "types", "sizes"],
)
def test_variables_that_are_no_bands_are_refused(scene, tmp_path, change):
    with pytest.raises(DimensionError, match=r"one size and type: write \.nc or \.zarr"):
        rasters.write_geotiff(change(scene), ["vv", "vh"], str(tmp_path / "scene.tif"), measure_transform=True)


def test_a_netcdf_keeps_values_coordinates_and_invalid_pixels(scene, tmp_path):
    path = str(tmp_path / "scene.nc")
    odd = scene.assign(vv=scene.vv.assign_attrs(bands=("a", "b"), nothing=None))
    rasters.write_netcdf(odd, path)
    with rasters.open_netcdf(path) as opened:
        assert opened.vv.chunks is not None
        xr.testing.assert_equal(opened.load(), scene)
        assert opened.rio.crs == scene.rio.crs
        assert opened.vv.attrs["bands"] == ["a", "b"]
        assert "nothing" not in opened.vv.attrs
    assert odd.vv.attrs["nothing"] is None


ATTRIBUTES = {
    "dictionary": ({"a": [1, None]}, '{"a": [1, null]}'),
    "mixed": ([1, "a"], '[1, "a"]'),
    "truth": (True, 1),
    "truths": ([True, False], [1, 0]),
    "truth beside a number": ([True, 2], "[true, 2]"),
    "nested": ([[1, 2], [3]], "[[1, 2], [3]]"),
    "table": (np.eye(2), "[[1.0, 0.0], [0.0, 1.0]]"),
    "empty": ([], "[]"),
    "large": (2**70, str(2**70)),
    "half": (np.float16(0.5), 0.5),
    "number": (np.uint64(2**64 - 1), 2**64 - 1),
    "numbers": ((1.5, 2.5), [1.5, 2.5]),
    "date": (np.datetime64("2024-05-01"), '"2024-05-01"'),
    "text": ("ä", "ä"),
    "texts": (("a", "b"), ["a", "b"]),
}


def test_attributes_that_netcdf_does_not_have_are_adapted(scene, tmp_path):
    path = str(tmp_path / "scene.nc")
    attributes = {name: value for name, (value, _) in ATTRIBUTES.items()}
    odd = scene.assign(vv=scene.vv.assign_attrs(attributes)).assign_attrs(attributes | {5: 5, "a/b\n": 1, "none": None})
    rasters.write_netcdf(odd, path)
    with rasters.open_netcdf(path) as opened:
        for found in (opened.attrs, opened.vv.attrs):
            assert "none" not in found
        assert (opened.attrs["5"], opened.attrs["a_b_"]) == (5, 1)
        for found in (opened.attrs, opened.vv.attrs):
            for name, (_, expected) in ATTRIBUTES.items():
                assert np.asarray(found[name]).tolist() == expected, name


def test_variables_that_netcdf_does_not_have_are_refused_by_name(scene, tmp_path):
    odd = scene.assign(wave=scene.vv.astype(np.complex64).variable.to_base_variable())
    odd["wave"] = odd.wave.astype(object)
    with pytest.raises(DimensionError, match=r"NetCDF cannot hold all of .*wave \(object\).*Write \.zarr instead"):
        rasters.write_netcdf(odd, str(tmp_path / "scene.nc"))


def tiles(path):
    """Number of tiles of a GeoTIFF and the bytes that they take."""
    with rasterio.open(path) as file:
        sizes = [
            int(file.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band))
            for band in file.indexes
            for (row, column), _ in file.block_windows(band)
        ]
    return len(sizes), sum(sizes)


@pytest.mark.parametrize("chunk", [None, 300, 512, 700])
def test_a_geotiff_is_tiled_and_compressed_and_each_tile_is_in_it_once(large, tmp_path, chunk):
    scene = large
    path = str(tmp_path / "scene.tif")
    rasters.write_geotiff(scene.chunk(y=chunk, x=chunk) if chunk else scene, ["vv", "vh"], path, measure_transform=True)
    with rasterio.open(path) as file:
        assert file.block_shapes == [(512, 512)] * 2
        assert file.compression.name == "deflate"
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert file.descriptions == ("vv", "vh")
        assert file.crs == scene.rio.crs
        np.testing.assert_array_equal(file.read(), scene[["vv", "vh"]].to_dataarray())
    count, size = tiles(path)
    assert count == 12
    assert 0 <= (tmp_path / "scene.tif").stat().st_size - size < 4000, "nothing was written twice"
    assert size < 0.9 * 4 * 2 * 600 * 1100


@pytest.mark.parametrize("nodata", [np.nan, -9999.0])
def test_a_cloud_optimized_geotiff_has_overviews_and_keeps_the_rest(large, tmp_path, nodata):
    scene = large.fillna(nodata).assign_attrs(history="made")
    for array in scene.data_vars.values():
        array.attrs["_FillValue"] = nodata
    path = str(tmp_path / "scene.tif")
    rasters.write_geotiff(scene.chunk(), ["vv", "vh"], path, measure_transform=True, cloud_optimized=True)
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert file.overviews(1) == file.overviews(2) == [2, 4]
        assert file.block_shapes == [(512, 512)] * 2
        assert file.descriptions == ("vv", "vh")
        assert file.crs == scene.rio.crs
        assert file.transform == scene.rio.transform()
        np.testing.assert_equal(file.nodata, nodata)
        np.testing.assert_array_equal(file.read(), scene[["vv", "vh"]].to_dataarray())
    with rasterio.open(path, overview_level=0) as file:
        small, whole = file.read(1), scene.vv.values.reshape(300, 2, 550, 2)
    valid = np.isfinite(whole) & (whole != nodata)
    is_whole = valid.all(axis=(1, 3))
    np.testing.assert_allclose(small[is_whole], whole.mean(axis=(1, 3))[is_whole], rtol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize("ending", ["tif", "nc"])
def test_half_precision_is_written_in_single_precision(scene, tmp_path, ending):
    half, path = scene.map(lambda array: array.astype(np.float16)), str(tmp_path / f"scene.{ending}")
    if ending == "tif":
        rasters.write_geotiff(half, ["vv"], path, measure_transform=True)
        found = rasters.open_raster(path)[rasters.RASTER_VARIABLE][0]
    else:
        rasters.write_netcdf(half, path)
        found = rasters.open_netcdf(path).vv
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half.vv.astype(np.float32))


def test_integers_and_a_small_plane_become_cloud_optimized_too(tmp_path):
    for dtype in (np.uint16, np.float64):
        plane = (simulated_dataset((20, 24), 1, "decibel").vv.fillna(0) * -100).astype(dtype).drop_attrs()
        path = str(tmp_path / "scene.tif")
        rasters.write_geotiff(plane.to_dataset(), ["vv"], path, measure_transform=True, cloud_optimized=True)
        with rasterio.open(path) as file:
            assert file.dtypes == (np.dtype(dtype).name,)
            np.testing.assert_array_equal(file.read(1), plane)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n"])
def test_files_of_another_kind_are_named(tmp_path, content):
    for name in ("a.nc", "a.tif"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(OSError, match=r"a\.nc cannot be opened as NetCDF"):
        rasters.open_netcdf(str(tmp_path / "a.nc"))
    with pytest.raises(OSError, match=r"a\.tif cannot be opened as a raster .*expected a GeoTIFF"):
        rasters.open_raster(str(tmp_path / "a.tif"))


def test_netcdf_without_a_library_says_which_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(xr.backends, "list_engines", dict)
    for call in (lambda: rasters.open_netcdf("a.nc"), lambda: rasters.write_netcdf(xr.Dataset(), "a.nc")):
        with pytest.raises(MissingDependencyError, match="pip install netCDF4"):
            call()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file:///data/a%20b.tif", "/data/a b.tif"),
        ("file:/data/a%20b.tif", "/data/a b.tif"),
        ("file://localhost/data/a%2520b.tif", "/data/a%20b.tif"),
        ("/data/a%20b.tif", "/data/a%20b.tif"),
        ("s3://bucket/a.zarr", "s3://bucket/a.zarr"),
    ],
)
def test_file_urls_become_paths(path, expected):
    assert rasters.local_path(path) == expected


@pytest.mark.slow
def test_processes_write_a_geotiff_as_threads_do(scene, tmp_path):
    paths = {name: str(tmp_path / f"{name}.tif") for name in ("threads", "processes")}
    for name, path in paths.items():
        with dask.config.set(scheduler=name, num_workers=2):
            rasters.write_geotiff(scene.chunk(y=16, x=16), ["vh", "vv"], path, measure_transform=True)
    xr.testing.assert_identical(*(rasters.open_raster(path).load() for path in paths.values()))
