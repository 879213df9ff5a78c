"""Two processes with one target, and writers that are killed while they replace a store: what has the final name is whole.

Run as a program (swap FOLDER) it replaces a store again and again and is killed before each step, see ``kill_at_each_step``.
"""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr

from tests.support.paths import ROOT
from tests.support.store_model import all_files
from xsarcomp.errors import CorruptStreamError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files, replacing
from xsarcomp.stores.verification import verify_store

pytestmark = pytest.mark.slow

REQUESTS = [{"bits_per_pixel": 1}, {"bits_per_pixel": 3}]
HANGS = 600
"""Seconds after which a process hangs."""


def encoded(number):
    scene = simulated_dataset((512, 300), 5).chunk(256)
    return scene.sarcomp.encode(model="s1-grd-10m-lapped", scale="power", **REQUESTS[number])


def write_when_told(number, path, barrier, answers):
    """Encode, meet the other process, and write."""
    dataset = encoded(number)
    barrier.wait(HANGS)
    try:
        files.write_store(dataset, path, overwrite=True)
    except Exception as error:
        answers.put((number, str(error)))
    else:
        answers.put((number, ""))


def replace_for_ever(path, started):
    """Replace a store by the other one until somebody kills the process."""
    datasets = [encoded(number) for number in range(2)]
    for number in itertools.cycle(range(2)):
        files.write_store(datasets[number], path, overwrite=True)
        started.set()


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Files of the store of each request."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for number in range(2):
        files.write_store(encoded(number), str(folder / f"{number}.zarr"))
    return [all_files(folder / f"{number}.zarr") for number in range(2)]


def write_pairs(count, processes, undisturbed, folder):
    """Let two processes write one store at the same moment; the number of pairs of which one was refused."""
    refused = 0
    for pair in range(count):
        path, barrier, answers = str(folder / f"{pair}.zarr"), processes.Barrier(2), processes.Queue()
        both = [processes.Process(target=write_when_told, args=(number, path, barrier, answers)) for number in range(2)]
        for process in both:
            process.start()
        said = dict(answers.get(timeout=HANGS) for _ in both)
        for process in both:
            process.join(HANGS)
        successful = [number for number in said if not said[number]]
        assert successful
        assert all("is being written by another process" in error for error in said.values() if error)
        found = all_files(path)
        assert found in [undisturbed[number] for number in successful]
        assert verify_store(path).ok
        assert {file.name for file in folder.iterdir()} == {f"{number}.zarr" for number in range(pair + 1)}
        refused += len(successful) == 1
    return refused


def test_of_two_encoders_with_one_target_one_is_refused_and_the_other_writes_its_store(
    processes, undisturbed, tmp_path
):
    assert write_pairs(3, processes, undisturbed, tmp_path)


@pytest.mark.soak
def test_forty_pairs_of_encoders_with_one_target(processes, undisturbed, tmp_path):
    print("one of two was refused:", write_pairs(40, processes, undisturbed, tmp_path))


def kill_replacing_writers(count, seed, processes, undisturbed, folder):
    """Kill a process that replaces a store again and again; the name always holds one of the two stores."""
    rng, path = random.Random(seed), folder / "a.zarr"
    for _ in range(count):
        started = processes.Event()
        process = processes.Process(target=replace_for_ever, args=(str(path), started))
        process.start()
        assert started.wait(HANGS)
        time.sleep(rng.uniform(0, 2))
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANGS)
        assert process.exitcode == -signal.SIGKILL
        assert all_files(path) in undisturbed
        assert verify_store(path, quick=True).ok
    files.write_store(encoded(0), str(path), overwrite=True)
    assert all_files(path) == undisturbed[0]
    assert [file.name for file in folder.iterdir()] == ["a.zarr"]


def test_a_killed_writer_leaves_the_old_or_the_new_store(processes, undisturbed, tmp_path):
    kill_replacing_writers(3, 1, processes, undisturbed, tmp_path)


@pytest.mark.soak
def test_sixty_killed_writers_leave_the_old_or_the_new_store(processes, undisturbed, tmp_path):
    kill_replacing_writers(60, 2, processes, undisturbed, tmp_path)


STEPS = (
    "os.rename",
    "os.remove",
    "os.rmdir",
    "shutil.rmtree",
    "ctypes.call_function",
    "ctypes.dlsym/handle",
    "ctypes.dlsym",
)


def replace_and_die(path, new, step):
    """Replace a store, and die before the step of that number."""
    steps = itertools.count()
    with replacing.partial_store(path, None, can_go_on=False) as partial:
        shutil.copytree(new, partial)

        def die(event, _arguments):
            if event in STEPS and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)


def kill_at_each_step(folder):
    """Whatever step of replacing a store comes last, its name holds a whole store, or the old one is found again."""
    for name in ("old", "new"):
        for number in range(3):
            (folder / name / str(number)).mkdir(parents=True)
            (folder / name / str(number) / "file").write_text(f"{name} {number}")
    contents = {name: all_files(folder / name) for name in ("old", "new")}
    path, exchange = folder / "a.zarr", replacing._exchange
    for can_exchange, step in ((can, step) for can in (True, False) for step in range(100)):
        replacing._exchange = exchange if can_exchange else lambda first, second: False
        shutil.copytree(folder / "old", path)
        child = os.fork()
        if child == 0:
            replace_and_die(path, folder / "new", step)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        was_there = path.exists()
        assert was_there or all_files(replacing.replaced_path(path)) == contents["old"], step
        assert was_there or not can_exchange, step
        assert not was_there or all_files(path) in contents.values(), step
        replacing.recover(path)
        assert all_files(path) in contents.values(), step
        assert not replacing.replaced_path(path).exists()
        print(can_exchange, step, os.WIFSIGNALED(status), was_there, all_files(path) == contents["new"])
        for left in (path, replacing.partial_path(path)):
            replacing.remove(left)
        assert sorted(file.name for file in folder.iterdir()) == ["new", "old"]


def test_a_store_is_whole_or_found_again_whatever_step_of_its_replacement_is_the_last(tmp_path):
    done = subprocess.run([sys.executable, "-m", __name__, "swap", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    for can_exchange in ("True", "False"):
        killed = [row for row in rows if row[0] == can_exchange and row[2] == "True"]
        assert len(killed) >= 5
        assert {row[4] for row in killed} == {"True", "False"}  # before and after the new store had its name
        assert len(killed) < 100  # the others reached the end
    assert any(row[3] == "False" for row in rows if row[0] == "False")


def test_a_store_that_a_killed_writer_had_put_aside_is_named_to_readers_and_comes_back(tmp_path):
    path = tmp_path / "a.zarr"
    files.write_store(encoded(0), str(path))
    before = all_files(path)
    path.rename(replacing.replaced_path(path))
    with pytest.raises(FileNotFoundError, match=r"is whole in .*\.replaced-a\.zarr"):
        files.open_scene(str(path))
    with pytest.raises(Exception, match="exists: choose another name"):
        files.write_store(encoded(1), str(path))
    assert all_files(path) == before


class Meddling(zarr.storage.WrapperStore):
    """A store into which somebody else writes as soon as a chunk is there."""

    def __init__(self, store, key, change):
        super().__init__(store)
        self.key, self.change = key, change

    def _with_store(self, store):
        return type(self)(store, self.key, self.change)

    def with_read_only(self, read_only=False):
        return self

    async def set(self, key, value):
        await self._store.set(key, value)
        if key == self.key:
            await self.change(self._store, key, value)


async def removed(store, key, value):
    await store.delete(key)


async def altered(store, key, value):
    content = value.to_bytes()
    at = 20 if content.startswith(b"XSAR") else len(content) - 1
    await store.set(key, type(value).from_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]))


def stores_to_meddle_with():
    scene = simulated_dataset((96, 130), 5)[["vv"]].chunk(64)
    encoding = scene.sarcomp.encoding(bits_per_pixel=2, model="s1-grd-10m-lapped")
    sharded = {"vv": {**encoding["vv"], "chunks": (32, 32), "shards": (64, 64)}}
    old = scene.sarcomp.encoding(bits_per_pixel=2, model="s1-grd-10m-lapped", zarr_format=2)
    latents = scene.sarcomp.encode(bits_per_pixel=2, model="s1-grd-10m-lapped", max_error_db=3)
    plain = {"vv": {**encoding["vv"], "chunks": (64, 64)}}
    return {
        "transparent": (scene, {"encoding": plain, "zarr_format": 3, "consolidated": False}),
        "shards": (scene, {"encoding": sharded, "zarr_format": 3, "consolidated": False}),
        "format 2": (scene, {"encoding": {"vv": {**old["vv"], "chunks": (64, 64)}}, "zarr_format": 2}),
        "latents": (latents, {"zarr_format": 3, "consolidated": False}),
    }


@pytest.mark.parametrize("kind", ["transparent", "shards", "format 2", "latents"])
def test_whatever_chunk_another_process_writes_or_removes_meanwhile_the_writer_fails(kind):
    """Each chunk in turn: in a store without locks a writer compares what lies there with what it has written."""
    dataset, options = stores_to_meddle_with()[kind]
    store = zarr.storage.MemoryStore()
    dataset.sarcomp.to_zarr(store, **options)
    assert verify_store(store).ok
    names = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
    chunks = [key for key in store._store_dict if not key.endswith(names) and "sarcomp_manifest" not in key]
    assert len(chunks) >= 5
    for key in chunks:
        for change in (removed, altered):
            disturbed = zarr.storage.MemoryStore()
            with pytest.raises(CorruptStreamError, match="wrong chunks"):
                dataset.sarcomp.to_zarr(Meddling(disturbed, key, change), **options)
            assert not any("sarcomp_manifest" in name for name in disturbed._store_dict)


if __name__ == "__main__":
    kill_at_each_step(Path(sys.argv[2]))
