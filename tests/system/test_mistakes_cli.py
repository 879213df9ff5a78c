"""Mistakes at the command line: one line that says what was found, what was expected and what to do; status 1, nothing lost."""

import importlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rioxarray
import xarray as xr
import zarr
from click.testing import CliRunner

from tests.support.commands import NODATA, run, run_here, stack, write_geotiff
from tests.support.store_model import all_files
from xsarcomp import cli
from xsarcomp.codec import target
from xsarcomp.command_line import arguments
from xsarcomp.radiometry import scales
from xsarcomp.scenes.simulation import simulated_dataset

FAST = ["--model", "s1-grd-10m-lapped"]
PYTHON = ("=True", "=False", "=[", "='", "=...", ".sarcomp", "to_zarr", "encode(", "decode(", "like=")
"""Words of Python, which no advice at the command line may need."""

# arguments, and what the line must say
MISTAKES = {
    # names of sources
    "missing file": ("encode absent.tif new.zarr", "absent.tif does not exist"),
    "missing store": ("info absent.zarr", "absent.zarr does not exist"),
    "empty name": ("info ''", "STORE", "the name is empty, expected a path or URL"),
    "unknown home": ("encode ~nobody-here/a.tif new.zarr", "~nobody-here", "no home folder"),
    "link to itself": ("encode loop new.zarr", "loop", "leads to itself", "remove it"),
    "folder as scene": ("encode photos new.zarr", "photos is a folder", "expected a file or a store"),
    "empty file": ("encode empty.tif new.zarr", "empty.tif is empty", "expected a GeoTIFF, NetCDF file or Zarr store"),
    "text as raster": ("encode text.tif new.zarr", "text.tif cannot be opened as a raster", "expected a GeoTIFF"),
    "text as NetCDF": ("encode text.nc new.zarr", "text.nc cannot be opened as NetCDF", "may be damaged"),
    "cut GeoTIFF": ("encode cut.tif new.zarr", "cut.tif, band 1", "may be damaged or cut off"),
    "archive as store": ("encode packed.zarr new.zarr", "packed.zarr is a file", "folder of a Zarr store", "unpack it"),
    "array as scene": ("encode array.zarr new.zarr", "array.zarr is no Zarr group", "expected a store"),
    "folder as store": ("info photos", "photos is no Zarr store", "xsarcomp encode"),
    "file as store": ("decode nan.tif new.tif", "nan.tif is no Zarr store", "xsarcomp encode"),
    "file to verify": ("verify nan.tif", "nan.tif is no Zarr group or array", "xsarcomp encode"),
    "plain store": ("decode stack.zarr new.nc", "stack.zarr holds nothing that xsarcomp compressed", "vv"),
    "decoded store to info": ("info decoded.zarr", "decoded backscatter", "can be read as it is"),
    "decoded store to decode": ("decode decoded.zarr new.tif", "decoded backscatter", "can be read as it is"),
    "decoded store to verify": ("verify decoded.zarr", "nothing that xsarcomp compressed", "vv"),
    "damaged store": ("decode damaged.zarr new.nc", "the chunk is damaged", "xsarcomp verify STORE"),
    "damaged metadata": (
        "info unreadable.zarr",
        "unreadable.zarr is no Zarr group that can be read",
        "expected a store",
    ),
    "damaged metadata decoded": ("decode unreadable.zarr new.tif", "unreadable.zarr is no Zarr group"),
    "damaged metadata appended": ("append stack.nc unreadable.zarr", "unreadable.zarr is no Zarr group"),
    # names of targets
    "store called .tif": ("encode nan.tif new.tif", "new.tif ends in .tif", "ends in .zarr", "xsarcomp decode"),
    "store called .nc": ("encode nan.tif new.nc", "new.nc ends in .nc", "ends in .zarr", "xsarcomp decode"),
    "store called .png": ("encode nan.tif new.png", "new.png ends in .png", "expected a name that ends in .zarr"),
    "two files that a shell listed": ("encode nan.tif zero.tif", "zero.tif ends in .tif", "--output FOLDER"),
    "three files": ("encode nan.tif zero.tif new.zarr", "found 3 paths, expected SOURCE and STORE", "--output FOLDER"),
    "existing store": ("encode nan.tif nan-latents.zarr", "nan-latents.zarr exists", "--overwrite"),
    "folder that is no store": (
        "encode nan.tif photos --overwrite",
        "photos exists and is no Zarr store",
        "another name",
    ),
    "store that is a link": (
        "encode nan.tif link.zarr --overwrite",
        "link.zarr is a link to nan-latents.zarr",
        "remove",
    ),
    "file that is a link": ("decode nan-latents.zarr link.tif --overwrite", "link.tif is a link to nan.tif", "remove"),
    "link to nowhere": ("decode nan-latents.zarr dangling.tif", "dangling.tif is a link to absent/a.tif", "remove"),
    "file as folder": ("decode nan-latents.zarr nan.tif/new.tif", "nan.tif is no folder", "Choose another name"),
    "store in a file": ("encode nan.tif text.nc/new.zarr", "text.nc is no folder", "Choose another name"),
    "array of another store": (
        "encode nan.tif stack.zarr/vv --overwrite",
        "lies in the Zarr store stack.zarr",
        "another",
    ),
    "file in a store": (
        "decode nan-latents.zarr stack.zarr/a.tif",
        "lies in the Zarr store stack.zarr",
        "another name",
    ),
    "source is target": ("encode stack.zarr stack.zarr --overwrite", "choose another name"),
    "bad ending": ("decode nan-latents.zarr scene.xyz", "scene.xyz ends in .xyz", "expected .tif, .nc or .zarr"),
    "no ending": ("decode nan-latents.zarr scene", "scene ends in nothing", "expected .tif, .nc or .zarr"),
    "existing target": ("decode nan-latents.zarr nan.tif", "nan.tif exists", "--overwrite"),
    "folder called .tif": ("decode nan-latents.zarr keep.tif --overwrite", "keep.tif is a folder, expected a file"),
    "missing folder": ("decode nan-latents.zarr absent/scene.nc", "absent does not exist", "create it first"),
    "stack as GeoTIFF": ("decode stack-latents.zarr new.tif", "'time': 3", "write .nc or .zarr"),
    "COG called .nc": ("decode nan-latents.zarr new.nc --cog", "new.nc ends in .nc", "ends in .tif"),
    "URL of a file": ("decode nan-latents.zarr s3://bucket/a.tif", "expected one that ends in .zarr", "copy it"),
    "URL of no store": ("encode nan.tif s3://bucket/a", "s3://bucket/a ends in nothing", "ends in .zarr"),
    "unknown kind of URL": ("encode nan.tif nowhere://a.zarr", "nowhere://", "expected a path, s3://"),
    "server that is not there": (
        "encode nan.tif ftp://localhost:1/a.zarr",
        "ftp://localhost:1/a.zarr cannot be reached",
    ),
    # several sources
    "same names": ("encode nan.tif sub/nan.tif --output new", "sub/nan.tif", "nothing was written", "rename one"),
    "store as folder": ("encode nan.tif --output new.zarr", "--output names new.zarr, expected a folder"),
    "file as folder of stores": ("encode nan.tif --output text.nc", "--output names text.nc, expected a folder"),
    "no source": ("encode --output new", "found no path beside --output, expected at least one"),
    "format without folder": ("decode nan-latents.zarr new.nc --format nc", "--format", "expected --output FOLDER"),
    "missing second path": ("encode nan.tif", "Missing argument 'STORE'", "--output FOLDER"),
    # options
    "unknown preset": ("encode nan.tif new.zarr --preset nice", "--preset", "'nice'", "archive, analysis, browse"),
    "two targets": (
        "encode nan.tif new.zarr --ratio 9 --rmse-db 1",
        "--ratio, --rmse-db were given together",
        "one of",
    ),
    "rate of zero": ("encode nan.tif new.zarr --bits-per-pixel 0", "--bits-per-pixel is 0.0", "positive number"),
    "rate out of reach": (
        "encode nan.tif new.zarr --bits-per-pixel 99",
        "--bits-per-pixel 99.0 is out of reach",
        "Ask",
    ),
    "bound that is none": ("encode nan.tif new.zarr --max-error-db 0.001", "--max-error-db is 0.001", "expected 0.02"),
    "word for a number": ("encode nan.tif new.zarr --bits-per-pixel one", "--bits-per-pixel", "'one'"),
    "unknown option": ("encode nan.tif new.zarr --quality 3", "--quality"),
    "unknown command": ("encod nan.tif new.zarr", "encod", "encode"),
    "unknown scale": ("encode nan.tif new.zarr --scale db", "--scale", "'db'", "decibel"),
    "wrong scale": ("encode zero.tif new.zarr --scale power", "'band_data' are negative", "--scale decibel"),
    "scale that is none": ("compare nan.tif nan.tif --scale linear", "power, amplitude, decibel"),
    "unknown restoration": ("decode nan-latents.zarr new.nc --restore looks", "--restore", "speckle"),
    "speckle and overview": (
        "decode nan-latents.zarr new.tif --overview 8 --restore speckle",
        "--overview 8 and --restore speckle were given together",
        "Leave one",
    ),
    "unknown variable": ("encode stack.nc new.zarr --variables hh,hv", "found variables", "--variables hh,hv"),
    "capital letters": ("encode stack.nc new.zarr --variables VV", "vv, vh", "expected those of --variables VV"),
    "nothing is backscatter": ("encode silent.tif new.zarr", "no variable says", "name it: --variables band_data"),
    "a mask": ("encode drawn.tif new.zarr --variables band_data", "'band_data' holds only", "a mask or classes"),
    "unknown model": ("encode nan.tif new.zarr --model other", "'other' is not installed", "XSARCOMP_MODEL_PATH"),
    "uncalibrated": ("encode digital.tif new.zarr", "uncalibrated digital numbers", "--scale"),
    "lossy before": ("encode nan-latents.zarr new.zarr", "'vh' was compressed with loss before", "pass --recompress"),
    "no time": ("append nan.tif series.zarr", "has no 'time'", "--time 2024-05-01T05:30"),
    "store without a time": ("append nan.tif nan-latents.zarr", "no dimension", "xsarcomp encode SOURCE STORE --time"),
    "time that is none": (
        "append nan.tif series.zarr --time today",
        "--time",
        "'today' is no time",
        "2024-05-01T05:30",
    ),
    "two times": ("append stack.nc series.zarr --time 2024-05-01", "has a time of its own", "leave out --time"),
    "same dates": ("append stack.nc stack-latents.zarr", "'time' are in the store already", "leave them out"),
    "append to nothing": ("append stack.nc absent.zarr", "no store absent.zarr", "xsarcomp encode SOURCE STORE"),
    "append to a folder": ("append stack.nc photos", "photos is no Zarr store", "xsarcomp encode"),
    "other scale": ("compare zero.tif nan.tif", "in decibels", "expected the same scale"),
    "other polarization": ("compare vv.tif vh.tif", "same polarizations"),
    "other shapes": ("compare nan.tif stack.nc", "found dimensions", "expected"),
    "no configuration": ("train absent.toml", "absent.toml", "No such file"),
    "corrupt configuration": ("train corrupt.toml", "corrupt.toml"),
    "folder that is a file": ("demo nan.tif --output text.nc", "text.nc", "choose another name"),
    # names that control a terminal
    "name that controls the terminal": (
        ["encode", "\x1b[2J\u202eabsent\n.tif", "new.zarr"],
        "\\x1b[2J\\u202eabsent .tif does not exist",
    ),
    "variable that controls the terminal": ("encode control.zarr new.zarr", "\\x1b[31mred \\u200b"),
    "option that controls the terminal": (["info", "nan-latents.zarr", "--\x1b[2J"], "--\\x1b[2J"),
}


def write_others(folder):
    """What is no backscatter, or says so of itself in names that control a terminal."""
    scene = simulated_dataset((64, 64), 1).fillna(0.1)
    for name in ("vv", "vh"):
        scene[name].drop_attrs().assign_attrs(long_name=name).rio.to_raster(folder / f"{name}.tif")
    scene.vv.drop_attrs().rename("plane").rio.to_raster(folder / "silent.tif")
    (scene.vv > 0.1).astype(np.int16).drop_attrs().rename("plane").rio.to_raster(folder / "drawn.tif")
    (scene.vv * 1e5).astype(np.uint16).rio.to_raster(folder / "digital.tif")
    plane = xr.Variable(("y", "x"), np.ones((9, 9), np.float32))
    xr.Dataset({"\x1b[31mred\n\u200b": plane, "other": plane}).to_zarr(
        folder / "control.zarr", zarr_format=3, consolidated=False
    )
    zarr.save_array(folder / "array.zarr", np.ones((8, 8), np.float32))


def write_broken(folder):
    """Names that lead to nothing of use."""
    for name in ("photos", "keep.tif"):
        (folder / name).mkdir()
        (folder / name / "one.txt").write_text("keep")
    for name in ("text.tif", "text.nc", "packed.zarr"):
        (folder / name).write_text("hello")
    (folder / "empty.tif").touch()
    (folder / "cut.tif").write_bytes((folder / "nan.tif").read_bytes()[:9000])
    (folder / "corrupt.toml").write_text("name =")
    links = {"loop": "loop", "link.zarr": "nan-latents.zarr", "link.tif": "nan.tif", "dangling.tif": "absent/a.tif"}
    for name, leads_to in links.items():
        (folder / name).symlink_to(leads_to)
    for name in ("damaged.zarr", "unreadable.zarr"):
        shutil.copytree(folder / "nan-latents.zarr", folder / name)
    chunk = next(path for path in (folder / "damaged.zarr/vv_latents/c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    (folder / "unreadable.zarr/zarr.json").write_text("{")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes, stores, and what is neither."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name in ("nan", "zero"):
        write_geotiff(folder / f"{name}.tif", *NODATA[name], shape=(72, 80))
    small = stack().isel(y=slice(0, 64), x=slice(0, 72))
    small.to_netcdf(folder / "stack.nc")
    small.to_zarr(folder / "stack.zarr", zarr_format=3, consolidated=False)
    run_here("encode", "nan.tif", "nan-latents.zarr", "--variables", "vv,vh", *FAST, folder=folder)
    run_here("encode", "stack.nc", "stack-latents.zarr", *FAST, folder=folder)
    run_here("encode", "nan.tif", "series.zarr", "--time", "2024-05-01", *FAST, folder=folder)
    run_here("decode", "nan-latents.zarr", "decoded.zarr", folder=folder)
    write_others(folder)
    write_broken(folder)
    return folder


def typed(text):
    """Arguments of a line; ``''`` is an empty one."""
    return text if isinstance(text, list) else [word.strip("'") for word in text.split(" ")]


def assert_one_line(errors):
    assert errors.count("\n") == 1
    assert errors.startswith("xsarcomp: ")
    assert errors.removesuffix("\n").isprintable()
    assert "Traceback" not in errors
    assert "unforeseen" not in errors
    for word in PYTHON:
        assert word not in errors


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_line_and_status_one(folder, mistake):
    arguments, *words = MISTAKES[mistake]
    before = {path.name for path in folder.iterdir()}
    output, errors = run_here(*typed(arguments), folder=folder, status=1)
    assert output == ""
    assert_one_line(errors)
    for word in words:
        assert word in errors
    assert {path.name for path in folder.iterdir()} == before


def test_nothing_was_lost_by_refused_commands(folder):
    """The sources and targets of the refused commands are as they were."""
    stored = xr.open_zarr(folder / "stack.zarr", consolidated=False)
    np.testing.assert_array_equal(stored.vv.values, xr.open_dataset(folder / "stack.nc").vv.values)
    assert rioxarray.open_rasterio(folder / "nan.tif").shape == (2, 72, 80)
    assert all_files(folder / "photos") == all_files(folder / "keep.tif") == {"one.txt": b"keep"}
    assert (folder / "link.zarr").is_symlink()
    assert (folder / "link.tif").is_symlink()


LIBRARIES = {
    "encode nan.tif s3://bucket/a.zarr": "s3fs",
    "info s3://bucket/a.zarr": "s3fs",
    "verify s3://bucket/a.zarr": "s3fs",
    "decode s3://bucket/a.zarr new.tif": "s3fs",
    "decode nan-latents.zarr s3://bucket/a.zarr": "s3fs",
    "append stack.nc s3://bucket/a.zarr": "s3fs",
    "compare nan.tif gs://bucket/a.zarr": "gcsfs",
    "info https://example.invalid/a.zarr": "aiohttp",
}


@pytest.mark.parametrize("arguments", LIBRARIES)
def test_a_library_that_is_missing_is_named_with_the_way_to_install_it(folder, monkeypatch, arguments):
    monkeypatch.setattr(importlib.import_module("fsspec.registry"), "_registry", {})  # what was imported before
    for name in ("s3fs", "gcsfs", "aiohttp"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    output, errors = run_here(*arguments.split(), folder=folder, status=1)
    assert output == ""
    assert_one_line(errors)
    assert f"needs {LIBRARIES[arguments]}, which is not installed" in errors
    assert f"pip install {LIBRARIES[arguments]}" in errors


def fail(error):
    def failing(*arguments, **keywords):
        raise error

    return failing


UNFORESEEN = {
    "key": (KeyError("model"), "unforeseen KeyError: 'model'. XSARCOMP_TRACEBACK=1 in the environment shows where"),
    "nothing": (AssertionError(), "unforeseen AssertionError. XSARCOMP_TRACEBACK=1"),
    "type": (TypeError("a\nb"), "unforeseen TypeError: a b. XSARCOMP_TRACEBACK=1"),
    "memory": (MemoryError("8 GiB"), "not enough memory (8 GiB)", "DASK_NUM_WORKERS=1"),
    "disk": (OSError(28, "No space left on device", "a.tif"), "a.tif: No space left on device: free some space"),
    "permission": (
        PermissionError(13, "Permission denied", "a.tif"),
        "a.tif: Permission denied: check the permissions",
    ),
    "import": (ModuleNotFoundError("No module named 'a.b'", name="a.b"), "a library is missing", "pip install a"),
}


@pytest.mark.parametrize("case", UNFORESEEN)
def test_whatever_else_goes_wrong_is_one_line_too(folder, monkeypatch, case):
    error, *words = UNFORESEEN[case]
    monkeypatch.setattr("xsarcomp.stores.report.store_report", fail(error))
    output, errors = run_here("info", "nan-latents.zarr", folder=folder, status=1)
    assert output == ""
    assert errors.count("\n") == 1
    for word in words:
        assert word in errors


@pytest.mark.parametrize("error", [KeyError("model"), OSError("lost")])
def test_the_traceback_is_there_for_who_asks(folder, monkeypatch, error):
    monkeypatch.setattr("xsarcomp.stores.report.store_report", fail(error))
    monkeypatch.setenv("XSARCOMP_TRACEBACK", "1")
    with pytest.raises(type(error), match=str(error)):
        run_here("info", "nan-latents.zarr", folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake", ["missing file", "existing store", "uncalibrated", "damaged store", "link to itself"]
)
def test_mistake_in_a_process_of_its_own_is_the_same_line(folder, mistake):
    arguments, *words = MISTAKES[mistake]
    output, errors = run(*typed(arguments), folder=folder, status=1)
    assert output == ""
    assert_one_line(errors)
    assert all(word in errors for word in words)


@pytest.mark.slow
def test_a_reader_that_stops_early_sees_no_traceback(folder):
    command = [sys.executable, "-m", "xsarcomp", "info", "nan-latents.zarr", "--json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_wrong_usage_is_explained_with_status_one(folder):
    _, errors = run_here("decode", "nan-latents.zarr", folder=folder, status=1)
    assert "Missing argument 'TARGET'" in errors


def test_the_words_of_the_options_are_those_of_the_package():
    assert tuple(target.PRESETS) == arguments.PRESETS
    assert {*arguments.SCALES} == {*scales.SCALES}


def test_help_names_every_command_and_says_what_gdal_cannot_open():
    text = CliRunner().invoke(cli.cli, ["--help"]).output
    for command in ("encode", "append", "decode", "info", "verify", "compare", "train", "demo", "benchmark"):
        assert command in text
    for command in ("encode", "decode"):
        text = CliRunner().invoke(cli.cli, [command, "--help"]).output
        assert "QGIS" in text
        assert "--cog" in text


@pytest.mark.slow
def test_version_and_help_end_well_in_a_process(folder):
    assert "version" in run("--version", folder=folder)[0]
    assert "encode" in run("--help", folder=folder)[0]
