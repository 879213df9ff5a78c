"""Commands on a disk that is full: an error and a status that is not zero, the old file stays, nothing half-written is left.

The kernel refuses to write beyond a limit on the size of files, as it does where no space is left. GDAL and Python learn of it
in the same places, most of all when they close a file.
"""

import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from tests.support.commands import COMMAND, run_here
from tests.support.paths import ROOT
from tests.support.store_model import all_files
from xsarcomp.benchmarks import markdown
from xsarcomp.evaluation.pictures import save_comparison
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.whole_files import whole_file, write_atomically

pytestmark = pytest.mark.slow

LIMITED = """
import resource, signal, sys
from xsarcomp.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, and the process goes on
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
main()
"""


def run_limited(size, *arguments, folder):
    """Run a command that cannot write files larger than ``size`` bytes; its status and what it said."""
    command = [sys.executable, "-c", LIMITED, str(size), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene of several Dask blocks and its store."""
    folder = tmp_path_factory.mktemp("full")
    simulated_dataset((600, 700), 3).chunk(256).to_zarr(folder / "s.zarr", zarr_format=3, consolidated=False)
    run_here("encode", "s.zarr", "l.zarr", "--model", "s1-grd-10m-lapped", "--bits-per-pixel", "2", folder=folder)
    return folder


@pytest.fixture(scope="module")
def whole_sizes(folder, tmp_path_factory):
    """Size of each target that is written without a limit; of a store, its largest file."""
    target = tmp_path_factory.mktemp("whole")
    for name in ("a.tif", "cog.tif", "a.nc", "a.zarr"):
        run_here(*command_for(name, folder), folder=target)
    run_here(*command_for("a.html", folder), folder=target)
    sizes = {file.name: file.stat().st_size for file in target.iterdir() if file.is_file()}
    return sizes | {"a.zarr": max(map(len, all_files(target / "a.zarr").values()))}


def command_for(name, folder):
    if name == "a.html":
        return ["compare", folder / "s.zarr", folder / "l.zarr", "--html", name]
    return ["decode", folder / "l.zarr", name, "--overwrite", *(["--cog"] if name == "cog.tif" else [])]


SHARES = {"a.tif": (0.5, 1), "cog.tif": (1,), "a.nc": (1,), "a.zarr": (0.5,), "a.html": (0.5,)}
"""Shares of the needed space that are there; 1 stands for all but a byte."""
LONG_SHARES = {"a.tif": (0, 0.001), "cog.tif": (0.5,), "a.nc": (0.5,)}
"""Those of the long form."""


@pytest.mark.parametrize(
    ("name", "share"),
    [
        *((name, share) for name in SHARES for share in SHARES[name]),
        *(pytest.param(name, share, marks=pytest.mark.soak) for name in LONG_SHARES for share in LONG_SHARES[name]),
    ],
)
def test_a_command_on_a_full_disk_fails_and_the_old_target_stays(folder, whole_sizes, tmp_path, name, share):
    if name == "a.zarr":
        simulated_dataset((16, 16), 3).to_zarr(tmp_path / name, zarr_format=3, consolidated=False)
    else:
        (tmp_path / name).write_bytes(b"good")
    before = all_files(tmp_path)
    limit = int(share * whole_sizes[name]) if share < 1 else whole_sizes[name] - 1
    status, said = run_limited(limit, *command_for(name, folder), folder=tmp_path)
    assert status == 1, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("xsarcomp: ")
    assert all_files(tmp_path) == before
    assert not [file.name for file in tmp_path.rglob("*") if file.name.startswith(".")]


@pytest.mark.parametrize("name", ["a.tif", "cog.tif", "a.nc", pytest.param("a.html", marks=pytest.mark.soak)])
def test_a_command_for_which_there_is_just_enough_space_succeeds(folder, whole_sizes, tmp_path, name):
    status, said = run_limited(whole_sizes[name], *command_for(name, folder), folder=tmp_path)
    assert status == 0, said
    assert [file.name for file in tmp_path.iterdir()] == [name]
    if name != "a.html":
        found, expected = files.open_scene(str(tmp_path / name)), files.open_scene(str(folder / "l.zarr"))
        planes = found.band_data if name.endswith(".tif") else found[["vv", "vh"]].to_dataarray()
        np.testing.assert_array_equal(planes.values, expected[["vv", "vh"]].to_dataarray().values)


@pytest.mark.parametrize("options", [["info", "l.zarr", "--json"], ["verify", "l.zarr"]])
def test_a_report_that_cannot_be_printed_is_an_error(folder, options):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*COMMAND, *options], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0
    assert "No space left" in done.stderr


def disk_of(size):
    """Let this process write files of at most so many bytes, and get an error beyond."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


WRITERS = {
    "page.md": lambda path: markdown.write_page(path, ["a line"] * 1000),
    "picture.png": lambda path: save_comparison(path, np.ones((1, 64, 64)), np.ones((1, 64, 64)), "power"),
    "file.json": lambda path: write_atomically(path, "{}" * 1000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_tables_and_pictures_are_whole_or_the_old_ones(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"good")
    code = f"""
from pathlib import Path
from tests.system.test_full_disk import WRITERS, disk_of
disk_of(100)
WRITERS[{name!r}](Path({str(path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert all_files(tmp_path) == {name: b"good"}
    WRITERS[name](path)
    assert path.stat().st_size > 100
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_link_keeps_leading_to_the_file_that_is_replaced(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with whole_file(tmp_path / "link") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_raster_that_reads_other_values_than_were_written_is_refused(tmp_path, monkeypatch):
    """Whatever the reason: the file system gives other bytes back."""
    import rasterio

    read = rasterio.io.DatasetReader.read

    def flipped(self, *arguments, **options):
        values = read(self, *arguments, **options)
        values[..., 0, 0] = 1
        return values

    monkeypatch.setattr(rasterio.io.DatasetReader, "read", flipped)
    scene = simulated_dataset((40, 52), 3)
    with pytest.raises(OSError, match="does not hold what was written"):
        files.write_scene(scene, str(tmp_path / "a.tif"))
    assert not list(tmp_path.iterdir())


def test_a_scene_in_memory_is_written_as_a_lazy_one_is(tmp_path):
    scene = simulated_dataset((600, 700), 3)
    files.write_scene(scene, str(tmp_path / "a.tif"))
    files.write_scene(scene.chunk(256), str(tmp_path / "b.tif"))
    found = [files.open_scene(str(tmp_path / name)).load() for name in ("a.tif", "b.tif")]
    xr.testing.assert_identical(*found)
    np.testing.assert_array_equal(found[0].band_data.values, scene[["vv", "vh"]].to_dataarray().values)
