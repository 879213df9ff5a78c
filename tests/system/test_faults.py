"""Killed writers, failing disks, tasks that run twice: what is finished is intact, and trying again mends the rest.

Run as a program (WHICH PATH) it writes a store chunk by chunk, each when it is told to, see ``write_when_told``.
"""

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.support.paths import ROOT
from tests.support.store_model import (
    EDGE,
    MASK,
    PLANES,
    Latents,
    Transparent,
    all_files,
    blocks,
    chunk_path,
    open_array,
    partial_files,
)
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

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


def write_when_told(which, path):
    """What the child process does: a chunk for each line of its input, and a line of output for each chunk."""
    layout = LAYOUTS[which]()
    write_empty(layout, path)
    chunks = write_chunks(layout, path)
    for _ in sys.stdin:
        name, index = next(chunks)
        print(name, *index, flush=True)


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
    """Start a writer, kill it at a random moment of a chunk, and give the chunks that it had finished; some at least.

    The writer waits for a word before each chunk, so that it cannot end before it is killed.
    """
    command = [sys.executable, "-m", __name__, which, str(path)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finished = []
    wanted = rng.randrange(total)
    child.stdin.write((wanted + 2) * "go\n")
    child.stdin.flush()
    while len(finished) <= wanted:
        line = child.stdout.readline().split()
        assert line, "the writer ended by itself"
        finished.append((line[0], tuple(map(int, line[1:]))))
    time.sleep(rng.uniform(0, 0.006))
    child.send_signal(signal.SIGKILL)
    rest = [line.split() for line in child.stdout.read().splitlines()]
    assert child.wait() == -signal.SIGKILL
    child.stdin.close()
    child.stdout.close()
    return finished + [(name, tuple(map(int, index))) for name, *index in rest]


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
        named = {f"{finding.array} {'/'.join(map(str, finding.chunk))}" for finding in missing_chunks(path)}
        kinds = {name for name, (kind, *_) in layout.arrays.items() if kind != MASK}
        assert {one for one in missing if one.split()[0] in kinds} <= named
        leftovers += len(partial_files(path))
        for _ in write_chunks(layout, path):
            pass
        assert chunks_of(path) == expected
        assert write_manifest(path).ok
        assert not partial_files(path)
        assert verify_store(path).ok
        names = set(all_files(path)) - {name for name in all_files(path) if name.startswith("sarcomp_manifest/")}
        assert names == set(all_files(reference))
    return leftovers


def missing_chunks(path):
    """Findings of a check about absent chunks; the others are about temporary files alone."""
    problems = verify_store(path).problems
    assert {one.problem for one in problems} <= {"missing", "stray"}
    assert all(one.key.endswith(".partial") for one in problems if one.problem == "stray")
    return [one for one in problems if one.problem == "missing"]


def test_a_killed_writer_leaves_whole_chunks_and_writing_again_gives_the_undisturbed_store(undisturbed, tmp_path):
    kill_writers(4, 1, undisturbed, tmp_path)


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
    strays = {one.key for one in verify_store(tmp_path / "a").problems if one.problem == "stray"}
    assert strays == {file.relative_to(tmp_path / "a").as_posix() for file in (leftover, mine)}
    assert not write_manifest(tmp_path / "a").ok
    assert mine.exists()
    mine.unlink()
    assert write_manifest(tmp_path / "a").ok
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


if __name__ == "__main__":
    write_when_told(sys.argv[1], Path(sys.argv[2]))
