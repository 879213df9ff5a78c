"""Killed writers and workers, failing disks, tasks that run twice: what is finished is intact, and trying again mends the rest.

Run as a program (WHICH PATH) it writes a store chunk by chunk and says so after each, see ``write_slowly``.
"""

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from store_model import EDGE, FORMAT, MASK, PLANES, Latents, Transparent, all_files, blocks, chunk_path, open_array

from xsarcomp import files
from xsarcomp.evaluation.large_scene import large_scene as whole_scene
from xsarcomp.evaluation.simulation import simulated_dataset
from xsarcomp.verification import record_store, verify_store

LAYOUTS = {"transparent": Transparent, "latents": lambda: Latents(max_error_db=1.5)}
BOTH = pytest.mark.parametrize("which", LAYOUTS)
NUMBERS = range(PLANES)
abandoned = pytest.mark.filterwarnings(  # Zarr does not await what it had begun beside the operation that failed
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:coroutine:RuntimeWarning",
    "ignore:Object at .* is not recognized:zarr.errors.ZarrUserWarning",  # chunks without metadata, until the retry
)


def write_empty(layout, path):
    """Metadata of a store of all planes, and no chunk."""
    layout.write([0], path, mode="w")
    for name in layout.arrays:
        array = open_array(path, name, mode="r+")
        array.resize((0, *array.shape[1:]))
        array.resize((len(NUMBERS), *array.shape[1:]))


def write_chunks(layout, path):
    """Write all chunks, one after the other; gives array and index of each that is finished."""
    for name, (_, shape, fill) in layout.arrays.items():
        values = np.concatenate([layout.values(name, number) for number in NUMBERS])
        array = open_array(path, name, mode="r+")
        for window, _ in blocks(values, shape, fill):
            array[window] = values[window]
            yield name, tuple(span.start // edge for span, edge in zip(window, shape, strict=True))


def write_slowly(which, path):
    """What the child process does."""
    layout = LAYOUTS[which]()
    write_empty(layout, path)
    for name, index in write_chunks(layout, path):
        print(name, *index, flush=True)
    print("done", flush=True)


def partial_files(path):
    return {name for name in all_files(path) if name.endswith(".partial")}


def chunks_of(path):
    """Bytes of all chunks, by path; no metadata and no temporary files."""
    return {
        name: content for name, content in all_files(path).items() if "/c/" in name and not name.endswith(".partial")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both layouts, and their stores that nothing disturbed."""
    stores = {}
    for which, make in LAYOUTS.items():
        layout, path = make(), tmp_path_factory.mktemp("undisturbed") / which
        write_empty(layout, path)
        written = list(write_chunks(layout, path))
        assert len(written) >= 24
        stores[which] = layout, path
    return stores


def kill_a_writer(which, path, rng, total):
    """Start a writer, kill it at a random moment, and give the chunks that it had finished; some of them at least."""
    command = [sys.executable, __file__, which, str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finished = []
    wanted = rng.randrange(total)
    while len(finished) <= wanted:
        line = child.stdout.readline().split()
        assert line, "the writer ended by itself"
        assert line != ["done"]
        finished.append((line[0], tuple(map(int, line[1:]))))
    time.sleep(rng.uniform(0, 0.006))
    child.send_signal(signal.SIGKILL)
    rest = [line.split() for line in child.stdout.read().splitlines()]
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return finished + [(name, tuple(map(int, index))) for name, *index in rest if name != "done"]


def kill_writers(count, seed, undisturbed, tmp_path):
    """Number of temporary files that all kills left."""
    rng, leftovers = random.Random(seed), 0
    for number in range(count):
        which = list(LAYOUTS)[number % 2]
        layout, reference = undisturbed[which]
        expected, path = chunks_of(reference), tmp_path / f"killed {number}"
        finished = kill_a_writer(which, path, rng, total=20)
        found = chunks_of(path)
        assert found.items() <= expected.items()  # what is there is whole
        done = {chunk_path("", *key).as_posix() for key in finished}
        assert done & expected.keys() <= found.keys()  # what was finished is there
        missing = {name.replace("/c/", " ") for name in expected.keys() - found.keys()}
        named = {f"{one['array']} {'/'.join(map(str, one['chunk']))}" for one in missing_chunks(path)}
        kinds = {name for name, (kind, *_) in layout.arrays.items() if kind != MASK}
        assert {one for one in missing if one.split()[0] in kinds} <= named
        leftovers += len(partial_files(path))
        for _ in write_chunks(layout, path):
            pass
        assert chunks_of(path) == expected
        assert record_store(path)["ok"]
        assert not partial_files(path)
        assert verify_store(path)["ok"]
        names = set(all_files(path)) - {name for name in all_files(path) if name.startswith("sarcomp_manifest/")}
        assert names == set(all_files(reference))
    return leftovers


def missing_chunks(path):
    """Findings of a check about absent chunks; the others are about temporary files alone."""
    problems = verify_store(path)["problems"]
    assert {one["problem"] for one in problems} <= {"missing", "stray"}
    assert all(one["key"].endswith(".partial") for one in problems if one["problem"] == "stray")
    return [one for one in problems if one["problem"] == "missing"]


def test_a_killed_writer_leaves_whole_chunks_and_writing_again_gives_the_undisturbed_store(undisturbed, tmp_path):
    kill_writers(10, 1, undisturbed, tmp_path)


@pytest.mark.soak
def test_forty_killed_writers_leave_whole_chunks(undisturbed, tmp_path):
    print("temporary files left:", kill_writers(40, 2, undisturbed, tmp_path))


@pytest.mark.parametrize("name", ["vv/c/0/0/0.{}.partial", "vv/zarr.{}.partial", "zarr.{}.partial"])
def test_temporary_files_of_a_killed_writer_are_named_and_recording_removes_them(undisturbed, tmp_path, name):
    layout, reference = undisturbed["transparent"]
    write_empty(layout, tmp_path / "a")
    for _ in write_chunks(layout, tmp_path / "a"):
        pass
    leftover = tmp_path / "a" / name.format("0123456789abcdef" * 2)
    leftover.write_bytes(b"half a chunk")
    mine = leftover.with_name("notes.partial")  # not of Zarr: left alone, and in the way
    mine.write_bytes(b"notes")
    strays = {one["key"] for one in verify_store(tmp_path / "a")["problems"] if one["problem"] == "stray"}
    assert strays == {file.relative_to(tmp_path / "a").as_posix() for file in (leftover, mine)}
    assert not record_store(tmp_path / "a")["ok"]
    assert mine.exists()
    mine.unlink()
    assert record_store(tmp_path / "a")["ok"]
    assert not leftover.exists()
    assert chunks_of(tmp_path / "a").items() >= chunks_of(reference).items()


class Failing(zarr.storage.WrapperStore):
    """A store in memory whose operation number ``at`` fails, and all after it if ``forever``."""

    def __init__(self, store, at=-1, code=0, forever=False):
        super().__init__(store)
        self.at, self.code, self.forever, self.count = at, code, forever, 0

    def _with_store(self, store):
        self._store = store  # one counter, however xarray and Zarr wrap it
        return self

    def with_read_only(self, read_only=False):
        return self

    def _operation(self):
        self.count += 1
        if self.count - 1 == self.at or (self.forever and self.count > self.at >= 0):
            raise OSError(self.code, os.strerror(self.code))

    async def set(self, key, value):
        self._operation()
        await self._store.set(key, value)

    async def get(self, key, prototype, byte_range=None):
        self._operation()
        return await self._store.get(key, prototype, byte_range)


def contents(store):
    return {key: value.to_bytes() for key, value in store._store_dict.items()}


def sixteen_chunks(layout, store):
    """Write four planes of four chunks."""
    layout.write([0, 1, 3, 4], store, mode="w")


@abandoned
@BOTH
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full disk", "input or output error"])
def test_an_error_at_each_operation_of_a_job_surfaces_damages_nothing_and_is_mended_by_a_retry(which, code):
    layout = LAYOUTS[which]()
    counting = Failing(zarr.storage.MemoryStore())
    sixteen_chunks(layout, counting)
    expected, surfaced = contents(counting._store), []
    assert sum("/c/" in key for key in expected) >= 16
    for at in range(counting.count):
        store = zarr.storage.MemoryStore()
        try:
            sixteen_chunks(layout, Failing(store, at, code, forever=code == errno.ENOSPC))
        except OSError as error:
            surfaced.append(error.errno)
        else:
            assert contents(store) == expected
        found = {key: value for key, value in contents(store).items() if "/c/" in key}
        assert found.items() <= expected.items()
        sixteen_chunks(layout, store)
        assert contents(store) == expected
    assert surfaced == [code] * counting.count


@abandoned
@BOTH
def test_an_error_at_each_operation_of_a_reader_surfaces_and_is_never_fill_value(which):
    layout = LAYOUTS[which]()
    store = zarr.storage.MemoryStore()
    sixteen_chunks(layout, store)
    expected = layout.decoded(store).values
    counting = Failing(store)
    np.testing.assert_array_equal(layout.decoded(counting).values, expected)
    surfaced = []
    for at in range(counting.count):
        try:
            found = layout.decoded(Failing(store, at, errno.EIO)).values
        except OSError as error:
            surfaced.append(error.errno)
        else:
            np.testing.assert_array_equal(found, expected)
    assert set(surfaced) == {errno.EIO}
    assert len(surfaced) >= 16


@contextlib.contextmanager
def largest_file(size):
    """The kernel refuses to write more than ``size`` bytes into a file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_writes_that_the_kernel_refuses_surface_and_leave_neither_torn_chunks_nor_temporary_files(
    undisturbed, tmp_path
):
    layout, reference = undisturbed["transparent"]
    expected, path = chunks_of(reference), tmp_path / "a"
    write_empty(layout, path)
    median = int(np.median([len(content) for content in expected.values()]))
    array, refused = open_array(path, "vv", mode="r+"), []
    values = np.concatenate([layout.values("vv", number) for number in NUMBERS])
    for window, _ in blocks(values, (1, EDGE, EDGE), np.nan):
        try:
            with largest_file(median):
                array[window] = values[window]
        except OSError as error:
            refused.append(error.errno)
    found = chunks_of(path)
    assert refused == [errno.EFBIG] * (len(expected) - len(found))
    assert len(refused) > 3
    assert found.items() <= expected.items()
    assert not partial_files(path)
    for _ in write_chunks(layout, path):
        pass
    assert chunks_of(path) == expected


def test_a_store_that_fails_in_the_middle_does_not_replace_the_one_that_was_there(tmp_path):
    scene = simulated_dataset((200, 200), 4)
    path = str(tmp_path / "a.zarr")
    files.write_store(scene.sarcomp.encode(rmse_db=1.5), path)
    before = all_files(path)
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        files.write_store(scene.sarcomp.encode(rmse_db=0.8), path, overwrite=True)
    assert all_files(path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr"]


@BOTH
def test_tasks_that_run_twice_at_the_same_time_give_the_same_bytes(undisturbed, tmp_path, which):
    layout, reference = undisturbed[which]
    path = tmp_path / "a"
    write_empty(layout, path)
    tasks = []
    for name, (_, shape, fill) in layout.arrays.items():
        values = np.concatenate([layout.values(name, number) for number in NUMBERS])
        array = open_array(path, name, mode="r+")
        tasks += [(array, window, values[window]) for window, _ in blocks(values, shape, fill)]

    def write(task):
        array, window, values = task
        array[window] = values

    twice = 2 * tasks
    random.Random(5).shuffle(twice)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [task for pair in zip(twice, twice, strict=True) for task in pair]))
    assert chunks_of(path) == chunks_of(reference)
    assert not partial_files(path)


def large_scene():
    """Six Dask blocks of backscatter with holes: about a second of work."""
    values = np.random.default_rng(5).gamma(4.4, 0.1 / 4.4, (1024, 1100)).astype(np.float32)
    values[500:700, 490:530] = np.nan
    return xr.DataArray(values, dims=("y", "x"), name="vv").chunk(512)


def dask_jobs():
    """Functions that write the scene to a path, one for each kind of store; all is planned before."""
    scene = large_scene()
    encoded = scene.sarcomp.encode(max_error_db=3.0, scale="power", model="s1-grd-10m-lapped")
    encoding = scene.to_dataset().sarcomp.encoding(bits_per_pixel=1, scale="power", model="s1-grd-10m-lapped")
    return [
        lambda path: encoded.sarcomp.to_zarr(path, mode="w", **FORMAT),
        lambda path: scene.to_dataset().sarcomp.to_zarr(path, mode="w", encoding=encoding, **FORMAT),
    ]


def kill_a_worker(job, path, client, pid, delay):
    """Run a job and kill the worker of that process id meanwhile; True if the job was still running then.

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
    """Each job, the files that it writes, and how long it takes, s; in the cluster that is at hand."""
    found = []
    for number, job in enumerate(dask_jobs()):
        started = time.perf_counter()
        job(folder / f"undisturbed {number}")
        found.append((job, all_files(folder / f"undisturbed {number}"), time.perf_counter() - started))
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
            (job, expected, seconds), path = jobs[number % len(jobs)], folder / f"killed {number}"
            try:
                client.wait_for_workers(2, timeout=60)
                pids = sorted(client.run(os.getpid).values())
            except (TimeoutError, distributed.comm.CommClosedError):
                return
            was_running = kill_a_worker(job, path, client, rng.choice(pids), rng.uniform(0.1, 0.8) * seconds)
            if was_running is None:
                return
            left = partial_files(path)
            assert {name: content for name, content in all_files(path).items() if name not in left} == expected
            assert record_store(path)["ok"]
            assert not partial_files(path)
            assert verify_store(path, quick=True)["ok"]
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
    killed, hit, _ = kill_workers(5, 3, tmp_path)
    assert killed == 5
    assert hit >= 1


@pytest.mark.soak
def test_a_hundred_killed_dask_workers_change_no_byte_of_the_finished_stores(tmp_path):
    killed, hit, _ = kill_workers(100, 4, tmp_path)
    assert killed == 100
    assert hit >= 50  # jobs take longer at first, so that some kills come after them


COMMAND = [sys.executable, "-c", "from xsarcomp.cli import main; main()"]
KINDS = {"latents": ("vv_latents", ["--max-error-db", "4"]), "transparent": ("vv", ["--transparent"])}


def encode_command(folder, kind, store, *options):
    """Start ``xsarcomp encode`` of the source in a folder."""
    request = ["--bits-per-pixel", "3", "--scale", "decibel", "--model", "s1-grd-10m-lapped", *KINDS[kind][1]]
    command = [*COMMAND, "encode", "source.zarr", store, *request, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished_files(store, kind):
    """Path, inode and time of the files whose being there means that a block is finished."""
    found = {}
    for file in (store / KINDS[kind][0] / "c").rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary file that has its name by now
            if file.is_file() and not file.name.endswith(".partial"):
                found[file.relative_to(store)] = (file.stat().st_ino, file.stat().st_mtime_ns)
    return found


def stop_when(child, store, kind, count, how):
    """Send a signal to a command when it has finished so many chunks; what it said, None if it was finished before."""
    while len(finished_files(store, kind)) < count and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(how)
    said = child.communicate(timeout=240)[1]
    return None if child.returncode == 0 else said


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with a scene of 3 x 4 chunks and its stores that nothing disturbed."""
    folder = tmp_path_factory.mktemp("source")
    whole_scene((1536, 2048), chunk=512)[["vv"]].to_zarr(folder / "source.zarr", consolidated=False)
    for kind in KINDS:
        child = encode_command(folder, kind, f"{kind}.zarr")
        assert child.wait(240) == 0, child.stderr.read()
        child.stderr.close()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_is_killed_twice_goes_on_and_makes_no_finished_block_again(source, kind):
    store, partial = f"killed-{kind}.zarr", source / f".partial-killed-{kind}.zarr"
    before, killed = {}, 0
    for count in (3, 8):
        child = encode_command(source, kind, store, "--resume")
        killed += stop_when(child, partial, kind, count, signal.SIGKILL) is not None
        found = finished_files(partial, kind)
        assert found.items() >= before.items()
        before = found
    assert killed == 2
    assert 8 <= len(before) < 12
    child = encode_command(source, kind, store, "--resume")
    assert child.wait(240) == 0, child.stderr.read()
    child.stderr.close()
    assert finished_files(source / store, kind).items() >= before.items()
    assert all_files(source / store) == all_files(source / f"{kind}.zarr")
    assert not partial.exists()


def test_an_interrupted_command_says_how_to_go_on_and_another_request_is_refused(source):
    partial = source / ".partial-interrupted.zarr"
    said = stop_when(encode_command(source, "latents", "interrupted.zarr"), partial, "latents", 2, signal.SIGINT)
    assert "the same command with --resume goes on" in said
    assert "Traceback" not in said
    before = finished_files(partial, "latents")
    assert before
    child = encode_command(source, "latents", "interrupted.zarr", "--resume", "--keep-means")
    assert "was begun with another scene or other options" in child.communicate(timeout=240)[1]
    assert child.returncode == 1
    assert finished_files(partial, "latents") == before
    child = encode_command(source, "latents", "interrupted.zarr", "--resume")
    assert child.communicate(timeout=240)[1] == ""
    assert all_files(source / "interrupted.zarr") == all_files(source / "latents.zarr")


if __name__ == "__main__":
    write_slowly(sys.argv[1], Path(sys.argv[2]))
