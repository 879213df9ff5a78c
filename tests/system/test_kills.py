"""Dask workers and commands that are killed or interrupted: the finished store has the bytes of an undisturbed one.

No moment depends on the speed of the machine: a kill waits until so many blocks are finished, and a command that is to be
ended stops by itself before it finishes more.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr

from tests.support.store_model import FORMAT, all_files, partial_files
from xsarcomp.scenes.large_scene import large_scene
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

HANGS = 600
"""Seconds after which a command or a job hangs: far beyond what it needs on a busy machine."""


def six_blocks():
    """Six Dask blocks of backscatter with holes: about a second of work."""
    values = np.random.default_rng(5).gamma(4.4, 0.1 / 4.4, (1024, 1100)).astype(np.float32)
    values[500:700, 490:530] = np.nan
    return xr.DataArray(values, dims=("y", "x"), name="vv").chunk(512)


def dask_jobs():
    """Functions that write the scene to a path, one for each kind of store; all is planned before."""
    scene = six_blocks()
    encoded = scene.sarcomp.encode(max_error_db=3.0, scale="power", model="s1-grd-10m-lapped")
    encoding = scene.to_dataset().sarcomp.encoding(bits_per_pixel=1, scale="power", model="s1-grd-10m-lapped")
    return [
        lambda path: encoded.sarcomp.to_zarr(path, mode="w", **FORMAT),
        lambda path: scene.to_dataset().sarcomp.to_zarr(path, mode="w", encoding=encoding, **FORMAT),
    ]


def finished_chunks(path):
    """Files of a store in which chunks are, by now."""
    return [
        file for file in path.rglob("*") if "/c/" in file.as_posix() and file.suffix != ".partial" and file.is_file()
    ]


def kill_a_worker(job, path, client, pid, chunks, delay):
    """Run a job and kill the worker of that process id soon after so many chunks are there; True if it was running still.

    None if the cluster has no worker any more that could finish the job.
    """
    errors = []

    def run():
        try:
            with client.as_current():
                job(path)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and len(finished_chunks(path)) < chunks:
        time.sleep(0.002)
    time.sleep(delay)
    was_running = thread.is_alive()
    os.kill(pid, signal.SIGKILL)
    thread.join(240)
    if thread.is_alive() and not client.scheduler_info()["workers"]:
        client.close()  # ends the job
        thread.join(60)
        return None
    assert not thread.is_alive()
    assert not errors
    return was_running


def undisturbed_jobs(folder):
    """Each job, and the files that it writes; in the cluster that is at hand."""
    found = []
    for number, job in enumerate(dask_jobs()):
        job(folder / f"undisturbed {number}")
        found.append((job, all_files(folder / f"undisturbed {number}")))
    return found


def kill_workers_of_one_cluster(first, count, rng, folder):
    """Kill workers until there were ``count`` kills or a worker does not come back; gives what each kill was.

    The nanny of a worker that was killed while it started gives up, which is no matter of ours: the caller goes on with a
    new cluster.
    """
    distributed = pytest.importorskip("distributed")
    folder.mkdir()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        jobs = undisturbed_jobs(folder)
        for number in range(first, count):
            (job, expected), path = jobs[number % len(jobs)], folder / f"killed {number}"
            try:
                client.wait_for_workers(2, timeout=60)
                pids = sorted(client.run(os.getpid).values())
            except (TimeoutError, distributed.comm.CommClosedError):
                return
            chunks = rng.randrange(sum("/c/" in name for name in expected) - 1)
            was_running = kill_a_worker(job, path, client, rng.choice(pids), chunks, rng.uniform(0, 0.05))
            if was_running is None:
                return
            left = partial_files(path)
            assert {name: content for name, content in all_files(path).items() if name not in left} == expected
            assert write_manifest(path).ok
            assert not partial_files(path)
            assert verify_store(path, quick=True).ok
            shutil.rmtree(path)
            yield was_running, len(left)


def kill_workers(count, seed, tmp_path):
    """Number of kills, of those during a job, and of temporary files that they left."""
    rng, total, clusters = random.Random(seed), np.zeros(3, int), 0
    while total[0] < count:
        before, clusters = total[0], clusters + 1
        for was_running, left in kill_workers_of_one_cluster(before, count, rng, tmp_path / str(clusters)):
            total += 1, was_running, left
            print("workers killed, during a job, temporary files left:", total, flush=True)
        assert total[0] > before, "no worker of a new cluster was killed"
    return total


def test_a_killed_dask_worker_changes_no_byte_of_the_finished_store(tmp_path):
    killed, hit, _ = kill_workers(3, 3, tmp_path)
    assert killed == 3
    assert hit >= 1


@pytest.mark.soak
def test_a_hundred_killed_dask_workers_change_no_byte_of_the_finished_stores(tmp_path):
    killed, hit, _ = kill_workers(100, 4, tmp_path)
    assert killed == 100
    assert hit >= 50


COMMAND = [sys.executable, "-c", "from xsarcomp.cli import main; main()"]
STOPPING = """
import os, pathlib, signal, sys, threading, time
from xsarcomp.cli import main
array, count, go_on = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
del sys.argv[1:4]
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run in the background
lock, rename = threading.Lock(), os.replace

def rename_a_few(source, target, **options):
    global count
    if f"/{array}/c/" in pathlib.Path(target).as_posix():
        with lock:
            while count == 0 and not go_on.exists():
                time.sleep(0.01)
            count = max(count - 1, 0)
    return rename(source, target, **options)

os.replace = rename_a_few
main()
"""
"""The same command, with words (ARRAY COUNT FILE) before its own: after COUNT chunks of ARRAY it waits until FILE exists."""
KINDS = {"latents": ("vv_latents", ["--max-error-db", "4"]), "transparent": ("vv", ["--transparent"])}


def encode_command(folder, kind, store, *options, stop_after=None):
    """Start ``xsarcomp encode`` of the source in a folder; it waits for a file ``go on`` after so many new chunks, if any."""
    request = ["--bits-per-pixel", "3", "--scale", "decibel", "--model", "s1-grd-10m-lapped", *KINDS[kind][1]]
    words = (
        COMMAND if stop_after is None else [sys.executable, "-c", STOPPING, KINDS[kind][0], str(stop_after), "go on"]
    )
    command = [*words, "encode", "source.zarr", store, *request, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished_files(store, kind):
    """Path, inode and time of the files whose being there means that a block is finished."""
    found = {}
    for file in (store / KINDS[kind][0] / "c").rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary file that has its name by now
            if file.is_file() and not file.name.endswith(".partial"):
                found[file.relative_to(store)] = (file.stat().st_ino, file.stat().st_mtime_ns)
    return found


def end_when(child, store, kind, count, how):
    """Send a signal to a command that waits after so many chunks, let it go on if it still can, and give what it said."""
    while len(finished_files(store, kind)) < count:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)
    child.send_signal(how)
    (store.parent / "go on").touch()
    said = child.communicate(timeout=HANGS)[1]
    (store.parent / "go on").unlink()
    return said


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with a scene of 2 x 3 chunks and its stores that nothing disturbed."""
    folder = tmp_path_factory.mktemp("source")
    large_scene((1024, 1536), chunk=512)[["vv"]].to_zarr(folder / "source.zarr", consolidated=False)
    for kind in KINDS:
        child = encode_command(folder, kind, f"{kind}.zarr")
        assert child.wait(HANGS) == 0, child.stderr.read()
        child.stderr.close()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_is_killed_twice_goes_on_and_makes_no_finished_block_again(source, kind):
    store, partial = f"killed-{kind}.zarr", source / f".partial-killed-{kind}.zarr"
    before = {}
    for count in (2, 4):
        child = encode_command(source, kind, store, "--resume", stop_after=count - len(before))
        end_when(child, partial, kind, count, signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        found = finished_files(partial, kind)
        assert found.items() >= before.items()
        before = found
    assert len(before) == 4
    child = encode_command(source, kind, store, "--resume")
    assert child.wait(HANGS) == 0, child.stderr.read()
    child.stderr.close()
    assert finished_files(source / store, kind).items() >= before.items()
    assert all_files(source / store) == all_files(source / f"{kind}.zarr")
    assert not partial.exists()


def test_an_interrupted_command_says_how_to_go_on_and_another_request_is_refused(source, interruptible):
    partial = source / ".partial-interrupted.zarr"
    child = encode_command(source, "latents", "interrupted.zarr", stop_after=2)
    said = end_when(child, partial, "latents", 2, signal.SIGINT)
    assert child.returncode != 0
    assert "the same command with --resume goes on" in said
    assert "Traceback" not in said
    before = finished_files(partial, "latents")
    assert before
    child = encode_command(source, "latents", "interrupted.zarr", "--resume", "--keep-means")
    assert "was begun with another scene or other options" in child.communicate(timeout=HANGS)[1]
    assert child.returncode == 1
    assert finished_files(partial, "latents") == before
    child = encode_command(source, "latents", "interrupted.zarr", "--resume")
    assert child.communicate(timeout=HANGS)[1] == ""
    assert all_files(source / "interrupted.zarr") == all_files(source / "latents.zarr")
