"""Mistakes at the command line: one line that says what to do, status 1, and nothing lost."""

import numpy as np
import pytest
import rioxarray
import xarray as xr

from tests.support.commands import NODATA, run, run_here, stack, write_geotiff
from xsarcomp import cli
from xsarcomp.codec import target
from xsarcomp.radiometry import scales
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow


def write_others(folder):
    """What is no backscatter, or says so of itself in names that control a terminal."""
    scene = simulated_dataset((64, 64), 1).fillna(0.1)
    for name in ("vv", "vh"):
        scene[name].drop_attrs().assign_attrs(long_name=name).rio.to_raster(folder / f"{name}.tif")
    scene.vv.drop_attrs().rename("plane").rio.to_raster(folder / "silent.tif")
    (scene.vv > 0.1).astype(np.int16).drop_attrs().rename("plane").rio.to_raster(folder / "drawn.tif")
    plane = xr.Variable(("y", "x"), np.ones((9, 9), np.float32))
    xr.Dataset({"\x1b[31mred\n\u200b": plane, "other": plane}).to_zarr(
        folder / "control.zarr", zarr_format=3, consolidated=False
    )


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
    "scale that is none": (["compare", "nan.tif", "nan.tif", "--scale", "linear"], "power, amplitude, decibel"),
    "unknown restoration": (["decode", "nan-latents.zarr", "new.nc", "--restore", "looks"], "speckle"),
    "unknown variable": (
        ["encode", "stack.nc", "new.zarr", "--variables", "hh,hv"],
        "expected those of --variables hh,hv",
    ),
    "other scale": (["compare", "zero.tif", "nan.tif"], "expected the same scale"),
    "other polarization": (["compare", "vv.tif", "vh.tif"], "same polarizations"),
    "nothing is backscatter": (["encode", "silent.tif", "new.zarr"], "--variables band_data"),
    "a mask": (["encode", "drawn.tif", "new.zarr", "--variables", "band_data"], "a mask or classes"),
    "name that controls the terminal": (
        ["encode", "\x1b[2J\u202eabsent\n.tif", "new.zarr"],
        "\\x1b[2J\\u202eabsent .tif does not exist",
    ),
    "variable that controls the terminal": (["encode", "control.zarr", "new.zarr"], "\\x1b[31mred \\u200b"),
    "option that controls the terminal": (["info", "nan-latents.zarr", "--\x1b[2J"], "--\\x1b[2J"),
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
def folder(tmp_path_factory):
    """Two scenes, a stack, and latents stores of one each."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name in ("nan", "zero"):
        write_geotiff(folder / f"{name}.tif", *NODATA[name])
    stack().to_netcdf(folder / "stack.nc")
    stack().to_zarr(folder / "stack.zarr", zarr_format=3, consolidated=False)
    for source in ("nan.tif", "stack.nc"):
        run_here("encode", source, f"{source.partition('.')[0]}-latents.zarr", folder=folder)
    return folder


@pytest.fixture(scope="module")
def mistakes(folder):
    """The same folder with files that are wrong."""
    write_uncalibrated(folder)
    write_others(folder)
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
    assert errors.removesuffix("\n").isprintable()
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


def test_the_words_of_the_options_are_those_of_the_package():
    assert tuple(target.PRESETS) == cli.PRESETS
    assert {*cli.SCALES} == {*scales.SCALES}


def test_version_and_help_end_well(folder):
    assert "version" in run("--version", folder=folder)[0]
    text = run("--help", folder=folder)[0]
    for command in ("encode", "decode", "info", "compare", "train", "demo", "benchmark"):
        assert command in text
