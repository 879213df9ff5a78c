"""The commands as a user runs them: real processes, files in and out, strict JSON. ``system/test_mistakes_cli`` has the refusals."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rioxarray
import xarray as xr

from tests.support.commands import NODATA, STORES, run, run_here, stack, strict_json, write_geotiff
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

METRICS = {"rmse_db", "bias_db", "max_error_db", "enl_ratio", "edge_preservation", "valid_pixels"}
REPORT = {"bits_per_pixel", "payload_bytes", "stored_bytes", "ratio", "model"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sources of all kinds and their stores of both kinds, encoded once by the command."""
    folder = tmp_path_factory.mktemp("cli")
    for name, (scale, nodata) in NODATA.items():
        write_geotiff(folder / f"{name}.tif", scale, nodata)
    stack().to_netcdf(folder / "stack.nc")
    stack().to_zarr(folder / "stack.zarr", zarr_format=3, consolidated=False)
    for kind, flags in STORES.items():
        for source in ("nan.tif", "zero.tif", "minus-9999.tif", "stack.nc"):
            arguments = ["--bits-per-pixel", "1.5", "--json", *flags]
            command = run if source in ("nan.tif", "stack.nc") else run_here
            output, errors = command("encode", source, f"{Path(source).stem}-{kind}.zarr", *arguments, folder=folder)
            assert errors == "", "no progress bar and no warning in a pipe"
            (folder / f"{Path(source).stem}-{kind}.json").write_text(output)
    return folder


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("source", [*NODATA, "stack"])
def test_report_of_encode_is_strict_json_with_the_promised_keys(folder, source, kind):
    report = strict_json((folder / f"{source}-{kind}.json").read_text())
    assert set(report) >= REPORT
    assert report["model"] == "s1-grd-10m"
    assert report["bits_per_pixel"] == pytest.approx(1.5, rel=0.1)
    assert report["bits_per_pixel"] == pytest.approx(8 * report["payload_bytes"] / report["pixels"])
    assert report["ratio"] == pytest.approx(32 / report["bits_per_pixel"])
    assert report["payload_bytes"] < report["stored_bytes"]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("source", ["nan", "stack"])
def test_payload_is_the_sum_of_the_chunk_files(folder, source, kind):
    report = strict_json((folder / f"{source}-{kind}.json").read_text())
    store = folder / f"{source}-{kind}.zarr"
    arrays = ["band_data"] if source == "nan" else ["vv", "vh"]
    parts = (
        [f"{name}_{part}" for name in arrays for part in ("latents", "mask", "coding")] if kind == "latents" else arrays
    )
    chunks = [path for part in parts for path in (store / part / "c").rglob("*") if path.is_file()]
    assert report["payload_bytes"] == sum(path.stat().st_size for path in chunks)
    everything = [path for path in store.rglob("*") if path.is_file()]
    assert report["stored_bytes"] == sum(path.stat().st_size for path in everything)


@pytest.mark.parametrize("kind", STORES)
def test_verify_finds_nothing_in_a_store_that_encode_wrote(folder, kind):
    report = strict_json(run_here("verify", f"stack-{kind}.zarr", "--json", folder=folder)[0])
    assert report["ok"]
    assert report["problems"] == []
    assert report["manifest"] == "recorded"


def test_verify_names_a_bad_chunk_until_the_store_is_recorded_again(folder, tmp_path):
    shutil.copytree(folder / "stack-transparent.zarr", tmp_path / "a.zarr")
    (tmp_path / "a.zarr/vv/c/1/0/0").unlink()
    output, errors = run("verify", "a.zarr", "--quick", folder=tmp_path, status=1)
    assert output.startswith("vv chunk 1/0/0 (time 1:2, y 0:96, x 0:120): missing: ")
    assert errors == ""
    report = strict_json(run_here("verify", "a.zarr", "--json", folder=tmp_path, status=1)[0])
    assert [problem["chunk"] for problem in report["problems"]] == [[1, 0, 0]]
    run_here("verify", "a.zarr", "--record", folder=tmp_path)
    run_here("verify", "a.zarr", folder=tmp_path)


def test_verify_says_what_it_cannot_know_without_a_manifest(folder, tmp_path):
    shutil.copytree(folder / "nan-latents.zarr", tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr/sarcomp_manifest")
    output, _ = run_here("verify", "a.zarr", folder=tmp_path)
    assert "xsarcomp verify --record" in output


def test_decode_of_a_damaged_store_says_how_to_find_the_chunk(folder, tmp_path):
    shutil.copytree(folder / "nan-latents.zarr", tmp_path / "a.zarr")
    (chunk,) = (path for path in (tmp_path / "a.zarr/band_data_latents/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    _, errors = run_here("decode", "a.zarr", "a.tif", folder=tmp_path, status=1)
    assert "the chunk is damaged" in errors
    assert "xsarcomp verify STORE" in errors
    assert len(errors.splitlines()) == 1


def test_info_says_what_encode_said(folder):
    output, errors = run("info", "nan-latents.zarr", "--json", folder=folder)
    assert errors == ""
    assert strict_json(output) == strict_json((folder / "nan-latents.json").read_text())
    text, _ = run_here("info", "nan-transparent.zarr", folder=folder)
    assert "bits per pixel, 1/" in text
    assert "band_data: transparent" in text


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("name", NODATA)
def test_geotiff_comes_back_as_geotiff(folder, name, kind):
    command = run if name == "nan" else run_here
    command("decode", f"{name}-{kind}.zarr", f"{name}-{kind}.tif", folder=folder)
    original, restored = (rioxarray.open_rasterio(folder / path) for path in (f"{name}.tif", f"{name}-{kind}.tif"))
    assert restored.dtype == original.dtype == np.float32
    assert restored.dims == original.dims
    assert restored.rio.crs == original.rio.crs
    assert restored.rio.transform() == original.rio.transform()
    np.testing.assert_equal(restored.rio.nodata, original.rio.nodata)
    assert restored.attrs["long_name"] == ("vv", "vh")
    nodata = NODATA[name][1]
    invalid = np.isnan(original.values) if np.isnan(nodata) else original.values == nodata
    assert 0.05 < invalid.mean() < 0.2
    np.testing.assert_array_equal(restored.values[invalid], original.values[invalid])
    assert np.isfinite(restored.values[~invalid]).all()


def raw(path):
    """A written scene with its nodata numbers as they are."""
    options = {"engine": "zarr", "consolidated": False} if path.suffix == ".zarr" else {}
    return xr.open_dataset(path, decode_coords="all", mask_and_scale=False, **options)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(("name", "ending"), [("minus-9999", "nc"), ("zero", "zarr")])
def test_geotiff_comes_back_as_other_files(folder, name, ending, kind):
    target = f"{name}-{kind}-decoded.{ending}"
    run_here("decode", f"{name}-{kind}.zarr", target, folder=folder)
    original, restored = rioxarray.open_rasterio(folder / f"{name}.tif"), raw(folder / target)
    array = restored["band_data"]
    assert array.dtype == np.float32
    assert array.dims == ("band", "y", "x")
    assert restored.rio.crs == original.rio.crs
    assert restored.rio.transform() == original.rio.transform()
    assert list(array.attrs["long_name"]) == ["vv", "vh"]
    assert float(array.attrs["_FillValue"]) == NODATA[name][1]
    invalid = original.values == NODATA[name][1]
    np.testing.assert_array_equal(array.values[invalid], original.values[invalid])
    assert (array.values[~invalid] != NODATA[name][1]).all()


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_time_stack_comes_back(folder, kind, ending):
    target = f"stack-{kind}-decoded.{ending}"
    run_here("decode", f"stack-{kind}.zarr", target, folder=folder)
    original = xr.open_dataset(folder / "stack.nc", decode_coords="all")
    options = {"engine": "zarr", "consolidated": False} if ending == "zarr" else {}
    restored = xr.open_dataset(folder / target, decode_coords="all", **options)
    assert restored.rio.crs == original.rio.crs
    for coordinate in ("time", "y", "x"):
        xr.testing.assert_identical(restored[coordinate].variable, original[coordinate].variable)
    assert restored.attrs["history"] == original.attrs["history"]
    np.testing.assert_array_equal(restored["angle"], original["angle"])
    for name in ("vv", "vh"):
        assert restored[name].dtype == np.float32
        assert restored[name].dims == original[name].dims
        attributes = {key: value for key, value in restored[name].attrs.items() if key != "sarcomp_lossy"}
        assert attributes == original[name].attrs
        np.testing.assert_array_equal(restored[name].isnull(), original[name].isnull())


def test_compare_gives_the_promised_figures(folder):
    output, errors = run("compare", "stack.nc", "stack-transparent.zarr", "--json", folder=folder)
    assert errors == ""
    metrics = strict_json(output)
    assert set(metrics) >= METRICS
    assert 0.2 < metrics["rmse_db"] < 1
    assert metrics["valid_pixels"] == int(stack()[["vv", "vh"]].count().to_array().sum())
    assert metrics["mask_mismatch_pixels"] == 0
    assert abs(metrics["bias_db"]) < 0.1
    text, _ = run_here("compare", "nan.tif", "nan-latents.zarr", folder=folder)
    assert {line.split()[0] for line in text.splitlines()} >= METRICS


def test_compare_writes_a_report_beside_the_figures(tmp_path):
    pytest.importorskip("jinja2", reason="the report is optional: pip install jinja2")
    scene = simulated_dataset((64, 72), 1)
    scene.to_netcdf(tmp_path / "scene.nc")
    (scene[["vv", "vh"]] * 1.1).to_netcdf(tmp_path / "restored.nc")
    arguments = ["compare", "scene.nc", "restored.nc", "--json"]
    plain = run_here(*arguments, folder=tmp_path)[0]
    assert run_here(*arguments, "--html", "report.html", folder=tmp_path)[0] == plain
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>Comparison of restored.nc with scene.nc</title>" in page
    _, error = run_here(*arguments, "--html", "scene.nc", folder=tmp_path, status=1)
    assert "ends in .html" in error


def test_identical_scenes_compare_to_strict_json(folder):
    """Infinite PSNR and the like must not end as tokens that JSON does not know."""
    metrics = strict_json(run_here("compare", "stack.nc", "stack.nc", "--json", folder=folder)[0])
    assert metrics["rmse_db"] == 0
    assert metrics["psnr_db"] is None


def test_zarr_source_with_model_scale_and_ratio(folder):
    arguments = ["--ratio", "20", "--model", "s1-grd-10m-lapped", "--scale", "power", "--json"]
    report = strict_json(run_here("encode", "stack.zarr", "from-zarr.zarr", *arguments, folder=folder)[0])
    assert report["model"] == "s1-grd-10m-lapped"
    assert report["ratio"] == pytest.approx(20, rel=0.15)
    again = strict_json(
        run_here("encode", "stack.zarr", "from-zarr.zarr", "--rmse-db", "1.2", "--overwrite", "--json", folder=folder)[
            0
        ]
    )
    assert again["model"] == "s1-grd-10m"
    metrics = strict_json(run_here("compare", "stack.zarr", "from-zarr.zarr", "--json", folder=folder)[0])
    assert metrics["rmse_db"] == pytest.approx(1.2, rel=0.1)


def write_bands(path, *labels):
    scene = simulated_dataset((96, 104), 5, "decibel")
    planes = {"vv": scene.vv, "vh": scene.vh}
    angle = xr.full_like(scene.vv, 35.0) + np.linspace(0, 5, 104, dtype=np.float32)
    bands = xr.concat([planes.get(label, angle) for label in labels], dim="band", combine_attrs="drop").fillna(0)
    bands.assign_attrs(long_name=labels).rio.write_nodata(0).rio.to_raster(path)


@pytest.mark.parametrize("flags", STORES.values(), ids=STORES)
def test_of_a_raster_only_the_bands_of_backscatter_are_compressed(tmp_path, flags):
    write_bands(tmp_path / "scene.tif", "vv", "vh", "local_incidence_angle")
    told, errors = run_here("encode", "scene.tif", "scene.zarr", *flags, folder=tmp_path)
    assert "compressed: vv, vh; kept exactly: local_incidence_angle (its name says 'incidence')" in told
    assert errors == ""
    metrics = strict_json(run_here("compare", "scene.tif", "scene.zarr", "--json", folder=tmp_path)[0])
    assert metrics["pixels"] == 2 * 96 * 104
    assert 0.1 < metrics["rmse_db"] < 1.1
    run_here("decode", "scene.zarr", "back.nc", folder=tmp_path)
    original = rioxarray.open_rasterio(tmp_path / "scene.tif")
    with xr.open_dataset(tmp_path / "back.nc", mask_and_scale=False) as back:
        np.testing.assert_array_equal(back.local_incidence_angle, original[2])
        assert 0.1 < np.abs(back.vv - original[0].values).mean() < 1


def test_variables_and_bands_are_chosen_by_name(tmp_path):
    write_bands(tmp_path / "scene.tif", "vv", "vh")
    write_bands(tmp_path / "silent.tif", "first", "second")
    told, _ = run_here("encode", "scene.tif", "one.zarr", "--variables", "vh", folder=tmp_path)
    assert "compressed: vh; kept exactly: vv (not among --variables)" in told
    _, errors = run_here("encode", "silent.tif", "two.zarr", folder=tmp_path, status=1)
    assert "--variables band_data" in errors
    told, _ = run_here("encode", "scene.tif", "two.zarr", "--variables", "band_data", folder=tmp_path)
    assert "compressed: band_data; kept exactly: nothing else" in told
    _, errors = run_here("encode", "scene.tif", "three.zarr", "--variables", "hh", folder=tmp_path, status=1)
    assert "found variables band_data, expected those of --variables hh" in errors


def test_input_unlike_the_training_data_is_one_line_on_stderr(tmp_path):
    scene = simulated_dataset((200, 216), 3, "decibel")[["vv"]].fillna(-11.0)
    (scene.drop_attrs() / 2).to_netcdf(tmp_path / "halved.nc")  # decibels of amplitude, taken for those of power
    output, errors = run("encode", "halved.nc", "halved.zarr", folder=tmp_path)
    assert "bits per pixel" in output
    assert errors.count("\n") == 1
    assert errors.startswith(
        "xsarcomp: warning: this does not look like the data that model 's1-grd-10m' was trained on"
    )
    assert "equivalent number of looks" in errors


def test_recompress_accepts_data_that_lost_something(folder):
    run_here("encode", "nan-latents.zarr", "twice.zarr", "--recompress", folder=folder)
    assert (folder / "twice.zarr/zarr.json").is_file()


def test_existing_target_is_replaced_on_request(folder):
    (folder / "replaced.nc").write_text("something else")
    run_here("decode", "nan-latents.zarr", "replaced.nc", "--overwrite", folder=folder)
    assert raw(folder / "replaced.nc").band_data.shape == (2, 200, 216)


def test_speckle_is_restored_on_request_and_not_in_transparent_stores(folder):
    run_here("decode", "nan-latents.zarr", "speckle.nc", "--restore", "speckle", folder=folder)
    run_here("decode", "nan-latents.zarr", "plain.nc", folder=folder)
    restored, plain = (raw(folder / name).band_data for name in ("speckle.nc", "plain.nc"))
    assert "synthetic speckle was added" in restored.attrs["sarcomp_lossy"]
    assert (restored.values != plain.values)[np.isfinite(plain.values)].mean() > 0.99
    np.testing.assert_array_equal(np.isnan(restored.values), np.isnan(plain.values))
    _, errors = run_here("decode", "nan-transparent.zarr", "no.nc", "--restore", "speckle", folder=folder, status=1)
    assert "needs a latents store" in errors
    _, errors = run_here("decode", "nan-latents.zarr", "no.nc", "--restore", "detail", folder=folder, status=1)
    assert "expected one of speckle" in errors
    assert not (folder / "no.nc").exists()


@pytest.mark.soak
@pytest.mark.data
def test_real_scenes_go_through_the_commands(sar_data, tmp_path):
    scene = sar_data / "validation/grd_decibel/awc00.tif"  # a quarter is nodata
    burst = sar_data / "test/rtc_stacks/T137-292319-IW1.nc"
    run("encode", scene, "scene.zarr", folder=tmp_path)
    run("decode", "scene.zarr", "scene.tif", folder=tmp_path)
    original, restored = rioxarray.open_rasterio(scene), rioxarray.open_rasterio(tmp_path / "scene.tif")
    assert original.rio.transform() == restored.rio.transform()
    invalid = original.values == 0
    np.testing.assert_array_equal(restored.values == 0, invalid)
    run("encode", burst, "burst.zarr", "--transparent", folder=tmp_path)
    run("decode", "burst.zarr", "burst.nc", folder=tmp_path)
    metrics = strict_json(run("compare", burst, "burst.nc", "--json", folder=tmp_path)[0])
    assert metrics["mask_mismatch_pixels"] == 0
    assert metrics["rmse_db"] < 2


@pytest.mark.parametrize("name", ["nan", "minus-9999"])
def test_overview_of_a_store_is_a_small_geotiff_at_its_place(folder, name):
    run_here("decode", f"{name}-latents.zarr", f"{name}-overview.tif", "--overview", 16, folder=folder)
    original, found = (rioxarray.open_rasterio(folder / path) for path in (f"{name}.tif", f"{name}-overview.tif"))
    assert found.shape == (2, 13, 14), "the last blocks are halves"
    assert found.rio.crs == original.rio.crs
    transform = original.rio.transform()
    assert found.rio.transform() == transform * transform.scale(16)
    np.testing.assert_equal(found.rio.nodata, original.rio.nodata)
    invalid = ~np.isfinite(found.values) | (found.values == original.rio.nodata)
    assert 0 < invalid.mean() < 0.2


def test_overviews_that_there_are_none_of_are_refused_in_one_line(folder):
    for store, size, reason in [
        ("nan-latents.zarr", 7, "expected one of 8, 16"),
        ("nan-transparent.zarr", 8, "holds no latents"),
    ]:
        _, errors = run_here("decode", store, "none.tif", "--overview", size, folder=folder, status=1)
        assert reason in errors
        assert errors.count("\n") == 1
        assert not (folder / "none.tif").exists()


@pytest.mark.parametrize("store", [[], ["--transparent"]], ids=["latents", "transparent"])
def test_info_names_what_was_promised_in_both_stores(store, tmp_path):
    simulated_dataset((64, 70), seed=2).to_netcdf(tmp_path / "scene.nc")
    run_here("encode", "scene.nc", "kept.zarr", "--max-error-db", 2, "--keep-means", *store, folder=tmp_path)
    told, _ = run_here("info", "kept.zarr", folder=tmp_path)
    assert told.count("each valid pixel within 2 dB") == told.count("mean power of tiles kept") == 2


def test_dates_are_appended_by_the_command_or_refused_in_one_line(tmp_path):
    def write(number, **changes):
        date = np.datetime64("2024-01-01T05:06:07.123456", "ns") + np.timedelta64(12 * number, "D")
        scene = simulated_dataset((64, 72), seed=number).expand_dims(time=[date])
        scene.assign_coords(**{name: scene[name] + shift for name, shift in changes.items()}).to_netcdf(
            tmp_path / f"{number}.nc"
        )
        return f"{number}.nc", date

    first, later, elsewhere = write(1), write(2), write(3, x=30_000)
    run_here("encode", first[0], "series.zarr", folder=tmp_path)
    assert run_here("append", later[0], "series.zarr", folder=tmp_path) == ("time: 1 before, 2 now\n", "")
    _, errors = run_here("append", elsewhere[0], "series.zarr", folder=tmp_path, status=1)
    assert "coordinate 'x' begins at" in errors
    assert len(errors.splitlines()) == 1
    assert list(xr.open_zarr(tmp_path / "series.zarr").time.values) == [first[1], later[1]]
