"""One writer at a time: whoever comes second is told, groups beside each other are not in the way, a killed owner frees its lock."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest
import zarr

from tests.support.paths import ROOT
from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.stores.locking import writer_lock
from xsarcomp.stores.verification import write_manifest

SCENE = simulated_dataset((48, 40), 2)
HOLDER = """
import sys
from xsarcomp.stores.locking import writer_lock
with writer_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def outcome_elsewhere(*arguments, **options):
    """What another writer meets: None, or the error. A thread of its own knows nothing of the locks of this one."""
    found = []

    def enter():
        try:
            with writer_lock(*arguments, **options):
                found.append(None)
        except ConfigurationError as error:
            found.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0]


@contextlib.contextmanager
def held_by_another_process(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "held\n"
        yield child
        child.stdin.close()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_second_writer_is_refused_until_the_first_has_ended_and_nothing_is_left(tmp_path, is_there):
    path = tmp_path / "a.zarr"
    if is_there:
        path.mkdir()
    before = list(tmp_path.iterdir())
    with writer_lock(path):
        assert "is being written by another process" in outcome_elsewhere(path)
        assert outcome_elsewhere(tmp_path / "b.zarr") is None
        with writer_lock(path), writer_lock(path, group="one"):  # the same writer may enter again
            pass
        assert outcome_elsewhere(path) is not None
    assert outcome_elsewhere(path) is None
    assert list(tmp_path.iterdir()) == before


def test_every_name_of_a_local_store_is_the_same_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.zarr").symlink_to("a.zarr")
    names = ["a.zarr", "./a.zarr/", "link.zarr", (tmp_path / "a.zarr").as_uri()]
    names += [zarr.storage.LocalStore("a.zarr"), zarr.storage.FsspecStore.from_url(f"local://{tmp_path}/a.zarr")]
    with writer_lock(tmp_path / "a.zarr"):
        for name in names:
            assert outcome_elsewhere(name) is not None, name


def test_groups_are_written_together_unless_one_contains_the_other(tmp_path):
    path = tmp_path / "a.zarr"
    with writer_lock(path, group="one"):
        assert outcome_elsewhere(path, group="two") is None
        assert outcome_elsewhere(path, group="two/inner") is None
        assert outcome_elsewhere(path, group="one") is not None
        assert outcome_elsewhere(path, group="one/inner") is not None
        assert outcome_elsewhere(path) is not None
    with writer_lock(path):
        assert outcome_elsewhere(path, group="one") is not None
    assert not list(tmp_path.iterdir())


def test_a_group_that_is_named_by_its_path_is_the_same_group(tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    with writer_lock(tmp_path / "a.zarr", group="one"):
        assert outcome_elsewhere(tmp_path / "a.zarr" / "one") is not None
        assert outcome_elsewhere(tmp_path / "a.zarr" / "two") is None


def test_a_store_in_memory_has_no_lock():
    store = zarr.storage.MemoryStore()
    with writer_lock(store):
        assert outcome_elsewhere(store) is None


def test_a_folder_that_does_not_exist_is_not_made(tmp_path):
    with writer_lock(tmp_path / "missing" / "a.zarr"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_writer_respects_a_lock_and_touches_nothing(tmp_path):
    encoded = SCENE.sarcomp.encode(bits_per_pixel=2, model="s1-grd-10m-lapped")
    path = tmp_path / "a.zarr"
    files.write_store(encoded, str(path))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    writers = [
        lambda: encoded.sarcomp.to_zarr(path, mode="w"),
        lambda: encoded.sarcomp.to_zarr(path, group="beside"),
        lambda: encoded.sarcomp.to_zarr(path, resume=True),
        lambda: files.write_store(encoded, str(path), overwrite=True),
        lambda: files.write_scene(SCENE, str(path), overwrite=True),
        lambda: write_manifest(path),
    ]
    with held_by_another_process(path):
        for write in writers:
            with pytest.raises(ConfigurationError, match="is being written by another process"):
                write()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr"]
    for write in (writers[3], writers[5]):
        write()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.tif", "a.nc"])
def test_writers_of_one_file_are_kept_apart(tmp_path, name):
    with held_by_another_process(tmp_path / name):
        with pytest.raises(ConfigurationError, match="is being written by another process"):
            files.write_scene(SCENE, str(tmp_path / name))
        assert outcome_elsewhere(tmp_path / "other.tif") is None
    files.write_scene(SCENE, str(tmp_path / name))


@pytest.mark.slow
def test_a_killed_owner_frees_its_lock(tmp_path):
    with held_by_another_process(tmp_path / "a.zarr") as child:
        assert outcome_elsewhere(tmp_path / "a.zarr") is not None
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert outcome_elsewhere(tmp_path / "a.zarr") is None
    assert not list(tmp_path.iterdir())


def test_many_threads_hold_a_lock_one_after_the_other(tmp_path):
    inside, most, refused = [], [], []

    def enter():
        for _ in range(50):
            try:
                with writer_lock(tmp_path / "a.zarr"):
                    inside.append(None)
                    most.append(len(inside))
                    inside.pop()
            except ConfigurationError:
                refused.append(None)

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) + len(refused) == 400
    assert max(most) == 1
    assert not list(tmp_path.iterdir())
