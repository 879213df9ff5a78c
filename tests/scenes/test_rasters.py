"""GeoTIFF and NetCDF files: the same values, georeference and nodata after a round trip."""

import dask
import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import DimensionError
from xsarcomp.scenes import rasters
from xsarcomp.scenes.simulation import simulated_dataset


@pytest.fixture(scope="module")
def scene():
    return simulated_dataset((40, 52), 3)


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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file:///data/a%20b.tif", "/data/a b.tif"),
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
