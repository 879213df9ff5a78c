"""Environments in which nobody finds the entry points of the package: ``import xsarcomp`` registers engine and codecs itself.

A checkout on the path, an archive or a browser have no metadata of the package; where it was installed while the process ran,
Zarr and xarray have looked before. Each program runs in a fresh process, with all packages of this environment but this one.
"""

import pickle
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xsarcomp
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
KINDS = ("latents", "transparent", "format 2")
FIRST_LINES = """
import sys, pathlib
others, package, stores = map(pathlib.Path, sys.argv[1:])
sys.path.append(str(others))
def use_package():
    sys.path.insert(0, str(package))
    import xsarcomp
    return xsarcomp
"""
CHECKS = """
import numpy, xarray
for kind in ("latents", "transparent", "format 2"):
    engine = "sarcomp" if kind == "latents" else "zarr"
    opened = xarray.open_dataset(stores / kind, engine=engine, consolidated=kind == "format 2")
    assert numpy.isfinite(opened.vv.values).any(), kind
assert "sarcomp" in xarray.backends.list_engines()
tree = xarray.open_datatree(stores / "latents", engine="sarcomp", consolidated=False)
assert numpy.isfinite(tree.vv.values).any()
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store of each kind, and datasets pickled as a scheduler sends them to its workers."""
    folder = tmp_path_factory.mktemp("stores")
    scene = simulated_dataset((40, 48), seed=5)[["vv"]]
    request = {"rmse_db": 1, "model": MODEL}
    scene.sarcomp.encode(**request).sarcomp.to_zarr(folder / "latents", consolidated=False)
    encoding = scene.sarcomp.encoding(**request)
    scene.sarcomp.to_zarr(folder / "transparent", encoding=encoding, zarr_format=3, consolidated=False)
    encoding = scene.sarcomp.encoding(zarr_format=2, **request)
    scene.sarcomp.to_zarr(folder / "format 2", encoding=encoding, zarr_format=2)
    for kind in KINDS:
        engine = "sarcomp" if kind == "latents" else "zarr"
        opened = xr.open_dataset(folder / kind, engine=engine, chunks={}, consolidated=kind == "format 2")
        (folder / f"{kind}.pickle").write_bytes(pickle.dumps(opened.vv))
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """All that is installed here, as links, without this package."""
    folder = tmp_path_factory.mktemp("others")
    for path in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
        for entry in path.iterdir():
            if "xsarcomp" not in entry.name and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def package(tmp_path):
    """The code of the package alone, without metadata."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "xsarcomp").symlink_to(Path(xsarcomp.__file__).parent)
    return folder


@pytest.fixture
def run(others, package, stores):
    """Function that runs a program in a process that sees no environment variables and no installed package."""

    def run(program):
        command = [sys.executable, "-I", "-S", "-W", "error", "-c", FIRST_LINES + program, others, package, stores]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_importing_a_checkout_registers_all(run):
    program = "xsarcomp = use_package()\nassert xsarcomp.__version__ == '0+unknown'\n" + CHECKS
    run(program + "from xsarcomp.cli import cli\ncli(['--version'], standalone_mode=False)\n")


def test_importing_it_after_the_libraries_that_look_for_it_registers_all(run):
    run("import zarr, numcodecs, xarray\nxarray.backends.list_engines()\nuse_package()\n" + CHECKS)


def test_installing_it_while_the_process_runs_is_enough(run, package):
    """With metadata, and an older version of them that lacks a codec."""
    import importlib.metadata

    installed = importlib.metadata.distribution("xsarcomp")
    metadata = package / f"xsarcomp-{installed.version}.dist-info"
    metadata.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (metadata / name).write_text(installed.read_text(name))
    run("import zarr, numcodecs, xarray\nxarray.backends.list_engines()\nuse_package()\n" + CHECKS)
    lines = (metadata / "entry_points.txt").read_text().splitlines(keepends=True)
    (metadata / "entry_points.txt").write_text("".join(line for line in lines if "xsarcomp.latents" not in line))
    run("use_package()\n" + CHECKS)


def test_a_worker_that_only_unpickles_decodes(run, stores):
    """Dask's own modules are found by what is pickled, and so is this package."""
    program = "sys.path.insert(0, str(package))\nimport pickle, numpy\n"
    for kind in KINDS:
        program += (
            f"array = pickle.loads((stores / {kind + '.pickle'!r}).read_bytes())\n"
            "assert numpy.isfinite(array.compute(scheduler='synchronous').values).any()\n"
        )
    run(program)


def test_without_the_package_a_store_is_not_misread(run):
    program = """
import xarray
for kind in ("transparent", "format 2"):
    try:
        xarray.open_dataset(stores / kind, engine="zarr", consolidated=kind == "format 2").vv.load()
    except Exception as error:
        assert "xsarcomp.backscatter" in repr(error), repr(error)
    else:
        raise AssertionError(kind)
"""
    run(program)


def test_the_values_are_those_of_an_installed_package(run, stores):
    printed = run(
        "use_package()\nimport xarray\nprint(xarray.open_dataset(stores / 'latents', engine='sarcomp').vv.sum().item())"
    )
    expected = xr.open_dataset(stores / "latents", engine="sarcomp").vv.sum().item()
    assert float(printed) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(expected)
