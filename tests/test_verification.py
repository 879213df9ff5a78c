"""Every way in which a store goes wrong is found, with the right chunk named; a sound store is never accused."""

import json
import shutil
import warnings
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import xarray as xr
import zarr

from xsarcomp import files
from xsarcomp.errors import NotEncodedError
from xsarcomp.evaluation.simulation import simulated_dataset
from xsarcomp.verification import record_store, verify_store

MODEL = "s1-grd-10m-lapped"
CHUNK = 64
KINDS = ("latents", "transparent", "sharded", "format 2")


def transparent(scene, path, zarr_format=3, shards=None, **more):
    encoding = scene.sarcomp.encoding(model=MODEL, rmse_db=1.2, zarr_format=zarr_format)
    for settings in encoding.values():
        settings |= {"chunks": (CHUNK, CHUNK), **({"shards": shards} if shards else {}), **more}
    scene.to_zarr(path, zarr_format=zarr_format, encoding=encoding, consolidated=zarr_format == 2)


def latents(scene, path, chunk=CHUNK // 8):
    """Latents in chunks as small as those of the transparent stores, so that a small scene has many."""
    encoded = scene.sarcomp.encode(model=MODEL, rmse_db=1.2)
    encoding = {}
    for name in encoded.data_vars:
        is_latents = str(name).endswith("_latents")
        encoded[name] = encoded[name].chunk({encoded[name].dims[-2]: -1, encoded[name].dims[-1]: -1})
        edge = chunk if is_latents else CHUNK
        old = encoded[name].encoding
        encoding[name] = {**({"serializer": old["serializer"], "compressors": None} if is_latents else {})}
        encoding[name]["chunks"] = ((64,) if is_latents else ()) + (edge, edge)
    encoded.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)


def write(kind, scene, path):
    if kind == "latents":
        latents(scene, path)
    else:
        options = {"sharded": {"shards": (2 * CHUNK, 2 * CHUNK)}, "format 2": {"zarr_format": 2}}
        transparent(scene, path, **options.get(kind, {}))


@pytest.fixture(scope="module")
def small():
    """3 x 4 chunks of 64 pixels, the last ones cut; the nodata border leaves no chunk empty."""
    return simulated_dataset((150, 210), 5)


@pytest.fixture(scope="module")
def originals(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for kind in KINDS:
        write(kind, small, folder / kind)
        shutil.copytree(folder / kind, folder / f"{kind} recorded")
        record_store(folder / f"{kind} recorded")
    return folder


@pytest.fixture
def store(originals, tmp_path):
    """Function (kind, recorded) -> a copy of a store that may be damaged."""

    def copy(kind, recorded=True):
        path = tmp_path / f"{kind} {recorded}"
        shutil.copytree(originals / (f"{kind} recorded" if recorded else kind), path)
        return path

    return copy


def chunk_file(path, kind, *index, name="vv"):
    """File of a chunk; index in the grid of objects (y, x)."""
    if kind == "latents":
        return path / f"{name}_latents" / "c" / "0" / "/".join(map(str, index))
    return path / name / (".".join(map(str, index)) if kind == "format 2" else "c/" + "/".join(map(str, index)))


def found(path, **options):
    """(array, chunk, problem) of all findings."""
    report = verify_store(path, **options)
    problems = report["problems"]
    assert report["ok"] == (not problems)
    json.dumps(report, allow_nan=False)
    return {(one["array"], one["chunk"], one["problem"]) for one in problems}


def place(kind, y, x, name="vv"):
    """Array and chunk as findings name them."""
    return (f"{name}_latents", (0, y, x)) if kind == "latents" else (name, (y, x))


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def with_header(content, position, value):
    """A frame of two dimensions with other bytes in its header and a checksum that fits."""
    content = bytearray(content)
    content[position : position + len(value)] = value
    content[62:66] = google_crc32c.value(bytes(content[:62])).to_bytes(4, "little")
    return bytes(content)


both_depths = pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
without_shards = pytest.mark.parametrize("kind", ["latents", "transparent", "format 2"])


@pytest.mark.parametrize("kind", KINDS)
@both_depths
def test_a_sound_store_is_sound_with_and_without_a_manifest(originals, kind, quick):
    for suffix, state in (("", "none"), (" recorded", "recorded")):
        report = verify_store(originals / f"{kind}{suffix}", quick=quick)
        assert report["ok"], report["problems"]
        assert report["manifest"] == state
        assert report["depth"] == ("quick" if quick else "full")
        frames = 2 * 12
        assert report["stored"] >= frames + 2
        assert report["bytes"] > 24 * 100
    assert report["unproven"] == 0


@pytest.mark.parametrize("kind", KINDS)
@both_depths
def test_a_flipped_bit_is_found_in_its_chunk_and_in_no_other(store, kind, quick):
    path = store(kind)
    file = chunk_file(path, kind, 1, 0) if kind != "sharded" else chunk_file(path, kind, 0, 0)
    flip(file, 200)  # in the payload; the first inner chunk of a shard lies first
    assert found(path, quick=quick) == {(*(place(kind, 1, 0) if kind != "sharded" else ("vv", (0, 0))), "damaged")}


@without_shards
@pytest.mark.parametrize("length", [0, 10, 70, -1])
def test_a_truncated_chunk_is_found(store, kind, length):
    path = store(kind, recorded=False)
    file = chunk_file(path, kind, 2, 3, name="vh")
    file.write_bytes(file.read_bytes()[:length])
    assert found(path) == {(*place(kind, 2, 3, "vh"), "damaged")}


def test_a_truncated_shard_names_all_its_chunks(store):
    path = store("sharded", recorded=False)
    file = chunk_file(path, "sharded", 0, 1)
    file.write_bytes(file.read_bytes()[:-3])
    inside = {("vv", (y, x), "damaged") for y in (0, 1) for x in (2, 3)}
    assert found(path) == inside
    file.write_bytes(b"")
    assert found(path) == inside
    file.unlink()
    assert found(path) == {(*one[:2], "missing") for one in inside}


def test_a_damaged_index_of_a_shard_names_all_its_chunks(store):
    path = store("sharded", recorded=False)
    flip(chunk_file(path, "sharded", 0, 0), -1)  # in the checksum: the index itself is whole
    assert found(path) == {("vv", index, "damaged") for index in np.ndindex(2, 2)}


def test_a_shard_that_points_beyond_its_end_is_found_before_anything_is_read(store):
    """An index with a right checksum and a wrong length: what a hostile store would hold."""
    path = store("sharded", recorded=False)
    file = chunk_file(path, "sharded", 0, 0)
    content = bytearray(file.read_bytes())
    index = bytearray(content[-68:-4])
    index[8:16] = (2**62).to_bytes(8, "little")
    content[-68:] = index + google_crc32c.value(bytes(index)).to_bytes(4, "little")
    file.write_bytes(content)
    assert found(path) == {("vv", (0, 0), "damaged")}


@without_shards
def test_swapped_chunks_are_found_and_each_is_told_from_where_it_is(store, kind):
    path = store(kind)
    one, other = chunk_file(path, kind, 0, 1), chunk_file(path, kind, 2, 2)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    report = verify_store(path)
    assert found(path) == {(*place(kind, 0, 1), "swapped"), (*place(kind, 2, 2), "swapped")}
    messages = {one["chunk"][-2:]: one["message"] for one in report["problems"]}
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
    (problem,) = verify_store(path)["problems"]
    assert (problem["array"], problem["chunk"], problem["problem"]) == (*place(kind, 1, 1), "swapped")
    assert "/".join(map(str, place(kind, 1, 1)[1])) in problem["message"]
    assert "vh" in problem["message"]


@without_shards
@pytest.mark.parametrize("recorded", [True, False])
def test_a_deleted_chunk_is_found(store, kind, recorded):
    path = store(kind, recorded)
    chunk_file(path, kind, 1, 2).unlink()
    (problem,) = verify_store(path, quick=True)["problems"]
    assert (problem["array"], problem["chunk"], problem["problem"]) == (*place(kind, 1, 2), "missing")
    assert problem["region"] == {"y": (64, 128), "x": (128, 192)}
    assert "fill value" in problem["message"] or "reads as 0" in problem["message"]


def test_the_region_of_a_chunk_ends_with_the_scene(store):
    for kind in ("latents", "transparent"):
        path = store(kind)
        chunk_file(path, kind, 2, 3).unlink()
        (problem,) = verify_store(path, quick=True)["problems"]
        assert problem["region"] == {"y": (128, 150), "x": (192, 210)}


def test_deleted_masks_and_coordinates_are_found(store):
    path = store("latents")
    masks = sorted(file for file in (path / "vv_mask/c").rglob("*") if file.is_file())
    index = tuple(map(int, masks[0].relative_to(path / "vv_mask/c").parts))
    masks[0].unlink()
    (path / "x/c/0").unlink()
    problems = found(path)
    assert {one for one in problems if one[2] == "missing"} == {("vv_mask", index, "missing"), ("x", (0,), "missing")}


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


@both_depths
def test_a_damaged_mask_is_found(store, quick):
    path = store("latents", recorded=False)
    mask = next(file for file in sorted((path / "vv_mask/c").rglob("*")) if file.is_file())
    flip(mask, len(mask.read_bytes()) // 2)
    index = tuple(map(int, mask.relative_to(path / "vv_mask/c").parts))
    assert found(path, quick=quick) == {("vv_mask", index, "damaged")}


def test_a_mask_with_a_class_that_does_not_exist_is_found(store):
    path = store("latents", recorded=False)
    zarr.open_group(path, mode="r+", use_consolidated=False)["vv_mask"][70, 70] = 9
    assert found(path, quick=True) == {("vv_mask", (1, 1), "damaged")}


@without_shards
def test_an_older_version_of_a_chunk_is_found(store, small, tmp_path, kind):
    path = store(kind)
    write(kind, small.where(False, small * 1.1), tmp_path / "older")
    before = chunk_file(path, kind, 1, 1).read_bytes()
    chunk_file(path, kind, 1, 1).write_bytes(chunk_file(tmp_path / "older", kind, 1, 1).read_bytes())
    assert chunk_file(path, kind, 1, 1).read_bytes() != before
    assert found(path) == {(*place(kind, 1, 1), "changed")}


def test_frames_of_other_models_kinds_shapes_and_types_are_foreign_even_without_a_manifest(store, small, tmp_path):
    path = store("transparent", recorded=False)
    foreign = chunk_file(path, "transparent", 0, 0)
    foreign.write_bytes(with_header(foreign.read_bytes(), 22, bytes(8)))
    others = {(0, 1): {"chunks": (32, 64)}, (0, 2): {"dtype": "float64"}}
    for (y, x), change in others.items():
        scene = small.astype(change.get("dtype", "float32"))
        encoding = scene.sarcomp.encoding(model=MODEL, rmse_db=1.2)
        for settings in encoding.values():
            settings["chunks"] = change.get("chunks", (CHUNK, CHUNK))
        scene.to_zarr(tmp_path / str(x), zarr_format=3, encoding=encoding, consolidated=False)
        shutil.copy(tmp_path / str(x) / "vv/c/0/0", chunk_file(path, "transparent", y, x))
    shutil.copy(chunk_file(store("latents"), "latents", 0, 0), chunk_file(path, "transparent", 1, 0))
    report = verify_store(path, quick=True)
    assert {(one["chunk"], one["problem"]) for one in report["problems"]} == {
        (index, "foreign") for index in [(0, 0), *others, (1, 0)]
    }
    for one, word in zip(report["problems"], ("model", "shape", "type", "latents"), strict=True):
        assert f"a valid frame of {word}" in one["message"]


def test_renamed_chunks_and_leftovers_are_named(store):
    path = store("transparent")
    chunk_file(path, "transparent", 0, 3).rename(path / "vv/c/0/9")
    (path / "vv/c/1/.partial-7").write_bytes(b"x")
    (path / "notes.txt").write_text("a note")
    (path / "old").mkdir()
    (path / "old/data").write_text("something")
    report = verify_store(path)
    strays = {one["key"] for one in report["problems"] if one["problem"] == "stray"}
    assert strays == {"vv/c/0/9", "vv/c/1/.partial-7", "notes.txt", "old/data"}
    assert [one["chunk"] for one in report["problems"] if one["problem"] == "missing"] == [(0, 3)]


def test_a_renamed_variable_is_found(store):
    path = store("transparent")
    (path / "vv").rename(path / "hh")
    assert found(path) == {("vv", None, "missing"), ("hh", None, "unrecorded")} | {
        ("hh", (y, x), "unrecorded") for y in range(3) for x in range(4)
    }


def test_all_bad_chunks_are_named_and_not_only_the_first(store):
    path = store("transparent")
    for number, index in enumerate(np.ndindex(3, 4)):
        flip(chunk_file(path, "transparent", *index), 100 + number)
    assert found(path) == {("vv", index, "damaged") for index in np.ndindex(3, 4)}


def test_a_region_written_since_is_changed_until_it_is_recorded_again(store, small):
    path = store("transparent")
    region = {"y": slice(64, 128), "x": slice(0, 128)}
    (small[["vv"]].isel(region) * 2).drop_vars("spatial_ref").to_zarr(path, region=region, consolidated=False)
    assert found(path) == {("vv", (1, 0), "changed"), ("vv", (1, 1), "changed")}
    assert record_store(path)["ok"]
    assert found(path) == set()


def test_scenes_appended_since_are_unrecorded_until_they_are_recorded(small, tmp_path):
    stack = small.expand_dims(time=[0, 1]).chunk(time=1, y=64, x=128)
    path = tmp_path / "stack"
    encoding = stack.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    stack.to_zarr(path, zarr_format=3, encoding=encoding, consolidated=False)
    record_store(path)
    assert found(path) == set()
    more = stack.isel(time=[0]).assign_coords(time=[2])
    more.to_zarr(path, append_dim="time", zarr_format=3, consolidated=False)
    problems = found(path)
    for name in ("vv", "vh"):
        added = {(name, (2, y, x), "unrecorded") for y in range(3) for x in range(2)}
        assert {one for one in problems if one[0] == name} == added | {(name, None, "metadata")}
    assert ("time", None, "metadata") in problems
    record_store(path)
    assert found(path) == set()


def test_a_variable_added_since_is_unrecorded(store, small):
    path = store("latents")
    extra = xr.Dataset({"angle": (("y", "x"), np.ones(small.vv.shape, np.float32))})
    extra.to_zarr(path, mode="a", consolidated=False)
    assert ("angle", None, "unrecorded") in found(path)
    record_store(path)
    assert found(path) == set()
    shutil.rmtree(path / "angle/c")
    assert {one[2] for one in found(path)} == {"missing"}


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


@pytest.mark.parametrize("position", [0, 4, 12, 60, -60, -1])
def test_a_tampered_manifest_is_found_and_the_rest_checked(store, position):
    path = store("transparent")
    (payload,) = (file for file in (path / "sarcomp_manifest/content/c").rglob("*") if file.is_file())
    array = zarr.open_array(path / "sarcomp_manifest/content", mode="r+")
    values = array[:]
    values[position] ^= 1
    array[:] = values
    chunk_file(path, "transparent", 0, 0).unlink()
    assert verify_store(path)["manifest"] == "damaged"
    assert found(path) == {("", None, "manifest"), ("vv", (0, 0), "missing")}
    payload.unlink()
    assert ("", None, "manifest") in found(path)
    shutil.rmtree(path / "sarcomp_manifest/content")
    assert ("", None, "manifest") in found(path)


def test_a_damaged_store_is_not_recorded(store):
    path = store("transparent", recorded=False)
    flip(chunk_file(path, "transparent", 0, 0), 100)
    report = record_store(path)
    assert not report["ok"]
    assert report["manifest"] == "none"
    assert not (path / "sarcomp_manifest").exists()
    assert {(one["array"], one["chunk"], one["problem"]) for one in report["problems"]} == {("vv", (0, 0), "damaged")}


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
    record_store(tmp_path / "new")
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
    (problem,) = verify_store(path)["problems"]
    assert problem["problem"] == "metadata"
    assert "vv_mask" in problem["message"]


def test_a_scene_of_nodata_alone_is_sound_and_its_absent_chunks_stay_absent(small, tmp_path):
    """All latents are 0, so that no chunk of them is stored; nor is one of a transparent store."""
    empty = small.where(False)
    empty["vh"] = small.vh
    write("latents", empty, tmp_path / "latents")
    assert not (tmp_path / "latents/vv_latents/c").exists()
    assert found(tmp_path / "latents") == set()
    record_store(tmp_path / "latents")
    assert found(tmp_path / "latents") == set()
    report = verify_store(tmp_path / "latents")
    assert report["unproven"] == 0
    write("transparent", empty, tmp_path / "transparent")
    everywhere = {("vv", index, "missing") for index in np.ndindex(3, 4)}
    assert found(tmp_path / "transparent") == everywhere
    record_store(tmp_path / "transparent")
    assert found(tmp_path / "transparent") == set()
    shutil.copytree(tmp_path / "transparent/vh/c", tmp_path / "transparent/vv/c")
    assert {one[2] for one in found(tmp_path / "transparent")} == {"swapped"}


def test_symbols_that_decode_otherwise_are_found_by_the_full_check_alone(store):
    """A frame whose checksums are right and whose symbols are not those of the hash."""
    path = store("transparent", recorded=False)
    file = chunk_file(path, "transparent", 0, 0)
    content = file.read_bytes()
    file.write_bytes(with_header(content, 42, bytes([content[42] ^ 1])))
    assert found(path, quick=True) == set()
    assert found(path) == {("vv", (0, 0), "damaged")}


def test_a_model_that_is_not_installed_is_named_and_the_rest_checked(store, monkeypatch):
    path = store("latents")
    flip(chunk_file(path, "latents", 0, 0), 100)
    monkeypatch.setattr("xsarcomp.weights.model_folders", list)
    from xsarcomp import weights

    weights._load.cache_clear()
    assert found(path) == {("", None, "model"), ("vv_latents", (0, 0, 0), "damaged")}
    assert found(path, quick=True) == {("vv_latents", (0, 0, 0), "damaged")}


def test_frames_inside_other_codecs_are_checked_through_zarr(small, tmp_path):
    path = tmp_path / "wrapped"
    encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    for settings in encoding.values():
        settings |= {"chunks": (CHUNK, CHUNK), "compressors": [{"name": "crc32c"}]}
    small.to_zarr(path, zarr_format=3, encoding=encoding, consolidated=False)
    assert found(path) == set()
    flip(path / "vv/c/1/1", 100)
    assert found(path) == {("vv", (1, 1), "damaged")}
    flip(path / "vv/c/1/1", 100)
    record_store(path)
    assert found(path) == set()
    shutil.copy(path / "vv/c/0/1", path / "vv/c/1/2")
    assert found(path) == {("vv", (1, 2), "swapped")}


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
    record_store(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == first


def test_headers_alone_give_the_manifest_of_the_whole_check(store):
    path = store("sharded")
    manifest = next(file for file in (path / "sarcomp_manifest/content/c").rglob("*") if file.is_file())
    checked = manifest.read_bytes()
    report = record_store(path, check=False)
    assert manifest.read_bytes() == checked
    assert report["depth"] == "headers"
    assert report["bytes"] < 0.5 * record_store(path)["bytes"]


def test_stores_that_xsarcomp_writes_are_recorded(small, tmp_path):
    files.write_store(small.sarcomp.encode(model=MODEL, rmse_db=1.2), str(tmp_path / "a.zarr"))
    files.write_transparent(
        small, str(tmp_path / "b.zarr"), small.sarcomp.encoding(model=MODEL, rmse_db=1.2), overwrite=False
    )
    files.write_store(small, str(tmp_path / "c.zarr"))
    for name in ("a.zarr", "b.zarr"):
        assert verify_store(tmp_path / name)["manifest"] == "recorded"
        assert found(tmp_path / name) == set()
    assert not (tmp_path / "c.zarr/sarcomp_manifest").exists()


def test_stores_behind_a_file_system_are_checked(small):
    url = "memory://verification/scene.zarr"
    encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    for settings in encoding.values():
        settings["chunks"] = (CHUNK, CHUNK)
    small.to_zarr(url, zarr_format=3, encoding=encoding, consolidated=False)
    assert record_store(url)["ok"]
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
    record_store(store)
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
        for function in (verify_store, record_store):
            with pytest.raises(NotEncodedError, match="nothing that xsarcomp compressed"):
                function(tmp_path / name)


def test_an_array_without_pixels_is_sound(small, tmp_path):
    encoding = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)
    settings = encoding["vv"]
    group = zarr.create_group(tmp_path / "none.zarr")
    shape = {"shape": (0, 64), "chunks": (64, 64), "dtype": "float32", "fill_value": np.nan}
    group.create_array("vv", **shape, serializer=settings["serializer"], compressors=None)
    record_store(tmp_path / "none.zarr")
    assert verify_store(tmp_path / "none.zarr")["chunks"] == 0
    assert found(tmp_path / "none.zarr") == set()


def test_an_array_that_claims_too_many_chunks_is_refused_without_counting_them(small, tmp_path):
    transparent(small, tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/vv/zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = [2**60, 2**60]
    file.write_text(json.dumps(document))
    (problem,) = verify_store(tmp_path / "a.zarr")["problems"]
    assert (problem["array"], problem["problem"]) == ("vv", "metadata")
    assert "limit" in problem["message"]


@pytest.mark.parametrize("name", ["latents-1.0", "zarr3-1.0"])
def test_golden_stores_are_sound(name):
    report = verify_store(Path(__file__).parent / "golden" / name)
    assert report["ok"], report["problems"]
    assert report["stored"] > 1


def test_progress_ends_with_all_chunks(originals):
    seen = []
    report = verify_store(originals / "latents", quick=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (report["chunks"], report["chunks"])
    assert seen == sorted(seen)
