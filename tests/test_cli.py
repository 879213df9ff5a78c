"""The commands as a user runs them: real processes, files in and out, strict JSON, one line for a mistake."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rioxarray
import xarray as xr

from xsarcomp.cli import main
from xsarcomp.scenes.simulation import simulated_dataset

COMMAND = [sys.executable, "-c", "from xsarcomp.cli import main; main()"]
METRICS = {"rmse_db", "bias_db", "max_error_db", "enl_ratio", "edge_preservation", "valid_pixels"}
REPORT = {"bits_per_pixel", "payload_bytes", "stored_bytes", "ratio", "model"}
NODATA = {"nan": ("power", np.nan), "zero": ("decibel", 0.0), "minus-9999": ("decibel", -9999.0)}
STORES = {"latents": [], "transparent": ["--transparent"]}


def run(*arguments, folder, status=0):
    """Run a command in a folder; its standard output and error."""
    finished = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=120, env={**os.environ}
    )
    assert finished.returncode == status, finished.stderr
    return finished.stdout, finished.stderr


def run_here(*arguments, folder, status=0):
    """The same without a new process, for speed."""
    output, errors = io.StringIO(), io.StringIO()
    found = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(sys, "argv", ["xsarcomp", *map(str, arguments)])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                main()
            except SystemExit as stop:
                found = stop.code
    assert found == status, errors.getvalue()
    return output.getvalue(), errors.getvalue()


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def strict_json(text):
    return json.loads(text, parse_constant=refuse_constant)


def write_geotiff(path, scale="power", nodata=np.nan, shape=(200, 216)):
    scene = simulated_dataset(shape, 3, scale)
    bands = xr.concat([scene.vv, scene.vh], dim="band", combine_attrs="drop").fillna(nodata)
    bands.attrs = {"long_name": ("vv", "vh")}
    bands.rio.write_nodata(nodata).rio.to_raster(path)


def stack():
    times = pd.date_range("2024-01-01", periods=3, freq="12D", name="time")
    scenes = [simulated_dataset((96, 120), seed) for seed in range(3)]
    joined = xr.concat(scenes, dim=times, coords="minimal", compat="override")
    joined["angle"] = (("y", "x"), np.linspace(30, 45, 96 * 120, dtype=np.float32).reshape(96, 120))
    return joined.assign_attrs(history="made for a test")


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
    assert "truncated" in errors
    assert "xsarcomp verify STORE" in errors
    assert len(errors.splitlines()) == 1


def test_info_says_what_encode_said(folder):
    output, errors = run("info", "nan-latents.zarr", "--json", folder=folder)
    assert errors == ""
    assert strict_json(output) == strict_json((folder / "nan-latents.json").read_text())
    text, _ = run_here("info", "nan-transparent.zarr", folder=folder)
    assert "bits_per_pixel" in text
    assert "store transparent" in text


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


def write_uncalibrated(folder):
    scene = (simulated_dataset((64, 64), 1).vv.fillna(0) * 1e5).astype(np.uint16)
    scene.rio.to_raster(folder / "digital.tif")


MISTAKES = {
    "missing file": (["encode", "absent.tif", "new.zarr"], "absent.tif does not exist"),
    "missing store": (["info", "absent.zarr"], "absent.zarr does not exist"),
    "existing store": (["encode", "nan.tif", "nan-latents.zarr"], "--overwrite"),
    "store that is a file": (["encode", "nan.tif", "zero.tif", "--overwrite"], "no Zarr store"),
    "source is target": (["encode", "stack.zarr", "stack.zarr", "--overwrite"], "choose another name"),
    "unknown preset": (["encode", "nan.tif", "new.zarr", "--preset", "nice"], "archive, analysis, browse"),
    "two targets": (["encode", "nan.tif", "new.zarr", "--ratio", "9", "--rmse-db", "1"], "one of them"),
    "rate of zero": (["encode", "nan.tif", "new.zarr", "--bits-per-pixel", "0"], "positive"),
    "unknown scale": (["encode", "nan.tif", "new.zarr", "--scale", "db"], "decibel"),
    "unknown model": (["encode", "nan.tif", "new.zarr", "--model", "other"], "not installed"),
    "uncalibrated": (["encode", "digital.tif", "new.zarr"], "uncalibrated digital numbers"),
    "lossy before": (["encode", "nan-latents.zarr", "new.zarr"], "compressed with loss before"),
    "bad ending": (["decode", "nan-latents.zarr", "scene.png"], "expected .tif, .nc or .zarr"),
    "existing target": (["decode", "nan-latents.zarr", "nan.tif"], "--overwrite"),
    "missing folder": (["decode", "nan-latents.zarr", "absent/scene.nc"], "absent does not exist"),
    "stack as GeoTIFF": (["decode", "stack-latents.zarr", "stack.tif"], "write .nc or .zarr"),
    "plain store": (["decode", "stack.zarr", "new.nc"], "nothing that xsarcomp compressed"),
    "damaged store": (["decode", "damaged.zarr", "new.nc"], "damaged"),
    "damaged metadata": (["info", "unreadable.zarr"], ""),
    "other shapes": (["compare", "nan.tif", "stack.nc"], ""),
    "corrupt configuration": (["train", "corrupt.toml"], "corrupt.toml"),
}
REAL_PROCESSES = ("missing file", "existing store", "uncalibrated", "damaged store")


@pytest.fixture(scope="module")
def mistakes(folder):
    """Files that are wrong."""
    write_uncalibrated(folder)
    (folder / "corrupt.toml").write_text("name =")
    for name in ("damaged", "unreadable"):
        for path in (folder / "nan-latents.zarr").rglob("*"):
            target = folder / f"{name}.zarr" / path.relative_to(folder / "nan-latents.zarr")
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.write_bytes(path.read_bytes())
    chunk = next(path for path in (folder / "damaged.zarr/band_data_latents/c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    (folder / "unreadable.zarr/zarr.json").write_text("{")
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_line_and_status_one(mistakes, mistake):
    arguments, message = MISTAKES[mistake]
    before = {path.name for path in mistakes.iterdir()}
    command = run if mistake in REAL_PROCESSES else run_here
    output, errors = command(*arguments, folder=mistakes, status=1)
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith("xsarcomp: ")
    assert message in errors
    if mistake != "damaged store":  # there the damage shows only while the target is being written
        assert {path.name for path in mistakes.iterdir()} == before


def test_nothing_was_lost_by_refused_commands(mistakes):
    """The sources of the refused commands are as they were."""
    stored = xr.open_zarr(mistakes / "stack.zarr", consolidated=False)
    np.testing.assert_array_equal(stored.vv.values, stack().vv.values)
    assert rioxarray.open_rasterio(mistakes / "nan.tif").shape == (2, 200, 216)


def test_wrong_usage_is_explained_with_status_one(folder):
    _, errors = run_here("encode", "nan.tif", folder=folder, status=1)
    assert "Missing argument 'STORE'" in errors
    _, errors = run_here("encode", "nan.tif", "new.zarr", "--quality", "3", folder=folder, status=1)
    assert "--quality" in errors
    assert "Traceback" not in errors


def test_version_and_help_end_well(folder):
    assert "version" in run("--version", folder=folder)[0]
    text = run("--help", folder=folder)[0]
    for command in ("encode", "decode", "info", "compare", "train", "demo", "benchmark"):
        assert command in text


def test_input_unlike_the_training_data_is_one_line_on_stderr(tmp_path):
    scene = simulated_dataset((200, 216), 3, "decibel")[["vv"]].fillna(-11.0)
    (scene.drop_attrs() / 2).to_netcdf(tmp_path / "halved.nc")  # decibels of amplitude, taken for those of power
    output, errors = run("encode", "halved.nc", "halved.zarr", folder=tmp_path)
    assert "bits_per_pixel" in output
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
    assert "expected None or one of" in errors
    assert not (folder / "no.nc").exists()


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
    assert told.count("max_error_db 2") == told.count("keep_means True") == 2
