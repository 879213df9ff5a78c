"""The manifest in verification: chunks at wrong places, older and newer ones are found, and distinguished from damage."""

import shutil

import google_crc32c
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.stored_scenes import KINDS, MODEL, chunk_file, flip, found, place, without_shards, write
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow


@without_shards
def test_swapped_chunks_are_found_and_each_is_told_from_where_it_is(store, kind):
    path = store(kind)
    one, other = chunk_file(path, kind, 0, 1), chunk_file(path, kind, 2, 2)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    report = verify_store(path)
    assert found(path) == {(*place(kind, 0, 1), "swapped"), (*place(kind, 2, 2), "swapped")}
    messages = {problem.chunk[-2:]: problem.message for problem in report.problems}
    assert "2/2:" in messages[0, 1]
    assert "0/1:" in messages[2, 2]


@pytest.mark.parametrize("kind", ["transparent", "format 2"])
def test_every_pair_of_swapped_chunks_is_found(store, kind):
    path = store(kind)
    places = list(np.ndindex(3, 4))
    contents = {index: chunk_file(path, kind, *index).read_bytes() for index in places}
    # by a cyclic shift each chunk holds another's, whatever the distance
    for distance in range(1, len(places)):
        for number, index in enumerate(places):
            chunk_file(path, kind, *index).write_bytes(contents[places[(number + distance) % len(places)]])
        assert found(path, quick=True) == {("vv", index, "swapped") for index in places}


def test_swapped_chunks_inside_a_shard_are_found(store):
    path = store("sharded")
    array = zarr.open_group(path, mode="r+", use_consolidated=False)["vv"]
    file = chunk_file(path, "sharded", 0, 0)
    content = bytearray(file.read_bytes())
    index = np.frombuffer(bytes(content[-68:-4]), "<u8").reshape(4, 2).copy()
    index[[0, 3]] = index[[3, 0]]
    content[-68:-4] = index.tobytes()
    content[-4:] = google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    file.write_bytes(content)
    assert np.isfinite(array[:128, :128]).any()  # for Zarr all is well
    assert found(path) == {("vv", (0, 0), "swapped"), ("vv", (1, 1), "swapped")}


@without_shards
def test_swapped_polarizations_are_found(store, kind):
    path = store(kind)
    shutil.copy(chunk_file(path, kind, 1, 1, name="vh"), chunk_file(path, kind, 1, 1))
    (problem,) = verify_store(path).problems
    assert (problem.array, problem.chunk, problem.problem) == (*place(kind, 1, 1), "swapped")
    assert "/".join(map(str, place(kind, 1, 1)[1])) in problem.message
    assert "vh" in problem.message


def test_swapped_masks_are_found(store):
    path = store("latents")
    masks = sorted(file for file in (path / "vv_mask/c").rglob("*") if file.is_file())
    contents = [file.read_bytes() for file in masks]
    first = contents[0]
    other = next(number for number, content in enumerate(contents) if content != first)
    masks[0].write_bytes(contents[other])
    masks[other].write_bytes(first)
    indices = [tuple(map(int, masks[n].relative_to(path / "vv_mask/c").parts)) for n in (0, other)]
    assert found(path, quick=True) == {("vv_mask", index, "swapped") for index in indices}


@without_shards
def test_an_older_version_of_a_chunk_is_found(store, small, tmp_path, kind):
    path = store(kind)
    write(kind, small.where(False, small * 1.1), tmp_path / "older")
    before = chunk_file(path, kind, 1, 1).read_bytes()
    chunk_file(path, kind, 1, 1).write_bytes(chunk_file(tmp_path / "older", kind, 1, 1).read_bytes())
    assert chunk_file(path, kind, 1, 1).read_bytes() != before
    assert found(path) == {(*place(kind, 1, 1), "changed")}


def test_a_region_written_since_is_changed_until_it_is_recorded_again(store, small):
    path = store("transparent")
    region = {"y": slice(64, 128), "x": slice(0, 128)}
    (small[["vv"]].isel(region) * 2).drop_vars("spatial_ref").to_zarr(path, region=region, consolidated=False)
    assert found(path) == {("vv", (1, 0), "changed"), ("vv", (1, 1), "changed")}
    assert write_manifest(path).ok
    assert found(path) == set()


def test_scenes_appended_since_are_unrecorded_until_they_are_recorded(small, tmp_path):
    stack = small.expand_dims(time=[0, 1]).chunk(time=1, y=64, x=128)
    path = tmp_path / "stack"
    encoding = stack.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    stack.to_zarr(path, zarr_format=3, encoding=encoding, consolidated=False)
    write_manifest(path)
    assert found(path) == set()
    more = stack.isel(time=[0]).assign_coords(time=[2])
    more.to_zarr(path, append_dim="time", zarr_format=3, consolidated=False)
    problems = found(path)
    for name in ("vv", "vh"):
        added = {(name, (2, y, x), "unrecorded") for y in range(3) for x in range(2)}
        assert {problem for problem in problems if problem[0] == name} == added | {(name, None, "metadata")}
    assert ("time", None, "metadata") in problems
    write_manifest(path)
    assert found(path) == set()


def test_a_variable_added_since_is_unrecorded(store, small):
    path = store("latents")
    extra = xr.Dataset({"angle": (("y", "x"), np.ones(small.vv.shape, np.float32))})
    extra.to_zarr(path, mode="a", consolidated=False)
    assert ("angle", None, "unrecorded") in found(path)
    write_manifest(path)
    assert found(path) == set()
    shutil.rmtree(path / "angle/c")
    assert {problem[2] for problem in found(path)} == {"missing"}


def test_a_renamed_variable_is_found(store):
    path = store("transparent")
    (path / "vv").rename(path / "hh")
    assert found(path) == {("vv", None, "missing"), ("hh", None, "unrecorded")} | {
        ("hh", (y, x), "unrecorded") for y in range(3) for x in range(4)
    }


@pytest.mark.parametrize("position", [0, 4, 12, 60, -60, -1])
def test_a_tampered_manifest_is_found_and_the_rest_checked(store, position):
    path = store("transparent")
    (payload,) = (file for file in (path / "sarcomp_manifest/content/c").rglob("*") if file.is_file())
    array = zarr.open_array(path / "sarcomp_manifest/content", mode="r+")
    values = array[:]
    values[position] ^= 1
    array[:] = values
    chunk_file(path, "transparent", 0, 0).unlink()
    assert verify_store(path).manifest == "damaged"
    assert found(path) == {("", None, "manifest"), ("vv", (0, 0), "missing")}
    payload.unlink()
    assert ("", None, "manifest") in found(path)
    shutil.rmtree(path / "sarcomp_manifest/content")
    assert ("", None, "manifest") in found(path)


def test_a_damaged_store_is_not_recorded(store):
    path = store("transparent", recorded=False)
    flip(chunk_file(path, "transparent", 0, 0), 100)
    report = write_manifest(path)
    assert not report.ok
    assert report.manifest == "none"
    assert not (path / "sarcomp_manifest").exists()
    assert {(problem.array, problem.chunk, problem.problem) for problem in report.problems} == {
        ("vv", (0, 0), "damaged")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_disturbs_no_reader(store, small, kind):
    path, plain = store(kind), store(kind, recorded=False)
    options = {"consolidated": False, "decode_coords": "all"}
    xr.testing.assert_identical(xr.open_zarr(path, **options).load(), xr.open_zarr(plain, **options).load())
    names = {name for name, _ in zarr.open_group(path, mode="r", use_consolidated=False).arrays()}
    assert names == {name for name, _ in zarr.open_group(plain, mode="r", use_consolidated=False).arrays()}
    members = dict(zarr.open_group(path, mode="r", use_consolidated=False).members(max_depth=None))
    assert set(members) - names == {"sarcomp_manifest", "sarcomp_manifest/content"}
    assert set(xr.open_datatree(path, engine="zarr", **options).children) == {"sarcomp_manifest"}
    assert xr.open_dataset(
        path, engine="zarr", consolidated=None if kind == "format 2" else False
    ).sizes == small.sizes or (kind == "latents")
    if kind == "latents":
        assert set(files.open_scene(str(path)).data_vars) == {"vv", "vh"}


def test_recording_twice_writes_the_same_bytes(store):
    path = store("latents")
    first = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    write_manifest(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == first


def test_headers_alone_give_the_manifest_of_the_whole_check(store):
    path = store("sharded")
    manifest = next(file for file in (path / "sarcomp_manifest/content/c").rglob("*") if file.is_file())
    checked = manifest.read_bytes()
    report = write_manifest(path, check=False)
    assert manifest.read_bytes() == checked
    assert report.depth == "headers"
    assert report.bytes < 0.5 * write_manifest(path).bytes


def test_stores_that_xsarcomp_writes_are_recorded(small, tmp_path):
    files.write_store(small.sarcomp.encode(model=MODEL, rmse_db=1.2), str(tmp_path / "a.zarr"))
    files.write_transparent(
        small, str(tmp_path / "b.zarr"), small.sarcomp.encoding(model=MODEL, rmse_db=1.2), overwrite=False
    )
    files.write_store(small, str(tmp_path / "c.zarr"))
    for name in ("a.zarr", "b.zarr"):
        assert verify_store(tmp_path / name).manifest == "recorded"
        assert found(tmp_path / name) == set()
    assert not (tmp_path / "c.zarr/sarcomp_manifest").exists()


@pytest.fixture
def two_groups(tmp_path):
    """A store of two groups, each written and recorded by itself."""
    for seed, group in enumerate(("a", "b/c")):
        encoded = simulated_dataset((64, 64), seed=seed).sarcomp.encode(bits_per_pixel=1)
        encoded.sarcomp.to_zarr(tmp_path / "two.zarr", group=group, mode="w-", consolidated=False)
    return tmp_path / "two.zarr"


def test_at_the_root_the_manifests_of_all_groups_below_count(two_groups):
    assert verify_store(two_groups).manifest == "recorded"
    assert verify_store(two_groups).problems == ()
    chunks = [two_groups / group / "vv_latents/c/0/0/0" for group in ("a", "b/c")]
    chunks[1].write_bytes(chunks[0].read_bytes())
    problems = verify_store(two_groups).problems
    assert [(problem.problem, problem.array) for problem in problems] == [("swapped", "b/c/vv_latents")]
    assert "a/vv_latents" in problems[0].message


def test_a_group_without_a_manifest_beside_others_is_named(two_groups):
    shutil.rmtree(two_groups / "b/c/sarcomp_manifest")
    report = verify_store(two_groups)
    assert [(problem.problem, problem.array) for problem in report.problems] == [("manifest", "b/c")]
    assert "this one has none" in report.problems[0].message


def test_a_damaged_manifest_of_a_group_is_named_and_the_others_count(two_groups):
    file = next(file for file in (two_groups / "b/c/sarcomp_manifest/content/c").rglob("*") if file.is_file())
    file.write_bytes(b"damaged")
    report = verify_store(two_groups)
    assert report.manifest == "damaged"
    assert [(problem.problem, problem.array) for problem in report.problems] == [("manifest", "b/c")]
