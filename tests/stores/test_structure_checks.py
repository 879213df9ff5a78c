"""Checks of whole stores: their metadata, objects that belong to nothing, and stores that cannot be checked."""

import contextlib
import json
import shutil
import tracemalloc
import warnings

import numpy as np
import pytest
import zarr

from tests.support.stored_scenes import CHUNK, MODEL, chunk_file, flip, found, transparent
from xsarcomp.errors import ConfigurationError, NotEncodedError
from xsarcomp.stores.stored_array import _index_batches
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow


def test_renamed_chunks_and_leftovers_are_named(store):
    path = store("transparent")
    chunk_file(path, "transparent", 0, 3).rename(path / "vv/c/0/9")
    (path / "vv/c/1/.partial-7").write_bytes(b"x")
    (path / "notes.txt").write_text("a note")
    (path / "old").mkdir()
    (path / "old/data").write_text("something")
    report = verify_store(path)
    strays = {problem.key for problem in report.problems if problem.problem == "stray"}
    assert strays == {"vv/c/0/9", "vv/c/1/.partial-7", "notes.txt", "old/data"}
    assert [problem.chunk for problem in report.problems if problem.problem == "missing"] == [(0, 3)]


def test_changed_attributes_are_found(store):
    path = store("latents")
    zarr.open_group(path, mode="r+", use_consolidated=False)["vv_mask"].attrs["note"] = 1
    assert found(path) == {("vv_mask", None, "metadata")}


def test_the_order_of_keys_and_the_spaces_of_metadata_do_not_matter(store):
    path = store("latents")
    for file in path.rglob("zarr.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert found(path) == set()


def test_consolidated_metadata_that_are_stale_are_found(small, tmp_path):
    transparent(small, tmp_path / "old", zarr_format=2)
    document = json.loads((tmp_path / "old/.zmetadata").read_text())
    document["metadata"]["vv/.zarray"]["compressor"]["nodata"] = 3.0
    del document["metadata"]["vh/.zarray"]
    (tmp_path / "old/.zmetadata").write_text(json.dumps(document))
    assert found(tmp_path / "old") == {("vv", None, "metadata"), ("vh", None, "metadata")}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
        small.to_zarr(tmp_path / "new", zarr_format=3, encoding=encoding, consolidated=True)
    write_manifest(tmp_path / "new")
    assert found(tmp_path / "new") == set()
    shutil.rmtree(tmp_path / "new/vh")
    assert {("vh", None, "metadata"), ("vh", None, "missing")} <= found(tmp_path / "new")


def test_metadata_that_cannot_be_read_are_named(store):
    path = store("transparent")
    (path / "vv/zarr.json").write_text("{")
    (path / "vh/zarr.json").write_text(
        (path / "vh/zarr.json").read_text().replace("xsarcomp.backscatter", "unknown.codec")
    )
    problems = found(path)
    assert {("vv", None, "metadata"), ("vh", None, "metadata"), ("vv", None, "missing")} <= problems


def test_latents_without_their_mask_are_found(store):
    path = store("latents", recorded=False)
    shutil.rmtree(path / "vv_mask")
    (problem,) = verify_store(path).problems
    assert problem.problem == "metadata"
    assert "vv_mask" in problem.message


def test_stores_behind_a_file_system_are_checked(small):
    url = "memory://verification/scene.zarr"
    encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    for settings in encoding.values():
        settings["chunks"] = (CHUNK, CHUNK)
    small.to_zarr(url, zarr_format=3, encoding=encoding, consolidated=False)
    assert write_manifest(url).ok
    assert found(url) == set()
    import fsspec

    system = fsspec.filesystem("memory")
    root = "/verification/scene.zarr/vv/c"
    system.mv(f"{root}/0/0", f"{root}/0/1")
    assert found(url) == {("vv", (0, 0), "missing"), ("vv", (0, 1), "swapped")}


def test_a_group_inside_a_store_and_a_store_in_memory_are_checked(small):
    store = zarr.storage.MemoryStore()
    encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    small.to_zarr(store, group="scenes/one", zarr_format=3, encoding=encoding, consolidated=False)
    small.sarcomp.encode(model=MODEL, rmse_db=1.2).to_zarr(store, group="scenes/two", consolidated=False)
    write_manifest(store)
    assert found(store) == set()
    del store._store_dict["scenes/one/vv/c/0/0"]
    del store._store_dict["scenes/two/vh_latents/c/0/0/0"]
    assert found(store) == {
        ("scenes/one/vv", (0, 0), "missing"),
        ("scenes/two/vh_latents", (0, 0, 0), "missing"),
    }


def test_stores_without_anything_compressed_are_refused(small, tmp_path):
    with pytest.raises(NotEncodedError, match="no Zarr group"):
        verify_store(tmp_path / "absent.zarr")
    zarr.create_group(tmp_path / "empty.zarr")
    small.to_zarr(tmp_path / "plain.zarr", zarr_format=3, consolidated=False)
    for name in ("empty.zarr", "plain.zarr"):
        for function in (verify_store, write_manifest):
            with pytest.raises(NotEncodedError, match="nothing that xsarcomp compressed"):
                function(tmp_path / name)


def test_an_array_without_pixels_is_sound(small, tmp_path):
    encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    settings = encoding["vv"]
    group = zarr.create_group(tmp_path / "none.zarr")
    shape = {"shape": (0, 64), "chunks": (64, 64), "dtype": "float32", "fill_value": np.nan}
    group.create_array("vv", **shape, serializer=settings["serializer"], compressors=None)
    write_manifest(tmp_path / "none.zarr")
    assert verify_store(tmp_path / "none.zarr").chunks == 0
    assert found(tmp_path / "none.zarr") == set()


def test_an_array_that_claims_too_many_chunks_is_refused_without_counting_them(small, tmp_path):
    transparent(small, tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/vv/zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = [2**60, 2**60]
    file.write_text(json.dumps(document))
    (problem,) = verify_store(tmp_path / "a.zarr").problems
    assert (problem.array, problem.problem) == ("vv", "metadata")
    assert "limit" in problem.message


@pytest.mark.parametrize("number", [2**20 + 4, 2**25])
def test_an_array_that_claims_very_many_chunks_which_are_not_there_is_named_at_once(store, number):
    """A grid of 2**25 chunks of which one is there took hours and gigabytes: each was looked at, and the positions kept."""
    path = store("latents", recorded=False)
    file = path / "vv_latents/zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = [65, 8 * number, 8]
    file.write_text(json.dumps(document))
    tracemalloc.start()
    try:
        problems = verify_store(path, quick=True).problems
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert any(
        "vv_latents" in problem.array and f"claims {number} chunks, of which 3 are there" in problem.message
        for problem in problems
    )


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 70), (2, 0, 5), (4, 5, 6)])
def test_the_places_of_a_grid_are_visited_in_c_order(shape):
    assert [index for batch in _index_batches(shape) for index in batch] == list(np.ndindex(shape))


@pytest.mark.parametrize("kind", ["transparent", "sharded", "format 2"])
def test_a_single_array_is_checked_chunk_by_chunk(store, kind):
    path = store(kind, recorded=False) / "vv"
    report = verify_store(path)
    assert report.ok, report.problems
    assert (report.arrays, report.chunks, report.manifest) == (1, 12, "none")
    flip(chunk_file(path.parent, kind, 1, 1), 200)
    chunk_file(path.parent, kind, 0, 0).unlink()
    problems = {(problem.array, problem.problem) for problem in verify_store(path).problems}
    assert problems == {("", "damaged"), ("", "missing")}
    (path / "notes.txt").write_text("a note")
    assert "notes.txt" in {problem.key for problem in verify_store(path).problems}


def test_a_single_array_in_memory_and_inside_a_group_is_checked(small):
    memory = zarr.storage.MemoryStore()
    settings = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)["vv"]
    array = zarr.create_array(
        memory, shape=small.vv.shape, chunks=(CHUNK, CHUNK), dtype="float32", fill_value=np.nan,
        serializer=settings["serializer"], compressors=None,
    )  # fmt: skip
    array[:] = small.vv.values
    assert verify_store(memory).chunks == 12
    del memory._store_dict["c/2/3"]
    (problem,) = verify_store(memory).problems
    assert (problem.chunk, problem.problem, problem.key) == ((2, 3), "missing", "c/2/3")


def test_a_single_array_cannot_be_recorded_and_an_ordinary_one_not_be_checked(store):
    path = store("transparent", recorded=False)
    with pytest.raises(ConfigurationError, match=r"single array.*variable of a dataset"):
        write_manifest(path / "vv")
    with pytest.raises(NotEncodedError, match="nothing that xsarcomp compressed"):
        verify_store(path / "x")


def test_a_manifest_that_claims_gigabytes_is_refused_before_they_are_asked_for(store):
    """Zarr makes room for all that the metadata of an array claim, and fills it."""
    path = store("transparent")
    file = path / "sarcomp_manifest/content/zarr.json"
    document = json.loads(file.read_text())
    for size in ([2**36], [2**28]):
        document["shape"] = size
        for edge in (document["chunk_grid"]["configuration"]["chunk_shape"], size):
            document["chunk_grid"]["configuration"]["chunk_shape"] = edge
            file.write_text(json.dumps(document))
            tracemalloc.start()
            try:
                assert found(path) == {("", None, "manifest")}
                assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
            finally:
                tracemalloc.stop()


@pytest.mark.parametrize("size", [2**26, 2**40])
def test_a_coordinate_that_claims_gigabytes_is_not_read(store, size):
    """xarray reads the coordinates of dimensions when it opens a store; all but one chunk of it is fill value."""
    path = store("latents", recorded=False)
    document = json.loads((path / "x/zarr.json").read_text())
    document["shape"] = document["chunk_grid"]["configuration"]["chunk_shape"] = [size]
    (path / "x/zarr.json").write_text(json.dumps(document))
    shutil.rmtree(path / "x/c")
    tracemalloc.start()
    try:
        problems = verify_store(path, quick=True).problems
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert any(f"'x' claims {size} numbers" in problem.message for problem in problems)


@pytest.mark.parametrize(
    "consolidated", [5, [1], {"metadata": 5}, {"metadata": {"vv": []}}, {"metadata": {"vv": {"node_type": 5}}}]
)
def test_consolidated_metadata_of_any_kind_end_no_check(store, consolidated):
    path = store("transparent", recorded=False)
    document = json.loads((path / "zarr.json").read_text()) | {"consolidated_metadata": consolidated}
    (path / "zarr.json").write_text(json.dumps(document))
    with contextlib.suppress(NotEncodedError):  # where Zarr opens neither a group nor an array
        assert not verify_store(path, quick=True).ok


@pytest.mark.parametrize(
    "attributes", [5, [1], "text", {"_ARRAY_DIMENSIONS": 7}, {"_ARRAY_DIMENSIONS": ["y"]}, {"flag_values": [[], {}]}]
)
@pytest.mark.parametrize("kind", ["transparent", "format 2"])
def test_attributes_of_any_kind_end_no_check(store, kind, attributes):
    path = store(kind, recorded=False)
    for name in ("vv", "x"):
        if kind == "format 2":
            (path / name / ".zattrs").write_text(json.dumps(attributes))
        else:
            document = json.loads((path / name / "zarr.json").read_text()) | {"attributes": attributes}
            (path / name / "zarr.json").write_text(json.dumps(document))
    report = verify_store(path, quick=True)
    assert isinstance(attributes, dict) or not report.ok


def test_endless_nesting_is_named_as_metadata_that_cannot_be_read(store):
    path = store("transparent", recorded=False)
    (path / "vv/zarr.json").write_text("[" * 100_000)
    assert ("vv", None, "metadata") in found(path, quick=True)
