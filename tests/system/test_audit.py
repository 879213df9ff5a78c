"""What decoding does to the outside world: it reads the store and the models, and nothing else happens.

Python reports what it is about to do to audit hooks (PEP 578). Run as a program (FOLDER OUTPUT [CONTROL]) this file decodes
the stores of a folder in all ways under such a hook, and prints what it should not have seen as JSON, see ``main``. Native
libraries report nothing; those that decode are NumPy, numba's machine code, zstd and torch's products.
"""

import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

from tests.support.paths import ROOT
from xsarcomp.cli import cli
from xsarcomp.codec import chunk, frame, installed_models, integer_chunk
from xsarcomp.errors import SarcompError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

FORBIDDEN = (
    "socket.", "subprocess.", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty", "os.system", "os.startfile", "pty.",
    "pickle.", "marshal.", "exec", "compile", "import", "ctypes.dlopen", "ctypes.dlsym", "code.__new__", "cpython.run_", "urllib.",
    "http.", "ftplib.", "smtplib.", "webbrowser.", "shutil.", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
    "os.symlink", "os.chmod", "os.chown", "os.putenv", "os.unsetenv", "tempfile.", "os.kill", "mmap.", "sqlite3.", "os.add_dll_directory",
)  # fmt: skip
LISTINGS = (
    "os.listdir",
    "os.scandir",
    "os.chdir",
    "os.walk",
    "os.fwalk",
    "glob.glob",
    "pathlib.Path.glob",
    "pathlib.Path.rglob",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MODELS = Path(installed_models.__file__).parents[1] / "pretrained"
STORES = {  # of each kind, small
    "latents": {"model": "s1-grd-10m-lapped", "rmse_db": 1.2},
    "latents with a bound": {"model": "s1-grd-10m-lapped", "max_error_db": 2.0, "keep_means": True},
    "latents of a network": {"model": "s1-grd-10m", "rmse_db": 1.2},
    "transparent": {"model": "s1-grd-10m-lapped", "rmse_db": 1.2},
    "transparent of a network": {"model": "s1-grd-10m", "rmse_db": 1.2},
    "transparent with a bound": {"model": "s1-grd-10m-lapped", "max_error_db": 2.0},
    "transparent format 2": {"model": "s1-grd-10m-lapped", "rmse_db": 1.2},
}


def write_stores(folder, seed):
    """All stores, each with its manifest, and one that is damaged."""
    scene = simulated_dataset((96, 112), seed).drop_vars("vh")
    for name, target in STORES.items():
        if name.startswith("latents"):
            files.write_store(scene.sarcomp.encode(**target), str(folder / name))
            continue
        form = 2 if name.endswith("2") else 3
        encoding = scene.sarcomp.encoding(zarr_format=form, **target)
        encoding["vv"]["chunks"] = (64, 64)
        scene.to_zarr(folder / name, zarr_format=form, encoding=encoding, consolidated=form == 2)
        write_manifest(folder / name)
    shutil.copytree(folder / "transparent", folder / "damaged")
    first = folder / "damaged/vv/c/0/0"
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)


def decode_everything(folder, output):
    """Decode the stores of a folder in every way; nothing is written but the file of the command."""
    for name in STORES:
        path = folder / name
        consolidated = None if name.endswith("2") else False
        stored = xr.open_zarr(path, consolidated=consolidated, chunks={})
        if name.startswith("latents"):
            assert np.isfinite(stored.sarcomp.decode().vv.compute()).any()
            assert np.isfinite(xr.open_dataset(path, engine="sarcomp").vv.values).any()
            assert np.isfinite(files.open_scene(str(path)).vv.values).any()
            assert np.isfinite(stored.sarcomp.decode(overview=8).vv.compute()).any()
            if "bound" not in name:
                stored.sarcomp.decode(restore="speckle").vv.isel(y=slice(0, 32)).compute()
        else:
            assert np.isfinite(stored.vv.compute()).any()
            assert np.isfinite(zarr.open_group(path, mode="r")["vv"][:40, :40]).any()
        assert verify_store(path).ok
        assert verify_store(path, quick=True).ok
        command(["verify", str(path)])
        command(["info", str(path)])
    with contextlib.suppress(SarcompError):
        zarr.open_group(folder / "damaged", mode="r")["vv"][:]
        raise AssertionError("a damaged chunk was decoded")
    assert not verify_store(folder / "damaged").ok
    content = (folder / "transparent/vv/c/1/1").read_bytes()
    assert chunk.decode_backscatter(content, None, installed_models.load_coder("s1-grd-10m-lapped")).shape == (64, 64)
    residuals = sorted((folder / "latents with a bound/vv_residual/c").rglob("0"))[-1].read_bytes()
    assert integer_chunk.decode_integer_chunk(residuals).ndim == 2
    with contextlib.suppress(SarcompError):
        installed_models.load_coder("../../etc/passwd")
    command(["decode", str(folder / "latents"), str(output)])


def command(arguments):
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)


class Watch:
    """Audit hook that notes what must not happen."""

    def __init__(self, readable, writable):
        self.readable, self.writable = [os.path.realpath(one) for one in readable], os.path.realpath(writable)
        self.is_armed, self.seen, self.opened = False, [], 0

    def __call__(self, event, arguments):
        if not self.is_armed:
            return
        self.is_armed = False  # what is done here is no matter of the decoder
        try:
            problem = self._problem(event, arguments)
        finally:
            self.is_armed = True
        if problem:
            self.seen.append(f"{event}: {problem}")

    def _problem(self, event, arguments):
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, int):  # a file that was opened before
                return ""
            self.opened += 1
            path = os.path.realpath(os.fsdecode(path))
            is_written = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & WRITING)
            where = [self.writable] if is_written else [*self.readable, self.writable]
            return "" if path.startswith(tuple(where)) else f"{path} {mode} {flags}"
        if event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree") and all(
            os.path.realpath(one).startswith(self.writable) for one in arguments if isinstance(one, str)
        ):
            return ""  # a command writes in a folder beside its target, and renames
        if event == "pickle.find_class" and _is_of_dask_names():
            return ""
        if event in LISTINGS:
            if isinstance(arguments[0], int):  # a folder that was opened before
                return ""
            path = os.path.realpath(os.fsdecode(arguments[0] if arguments[0] is not None else "."))
            return "" if path.startswith((*self.readable, self.writable)) else path
        return repr(arguments)[:300] if event.startswith(FORBIDDEN) else ""


def _is_of_dask_names():
    """Whether Dask makes a name for a task: it pickles our functions and records, and loads what it has just pickled."""
    caller = sys._getframe()
    while caller is not None:
        if caller.f_code.co_name == "_normalize_pickle" and caller.f_code.co_filename.endswith("dask/tokenize.py"):
            return True
        caller = caller.f_back
    return False


def intruder():
    """Everything that a decoder must not do, put into the one function that every frame passes."""
    original = frame.read_frame

    def read_frame(content):
        Path("/etc/hostname").read_bytes()
        list(Path("/etc").iterdir())
        os.close(os.open("/dev/null", os.O_WRONLY))
        socket.socket().close()
        subprocess.run(["true"], check=True)
        pickle.loads(pickle.dumps(Path))
        exec("1")
        return original(content)

    for module in (frame, chunk):
        module.read_frame = read_frame


NOTICED = (
    "open: /etc/hostname",
    "os.listdir: /etc",
    "open: /dev/null",
    "socket.__new__",
    "subprocess.Popen",
    "pickle.find_class",
    "exec",
)


def main(folder, output, control=""):
    """Decode the samples, then the subjects under the hook with the models loaded anew; print what was seen.

    With the control "first" the samples are left out, so that what happens once a process is seen too.
    """
    folder, output = Path(folder), Path(output)
    watch = Watch([folder / "subjects", MODELS], output)
    sys.addaudithook(watch)
    if control != "first":
        decode_everything(folder / "samples", output / "sample.tif")
        installed_models._load.cache_clear()
    if control == "intruder":
        intruder()
    watch.is_armed = True
    decode_everything(folder / "subjects", output / "subject.tif")
    watch.is_armed = False
    print(json.dumps({"seen": sorted(set(watch.seen)), "opened": watch.opened}))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for number, name in enumerate(("samples", "subjects")):
        (folder / name).mkdir()
        write_stores(folder / name, 30 + number)
    return folder


def audited(stores, output, *control):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, str(stores), str(output), *control],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_decoding_reads_the_store_and_the_models_and_does_nothing_else(stores, tmp_path):
    found = audited(stores, tmp_path)
    assert found["seen"] == []
    assert found["opened"] > 100
    assert (tmp_path / "subject.tif").exists()


@pytest.mark.soak
def test_a_decoder_that_did_anything_else_would_be_noticed(stores, tmp_path):
    seen = audited(stores, tmp_path, "intruder")["seen"]
    assert not [event for event in NOTICED if not any(one.startswith(event) for one in seen)]


def test_the_first_decoding_of_a_process_unpickles_numbas_kernels_and_runs_no_other_program(stores, tmp_path):
    """Beside imports: the loop of Zarr is a pair of connected sockets, and numba keeps its machine code in pickles."""
    seen = audited(stores, tmp_path, "first")["seen"]
    assert any(one.startswith("pickle.find_class: ('numba") for one in seen)  # the hook sees them
    places = ("('numba.", "('builtins', 'object'", "('copyreg', '_reconstructor'")
    assert not [
        one for one in seen if one.startswith("pickle.") and not one.startswith(places, len("pickle.find_class: "))
    ]
    assert not [one for one in seen if one.startswith("socket.") and not one.startswith("socket.__new__")]
    never = (
        "subprocess.",
        "os.exec",
        "os.spawn",
        "os.posix_spawn",
        "os.fork",
        "os.system",
        "pty.",
        "urllib.",
        "http.",
        "os.remove",
        "os.rename",
    )
    assert not [one for one in seen if one.startswith(never)]


if __name__ == "__main__":
    main(*sys.argv[1:])
