"""Partial stores: stopped anywhere and resumed, each equals the undisturbed store, and no finished block is computed again."""

import json
import random
import shutil
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.store_model import all_files
from xsarcomp.errors import ConfigurationError, CorruptStreamError
from xsarcomp.scenes.large_scene import large_scene
from xsarcomp.stores.verification import verify_store
from xsarcomp.stores.writing import WriteReport, write_dataset

MODEL = "s1-grd-10m-lapped"
REQUEST = {"bits_per_pixel": 3, "scale": "decibel", "model": MODEL}
KINDS = ("latents", "guarantees", "transparent", "memory", "shards", "format 2")
BLOCKS = {"latents": 12, "guarantees": 6, "transparent": 12, "memory": 0, "shards": 12, "format 2": 12}
pytestmark = [pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"), pytest.mark.slow]


def scene(chunk=512, seed=0):
    """Backscatter on 2 x 3 blocks; of VV two blocks hold nothing."""
    made = large_scene((700, 1060), chunk=chunk, seed=seed)
    made["vv"] = made.vv.where((made.vv.y > 600) | (made.vv.x < 512))
    return made.assign_coords({dim: np.arange(size) * 10.0 for dim, size in made.sizes.items()})


def planned(kind, chunk=512, **request):
    """A dataset, and arguments to write it with."""
    request = {**REQUEST, **request}
    if kind == "transparent":
        return scene(chunk), {"encoding": scene().sarcomp.encoding(**request), "consolidated": False}
    if kind == "format 2":
        return scene(chunk), {"encoding": scene().sarcomp.encoding(**request, zarr_format=2), "zarr_format": 2}
    if kind == "memory":
        return scene()[["vv"]].load().sarcomp.encode(**request), {}
    if kind == "guarantees":
        return scene(chunk)[["vv"]].sarcomp.encode(**request, max_error_db=2.0, keep_means=True), {}
    encoded = scene(chunk).sarcomp.encode(**request)
    return encoded, (
        {"encoding": {"vv_latents": {**encoded.vv_latents.encoding, "shards": (64, 64, 64), "chunks": (64, 32, 32)}}}
        if kind == "shards"
        else {}
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """By kind: dataset, arguments, path of the store that nothing disturbed."""
    made = {}
    for kind in KINDS:
        dataset, options = planned(kind)
        path = tmp_path_factory.mktemp("undisturbed") / kind.replace(" ", "-")
        assert write_dataset(dataset, path, **options) == WriteReport(blocks=BLOCKS[kind], reused=0)
        made[kind] = dataset, options, path
    return made


class Stopping(zarr.storage.LocalStore):
    """A store that fails at all writes after the first so many; of the class, because a store may be copied on its way."""

    LEFT: ClassVar[int] = 0
    LOCK: ClassVar[threading.Lock] = threading.Lock()

    async def set(self, key, value):
        with self.LOCK:
            if Stopping.LEFT <= 0:
                raise OSError("stopped")
            Stopping.LEFT -= 1
        await super().set(key, value)

    async def set_if_not_exists(self, key, value):
        await self.set(key, value)


def chunk_files(path):
    """Inode and time of each file that holds chunks."""
    files = (file for file in Path(path).rglob("*") if file.is_file() and not file.name.startswith(("zarr.", ".z")))
    return {file.relative_to(path).as_posix(): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_was_stopped_anywhere_becomes_the_undisturbed_one(undisturbed, tmp_path, kind):
    dataset, options, path = undisturbed[kind]
    expected, total = all_files(path), len(all_files(path))
    for number, left in enumerate([1, total // 3, 2 * total // 3, total - 1]):
        store = tmp_path / str(number)
        Stopping.LEFT = left
        with pytest.raises(OSError, match="stopped"):
            write_dataset(dataset, Stopping(store), **options)
        before = chunk_files(store)
        written = write_dataset(dataset, store, resume=True, **options)
        assert all_files(store) == expected
        assert chunk_files(store).items() >= {name: before[name] for name in kept(kind, before)}.items()
        assert written.blocks == BLOCKS[kind]


def kept(kind, files):
    """Those files of chunks that a writer that goes on leaves as they are, because their block is finished."""
    files = {name for name in files if not name.startswith(("sarcomp_manifest/", "x/", "y/"))}
    if kind not in ("latents", "guarantees"):
        return files if kind != "shards" else {name for name in files if "vv_latents" in name}
    done = {block_of(name) for name in files if "_latents/" in name}
    return {name for name in files if block_of(name) in done}


def block_of(name):
    """Variable and place of the block that a file of a chunk belongs to; here each block is one Zarr chunk."""
    return name[:2], *name.split("/")[-2:]


@pytest.mark.parametrize("kind", ["latents", "guarantees", "transparent"])
def test_whatever_chunks_of_unfinished_blocks_are_missing_comes_back(undisturbed, tmp_path, kind):
    dataset, options, path = undisturbed[kind]
    rng, expected = random.Random(7), all_files(path)
    for number in range(4):
        shutil.copytree(path, tmp_path / str(number))
        chunks = [name for name in chunk_files(tmp_path / str(number)) if name.startswith("v")]
        last = [name for name in sorted(chunks) if "_latents/" in name or kind == "transparent"]
        gone = set(rng.sample(last, len(last) // 2))
        unfinished = {block_of(name) for name in gone}
        gone |= {name for name in sorted(chunks) if block_of(name) in unfinished and rng.random() < 0.5}
        for name in gone:
            (tmp_path / str(number) / name).unlink()
        written = write_dataset(dataset, tmp_path / str(number), resume=True, **options)
        assert all_files(tmp_path / str(number)) == expected
        # of the transparent store two chunks hold nothing but NaN, and are made again each time
        assert written.blocks - written.reused == len(unfinished) + 2 * (kind == "transparent")


def test_blocks_of_another_size_find_what_is_finished(undisturbed, tmp_path):
    _, options, path = undisturbed["latents"]
    shutil.copytree(path, tmp_path / "a")
    shutil.rmtree(tmp_path / "a/sarcomp_manifest")
    (tmp_path / "a/vv_latents/c/0/1/2").unlink()
    written = write_dataset(planned("latents", chunk=1024)[0], tmp_path / "a", resume=True, **options)
    assert written == WriteReport(blocks=4, reused=3)
    assert all_files(tmp_path / "a") == all_files(path)


@pytest.mark.parametrize("name", ["vv_mask/c/0/0", "vv_latents/c/0/1/2", "vv_latents/zarr.json", "x/c/0"])
def test_what_a_killed_writer_left_half_written_is_no_chunk_and_is_removed(undisturbed, tmp_path, name):
    dataset, options, path = undisturbed["latents"]
    shutil.copytree(path, tmp_path / "a")
    (tmp_path / "a" / name).rename(tmp_path / "a" / f"{name}.{'0' * 32}.partial")
    if name == "vv_mask/c/0/0":
        (tmp_path / "a/vv_latents/c/0/0/0").unlink()
    write_dataset(dataset, tmp_path / "a", resume=True, **options)
    assert all_files(tmp_path / "a") == all_files(path)


@pytest.mark.parametrize("kind", ["latents", "format 2"])
def test_metadata_that_were_not_finished_are(undisturbed, tmp_path, kind):
    """Zarr writes an array's metadata without its attributes first."""
    dataset, options, path = undisturbed[kind]
    begun = '{"attributes": {}, "zarr_format": 3, "node_type": "group"}'
    states = {
        "latents": [("zarr.json", begun), ("x/zarr.json", None), ("vv_latents/zarr.json", None)],
        "format 2": [(".zattrs", "{}"), (".zmetadata", None), ("x/.zarray", None), ("vv/.zattrs", None)],
    }[kind]
    for number, (name, content) in enumerate(states):
        store = tmp_path / str(number)
        shutil.copytree(path, store)
        shutil.rmtree(store / "sarcomp_manifest")  # which is written when all else is
        file = store / name
        file.unlink() if content is None else file.write_text(content)
        write_dataset(dataset, store, resume=True, **options)
        assert all_files(store) == all_files(path)


def test_metadata_without_attributes_are_finished_only_where_nothing_lies_beside_them(undisturbed, tmp_path):
    dataset, options, path = undisturbed["latents"]
    shutil.copytree(path, tmp_path / "a")
    shutil.rmtree(tmp_path / "a/sarcomp_manifest")
    document = json.loads((path / "vv_mask/zarr.json").read_text())
    (tmp_path / "a/vv_mask/zarr.json").write_text(json.dumps({**document, "attributes": {}}))
    with pytest.raises(ConfigurationError, match=r"vv_mask\.attributes\.flag_meanings is"):
        write_dataset(dataset, tmp_path / "a", resume=True, **options)
    for file in (tmp_path / "a/vv_mask/c").rglob("*"):
        file.unlink() if file.is_file() else None
    for file in (tmp_path / "a/vv_latents/c").rglob("*"):
        file.unlink() if file.is_file() else None
    write_dataset(dataset, tmp_path / "a", resume=True, **options)
    assert all_files(tmp_path / "a") == all_files(path)


def test_where_nothing_was_begun_the_store_is_begun(undisturbed, tmp_path):
    dataset, options, path = undisturbed["latents"]
    (tmp_path / "a").mkdir()
    assert write_dataset(dataset, tmp_path / "a", resume=True, **options).reused == 0
    assert all_files(tmp_path / "a") == all_files(path)


def changed(dataset, what):
    """A dataset that is almost the same, and what an error must say of it."""
    return {
        "source": (lambda: scene(seed=1).sarcomp.encode(**REQUEST), "attributes.sarcomp."),
        "rate": (lambda: planned("latents", bits_per_pixel=3.5)[0], "_latents.codecs.0.configuration.anchor is"),
        "size": (lambda: dataset.isel(y_latent=slice(0, 40), y=slice(0, 320)), "shape"),
        "coordinate": (lambda: dataset.assign_coords(x=dataset.x + 1), "'x' holds other values"),
        "type": (
            lambda: dataset.assign(vv_exact=dataset.vv_exact.astype("f8")),
            "vv_exact.codecs.1.configuration.checksum is",
        ),
        "attribute": (lambda: dataset.assign_attrs(title="other"), 'the group.attributes.title is "nothing"'),
        "one more": (lambda: dataset.drop_vars("vh_mask"), "it holds vh_mask"),
    }[what]


DIFFERENCES = ("source", "rate", "size", "coordinate", "type", "attribute", "one more")


@pytest.mark.parametrize("what", DIFFERENCES)
def test_another_store_is_refused_with_the_difference_and_left_as_it_is(undisturbed, tmp_path, what):
    dataset, options, path = undisturbed["latents"]
    shutil.copytree(path, tmp_path / "a")
    make, message = changed(dataset, what)
    with pytest.raises(ConfigurationError, match="begun with another scene or other options") as raised:
        write_dataset(make(), tmp_path / "a", resume=True, **options)
    assert message in str(raised.value)
    assert all_files(tmp_path / "a") == all_files(path)


def test_another_step_of_a_transparent_store_is_refused(undisturbed, tmp_path):
    path = undisturbed["transparent"][-1]
    shutil.copytree(path, tmp_path / "a")
    dataset, other = planned("transparent", bits_per_pixel=2)
    with pytest.raises(ConfigurationError, match=r"v[hv]\.codecs\.0\.configuration\.step_db is"):
        write_dataset(dataset, tmp_path / "a", resume=True, **other)
    with pytest.raises(ConfigurationError, match="Zarr format 3, now format 2"):
        write_dataset(dataset, tmp_path / "a", resume=True, **planned("format 2")[1])


def test_a_damaged_chunk_of_the_first_run_is_not_recorded_as_right(undisturbed, tmp_path):
    dataset, options, path = undisturbed["latents"]
    shutil.copytree(path, tmp_path / "a")
    shutil.rmtree(tmp_path / "a/sarcomp_manifest")
    chunk = tmp_path / "a/vv_latents/c/0/0/1"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(CorruptStreamError, match="vv_latents chunk 0/0/1"):
        write_dataset(dataset, tmp_path / "a", resume=True, **options)
    assert verify_store(tmp_path / "a").manifest == "none"


def test_other_values_in_memory_are_noticed(tmp_path):
    dataset = xr.Dataset({"a": ("x", np.array([1.0, np.nan])), "b": ("x", np.array(["one", "two"], object))})
    dataset.sarcomp.to_zarr(tmp_path / "a")
    dataset.sarcomp.to_zarr(tmp_path / "a", resume=True)
    for name in dataset:
        other = dataset.assign({name: dataset[name].copy(data=dataset[name].values[::-1])})
        with pytest.raises(ConfigurationError, match=f"'{name}' holds other values"):
            other.sarcomp.to_zarr(tmp_path / "a", resume=True)
