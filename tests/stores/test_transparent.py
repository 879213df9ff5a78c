"""Transparent stores, through the accessor: ordinary Zarr arrays in both formats, however they are written and read."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.laws import check_near
from xsarcomp.errors import AlreadyLossyError, BitstreamError, ConfigurationError, DimensionError, ModelNotFoundError
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])


@pytest.fixture(scope="module")
def speckled_array():
    values = np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (200, 230)).astype(np.float32)
    values[:20, :30] = np.nan
    return xr.DataArray(values, dims=("y", "x"), name="vv", attrs={"units": "1"})


def write(original, path, zarr_format=3, encoding=None, bits_per_pixel=2, **options):
    dataset = original.to_dataset() if isinstance(original, xr.DataArray) else original
    encoding = encoding or original.sarcomp.encoding(bits_per_pixel=bits_per_pixel, zarr_format=zarr_format)
    dataset.to_zarr(path, zarr_format=zarr_format, consolidated=False, encoding=encoding, **options)
    return xr.open_zarr(path, consolidated=False)


@FORMATS
@pytest.mark.parametrize("chunks", [None, 64, {"y": 100, "x": -1}], ids=str)
def test_any_reader_sees_backscatter(speckled_array, tmp_path, zarr_format, chunks):
    original = speckled_array if chunks is None else speckled_array.chunk(chunks)
    found = write(original, tmp_path / "a.zarr", zarr_format).vv
    check_near(found.values, speckled_array.values)
    assert found.attrs == speckled_array.attrs
    stored = zarr.open_array(tmp_path / "a.zarr/vv", mode="r")
    check_near(stored[:], speckled_array.values)
    assert stored.chunks == (original.data.chunksize if chunks is not None else (200, 230))


@FORMATS
def test_the_reference_system_survives(scene, tmp_path, zarr_format):
    encoding = scene.sarcomp.encoding(bits_per_pixel=1, zarr_format=zarr_format)
    write(scene, tmp_path / "a.zarr", zarr_format, encoding)
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, decode_coords="all")
    assert found.vv.rio.crs == scene.vv.rio.crs
    assert found.vv.rio.transform() == scene.vv.rio.transform()
    check_near(found.vh.values, scene.vh.values)


@FORMATS
def test_the_rate_is_met_in_stored_bytes(tmp_path, zarr_format):
    values = np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (512, 512)).astype(np.float32)
    original = xr.DataArray(values, dims=("y", "x"), name="vv").chunk(256)
    write(original, tmp_path / "a.zarr", zarr_format, bits_per_pixel=1)
    assert 8 * chunk_bytes(tmp_path / "a.zarr/vv") / values.size == pytest.approx(1, rel=0.05)


def test_padding_of_chunks_at_the_edge_costs_little(tmp_path):
    """Zarr hands every chunk over in full shape; what lies beyond the scene must cost few bits."""
    values = np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (280, 280)).astype(np.float32)
    original = xr.DataArray(values, dims=("y", "x"), name="vv").chunk(256)
    write(original, tmp_path / "a.zarr", bits_per_pixel=1)
    corner = (tmp_path / "a.zarr/vv/c/1/1").stat().st_size
    # 24 x 24 pixels at 2 bits at most, a header and a mask; the 64960 beyond them 0.05 bits each at most
    assert 8 * corner < 2 * 24 * 24 + 8 * 96 + 0.05 * (256 * 256 - 24 * 24)


def test_chunks_without_a_valid_pixel_are_not_written(speckled_array, tmp_path):
    original = speckled_array.copy()
    original[:100, :100] = np.nan
    found = write(original.chunk(100), tmp_path / "a.zarr").vv
    check_near(found.values, original.values)
    assert not (tmp_path / "a.zarr/vv/c/0/0").exists()
    assert (tmp_path / "a.zarr/vv/c/1/1").exists()


@FORMATS
def test_a_scene_of_nothing_but_nan(tmp_path, zarr_format):
    original = xr.DataArray(np.full((30, 30), np.nan, np.float32), dims=("y", "x"), name="vv")
    assert np.isnan(write(original, tmp_path / "a.zarr", zarr_format).vv).all()


@pytest.mark.parametrize("nodata", [0.0, -9999.0])
@FORMATS
def test_declared_nodata_comes_back_as_the_reader_expects(speckled_array, tmp_path, nodata, zarr_format):
    original = speckled_array.fillna(nodata).assign_attrs(_FillValue=np.float32(nodata))
    write(original.chunk(64), tmp_path / "a.zarr", zarr_format)
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).vv  # xarray masks declared fill values
    check_near(found.values, speckled_array.values)
    raw = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, mask_and_scale=False).vv
    np.testing.assert_array_equal(raw.values == np.float32(nodata), np.isnan(speckled_array.values))


@FORMATS
def test_a_fill_value_of_the_source_file_puts_no_numbers_in_place_of_nan(speckled_array, tmp_path, zarr_format):
    original = speckled_array.copy()
    original.encoding = {"_FillValue": -32768.0, "scale_factor": 0.1, "dtype": "int16", "chunks": (7, 7)}
    found = write(original, tmp_path / "a.zarr", zarr_format).vv
    check_near(found.values, speckled_array.values)


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4"])
@FORMATS
def test_other_floating_point_types(speckled_array, tmp_path, dtype, zarr_format):
    original = speckled_array.astype(dtype)
    found = write(original, tmp_path / "a.zarr", zarr_format, bits_per_pixel=3).vv
    check_near(found.values.astype("f8"), original.values.astype("f8"))
    assert found.dtype.itemsize == original.dtype.itemsize


def test_time_stacks_have_one_chunk_a_time(tmp_path):
    values = np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (3, 40, 50)).astype(np.float32)
    original = xr.DataArray(values, dims=("time", "y", "x"), name="vv")
    encoding = original.sarcomp.encoding(bits_per_pixel=2)
    assert encoding["vv"]["chunks"] == (1, 40, 50)
    check_near(write(original, tmp_path / "a.zarr", encoding=encoding).vv.values, values)


def chunk_bytes(folder):
    """Bytes of the chunks of an array."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr.json")))
    return sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("is_lazy", [False, True], ids=["in memory", "lazy"])
@pytest.mark.parametrize("dims", list(itertools.permutations(("y", "x", "band"))), ids=" ".join)
def test_planes_are_coded_whole_in_any_order_of_dimensions(tmp_path, dims, is_lazy):
    values = np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (2, 512, 400)).astype(np.float32)
    values[1, :20, :30] = np.nan
    original = xr.DataArray(values, dims=("band", "y", "x"), name="vv").transpose(*dims)
    original = original.chunk(y=256, x=-1, band=2) if is_lazy else original
    found = write(original, tmp_path / "a.zarr", bits_per_pixel=1).vv
    assert found.dims == dims
    xr.testing.assert_equal(found.isnull().load(), original.isnull().load())
    assert float(((10 * np.log10(found / original)) ** 2).mean()) < 4  # 9 between values of different places
    window = {"band": 1, "y": slice(30, 300, 7), "x": 50}
    xr.testing.assert_equal(found.isel(window).load(), found.compute().isel(window))
    assert 8 * chunk_bytes(tmp_path / "a.zarr/vv") / values.size == pytest.approx(1, rel=0.05)
    report = write_manifest(tmp_path / "a.zarr")
    assert report.ok
    assert verify_store(tmp_path / "a.zarr").ok
    chunk = next(file for file in (tmp_path / "a.zarr/vv/c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert [problem.problem for problem in verify_store(tmp_path / "a.zarr", quick=True).problems] == ["damaged"]


def test_format_2_takes_no_planes_across_the_chunk(speckled_array):
    scene = speckled_array.expand_dims(band=2)
    with pytest.raises(DimensionError, match=r"transpose\(\.\.\., 'y', 'x'\)"):
        scene.transpose("y", "x", "band").sarcomp.encoding(zarr_format=2)
    encoding = scene.transpose("band", "x", "y").sarcomp.encoding(zarr_format=2)
    assert encoding["vv"]["chunks"] == (1, 230, 200)


@FORMATS
def test_chunks_of_a_few_rows_are_refused_with_advice(speckled_array, zarr_format):
    with pytest.raises(DimensionError, match=r"1 \(y\) x 230 \(x\) pixels.*\.chunk\(y=512, x=512\)"):
        speckled_array.chunk(y=1).sarcomp.encoding(bits_per_pixel=1, zarr_format=zarr_format)
    with pytest.warns(UserWarning, match=r"8 \(y\) x 230 \(x\) pixels"):
        speckled_array.chunk(y=8).sarcomp.encoding(bits_per_pixel=1, zarr_format=zarr_format)
    assert speckled_array[:3].chunk(y=3).sarcomp.encoding(bits_per_pixel=2)["vv"]["chunks"] == (3, 230)


def test_shards(speckled_array, tmp_path):
    encoding = speckled_array.sarcomp.encoding(bits_per_pixel=2)
    encoding["vv"] |= {"chunks": (50, 50), "shards": (100, 100)}
    found = write(speckled_array, tmp_path / "a.zarr", encoding=encoding).vv
    check_near(found.values, speckled_array.values)
    check_near(found[60:70, 60:170].values, speckled_array[60:70, 60:170].values)


@FORMATS
def test_a_store_grows_along_time_with_the_codec_that_it_has(speckled_array, tmp_path, zarr_format):
    original = speckled_array.expand_dims(time=[0]).to_dataset()
    write(original, tmp_path / "a.zarr", zarr_format)
    original.assign_coords(time=[1]).to_zarr(tmp_path / "a.zarr", append_dim="time", consolidated=False)
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).vv
    assert found.sizes["time"] == 2
    np.testing.assert_array_equal(found[0].values, found[1].values)
    check_near(found[1].values, speckled_array.values)


@FORMATS
def test_regions_are_written_one_by_one(speckled_array, tmp_path, zarr_format):
    chunked = speckled_array.chunk(y=100, x=230)
    encoding = chunked.sarcomp.encoding(bits_per_pixel=2, zarr_format=zarr_format)
    write(chunked, tmp_path / "a.zarr", zarr_format, encoding, compute=False)
    for start in (0, 100):
        part = chunked.isel(y=slice(start, start + 100)).to_dataset()
        part.to_zarr(
            tmp_path / "a.zarr", region={"y": slice(start, start + 100), "x": slice(0, 230)}, consolidated=False
        )
    check_near(xr.open_zarr(tmp_path / "a.zarr", consolidated=False).vv.values, speckled_array.values)


@pytest.mark.slow
def test_reading_without_importing_xsarcomp(speckled_array, tmp_path):
    for zarr_format in (2, 3):
        write(speckled_array, tmp_path / f"{zarr_format}.zarr", zarr_format)
    program = (
        "import sys, zarr; "
        "means = [float(zarr.open_array(path + '/vv', mode='r')[100:].mean()) for path in sys.argv[1:]]; "
        "print(*means)"
    )
    paths = [str(tmp_path / "2.zarr"), str(tmp_path / "3.zarr")]
    result = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    first, second = map(float, result.stdout.split())
    assert first == second == pytest.approx(float(speckled_array[100:].mean()), rel=0.05)


@FORMATS
def test_what_was_opened_from_a_transparent_store_is_not_coded_again_unnoticed(speckled_array, tmp_path, zarr_format):
    found = write(speckled_array, tmp_path / "a.zarr", zarr_format)
    for method in (found.sarcomp.encode, found.sarcomp.encoding, found.vv.sarcomp.encode):
        with pytest.raises(AlreadyLossyError, match="recompress=True"):
            method(bits_per_pixel=1)
    assert "vv_latents" in found.sarcomp.encode(bits_per_pixel=1, recompress=True)
    assert found.sarcomp.info()["vv"]["store"] == "transparent"


@FORMATS
def test_a_damaged_chunk_on_disk_is_an_error(speckled_array, tmp_path, zarr_format):
    found = write(speckled_array, tmp_path / "a.zarr", zarr_format).vv
    file = tmp_path / "a.zarr/vv" / ("c/0/0" if zarr_format == 3 else "0.0")
    content = bytearray(file.read_bytes())
    for position in (2, 30, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        file.write_bytes(bytes(damaged))
        with pytest.raises(BitstreamError):
            found.copy().load()
    file.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(BitstreamError):
        found.copy().load()


@FORMATS
def test_a_store_whose_model_is_not_installed_says_so(speckled_array, tmp_path, zarr_format):
    write(speckled_array, tmp_path / "a.zarr", zarr_format)
    model_id = speckled_array.sarcomp.encoding()["vv"]["serializer"]["configuration"]["model"]
    file = tmp_path / "a.zarr/vv" / ("zarr.json" if zarr_format == 3 else ".zarray")
    file.write_text(file.read_text().replace(model_id, "ab" * 32))
    with pytest.raises(ModelNotFoundError, match="ababab"):
        xr.open_zarr(tmp_path / "a.zarr", consolidated=False).vv.load()


def test_chunks_of_different_stores_are_told_apart(speckled_array, tmp_path):
    encoding = speckled_array.sarcomp.encoding(bits_per_pixel=2)
    write(speckled_array, tmp_path / "a.zarr", encoding=encoding)
    file = tmp_path / "a.zarr/vv/zarr.json"
    file.write_text(file.read_text().replace("230", "231"))
    with pytest.raises(BitstreamError, match=r"shape \(200, 230\)"):
        xr.open_zarr(tmp_path / "a.zarr", consolidated=False).vv.load()


def test_a_format_that_does_not_exist_is_refused(speckled_array):
    with pytest.raises(ConfigurationError, match="zarr_format is 1, expected 3 or 2"):
        speckled_array.sarcomp.encoding(zarr_format=1)


def test_large_chunks_of_dask_are_divided_so_that_each_task_writes_whole_chunks(speckled_array):
    zeros = xr.DataArray(np.zeros((4096, 300), np.float32), dims=("y", "x"), name="vv").chunk(y=2048, x=300)
    rows, columns = zeros.sarcomp.encoding(scale="power")["vv"]["chunks"]
    assert 2048 % rows == 0
    assert 256 <= rows <= 1024
    assert columns == 300


def test_an_array_without_spatial_dimensions_is_refused():
    with pytest.raises(DimensionError):
        xr.DataArray(np.ones(5, np.float32), dims="y", name="vv").sarcomp.encoding()


@pytest.mark.parametrize("kind", ["latents", "transparent"])
def test_scenes_of_different_steps_are_combined_and_not_compressed_again(tmp_path, kind):
    scenes = []
    for number, bits_per_pixel in enumerate((1, 2)):
        values = np.random.default_rng(number).gamma(4.4, 0.1 / 4.4, (64, 64)).astype(np.float32)
        place = {"y": np.arange(64.0), "x": 64.0 * number + np.arange(64.0)}
        scene = xr.Dataset({"vv": (("y", "x"), values)}, place)
        path = tmp_path / f"{number}.zarr"
        if kind == "latents":
            scene.sarcomp.encode(bits_per_pixel=bits_per_pixel).sarcomp.to_zarr(path, consolidated=False)
            scenes.append(xr.open_dataset(path, engine="sarcomp"))
            assert f"bits_per_pixel={bits_per_pixel}" in scenes[-1].sarcomp.info()["vv"]["settings"]
        else:
            encoding = scene.sarcomp.encoding(bits_per_pixel=bits_per_pixel)
            scene.sarcomp.to_zarr(path, encoding=encoding, consolidated=False)
            assert scene.vv.attrs == {}
            scenes.append(xr.open_zarr(path, consolidated=False))
    mosaic = xr.combine_by_coords(scenes)
    assert mosaic.sizes == {"y": 64, "x": 128}
    with xr.set_options(keep_attrs=True):
        decibel = 10 * np.log10(mosaic)
    mosaic.drop_encoding().to_netcdf(tmp_path / "mosaic.nc")
    for lossy in (mosaic, decibel, xr.open_dataset(tmp_path / "mosaic.nc"), mosaic.isel(x=slice(3, 90))):
        with pytest.raises(AlreadyLossyError, match="compressed with loss before"):
            lossy.sarcomp.encode(bits_per_pixel=1)
