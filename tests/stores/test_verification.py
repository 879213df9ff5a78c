"""Damaged, missing, foreign and swapped-in chunks are found, each by its place; a sound store is never accused."""

import shutil

import google_crc32c
import numpy as np
import pytest
import zarr

from tests.support.paths import GOLDEN
from tests.support.stored_scenes import (
    CHUNK,
    KINDS,
    MODEL,
    both_depths,
    chunk_file,
    flip,
    found,
    place,
    with_header,
    without_shards,
    write,
)
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.settings import Settings
from xsarcomp.errors import CorruptStreamError
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
@both_depths
def test_a_sound_store_is_sound_with_and_without_a_manifest(originals, kind, quick):
    for suffix, state in (("", "none"), (" recorded", "recorded")):
        report = verify_store(originals / f"{kind}{suffix}", quick=quick)
        assert report.ok, report.problems
        assert report.manifest == state
        assert report.depth == ("quick" if quick else "full")
        frames = 2 * 12
        assert report.stored >= frames + 2
        assert report.bytes > 24 * 100
    assert report.unproven == 0


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
    assert found(path) == {(*chunk[:2], "missing") for chunk in inside}


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
@pytest.mark.parametrize("recorded", [True, False])
def test_a_deleted_chunk_is_found(store, kind, recorded):
    path = store(kind, recorded)
    chunk_file(path, kind, 1, 2).unlink()
    (problem,) = verify_store(path, quick=True).problems
    assert (problem.array, problem.chunk, problem.problem) == (*place(kind, 1, 2), "missing")
    assert problem.region == {"y": (64, 128), "x": (128, 192)}
    assert "fill value" in problem.message or "reads as 0" in problem.message


def test_the_region_of_a_chunk_ends_with_the_scene(store):
    for kind in ("latents", "transparent"):
        path = store(kind)
        chunk_file(path, kind, 2, 3).unlink()
        (problem,) = verify_store(path, quick=True).problems
        assert problem.region == {"y": (128, 150), "x": (192, 210)}


def test_deleted_masks_and_coordinates_are_found(store):
    path = store("latents")
    masks = sorted(file for file in (path / "vv_mask/c").rglob("*") if file.is_file())
    index = tuple(map(int, masks[0].relative_to(path / "vv_mask/c").parts))
    masks[0].unlink()
    (path / "x/c/0").unlink()
    problems = found(path)
    assert {problem for problem in problems if problem[2] == "missing"} == {
        ("vv_mask", index, "missing"),
        ("x", (0,), "missing"),
    }


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
    assert {(problem.chunk, problem.problem) for problem in report.problems} == {
        (index, "foreign") for index in [(0, 0), *others, (1, 0)]
    }
    for problem, word in zip(report.problems, ("model", "shape", "type", "latents"), strict=True):
        assert f"a valid frame of {word}" in problem.message


def test_all_bad_chunks_are_named_and_not_only_the_first(store):
    path = store("transparent")
    for number, index in enumerate(np.ndindex(3, 4)):
        flip(chunk_file(path, "transparent", *index), 100 + number)
    assert found(path) == {("vv", index, "damaged") for index in np.ndindex(3, 4)}


def test_a_scene_of_nodata_alone_is_sound_and_its_absent_chunks_stay_absent(small, tmp_path):
    """All latents are 0, so that no chunk of them is stored; nor is one of a transparent store."""
    empty = small.where(False)
    empty["vh"] = small.vh
    write("latents", empty, tmp_path / "latents")
    assert not (tmp_path / "latents/vv_latents/c").exists()
    assert found(tmp_path / "latents") == set()
    write_manifest(tmp_path / "latents")
    assert found(tmp_path / "latents") == set()
    report = verify_store(tmp_path / "latents")
    assert report.unproven == 0
    write("transparent", empty, tmp_path / "transparent")
    everywhere = {("vv", index, "missing") for index in np.ndindex(3, 4)}
    assert found(tmp_path / "transparent") == everywhere
    write_manifest(tmp_path / "transparent")
    assert found(tmp_path / "transparent") == set()
    shutil.copytree(tmp_path / "transparent/vh/c", tmp_path / "transparent/vv/c")
    assert {problem[2] for problem in found(tmp_path / "transparent")} == {"swapped"}


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
    monkeypatch.setattr("xsarcomp.codec.installed_models.model_folders", list)
    from xsarcomp.codec import installed_models

    installed_models._load.cache_clear()
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
    write_manifest(path)
    assert found(path) == set()
    shutil.copy(path / "vv/c/0/1", path / "vv/c/1/2")
    assert found(path) == {("vv", (1, 2), "swapped")}


@pytest.mark.parametrize("name", ["latents-1.0", "zarr3-1.0"])
def test_golden_stores_are_sound(name):
    report = verify_store(GOLDEN / name)
    assert report.ok, report.problems
    assert report.stored > 1


def test_progress_ends_with_all_chunks(originals):
    seen = []
    report = verify_store(originals / "latents", quick=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (report.chunks, report.chunks)
    assert seen == sorted(seen)


def test_nodata_pixels_in_a_frame_whose_array_declares_no_nodata_are_damage_for_readers_and_for_the_full_check(store):
    """A forged frame, valid by itself: reading it was a RadiometryError, as if the user had asked for too much."""
    path = store("transparent", recorded=False)
    values = np.full((CHUNK, CHUNK), 0.1, np.float32)
    values[3, 4] = -9999
    settings = Settings(step_db=3.0, scale="power", nodata=-9999.0)
    content = encode_backscatter(values, settings, load_coder(MODEL))
    assert decode_backscatter(content, -9999.0, load_coder(MODEL))[3, 4] == -9999
    chunk_file(path, "transparent", 1, 1).write_bytes(content)
    with pytest.raises(CorruptStreamError, match="nodata"):
        zarr.open_group(path, mode="r")["vv"][70, 70]
    assert found(path, quick=True) == set()
    assert found(path) == {("vv", (1, 1), "damaged")}


@pytest.mark.parametrize("nodata", [{"fill_value": -9999.0}, {"nodata": -9999.0}], ids=list)
def test_nodata_pixels_of_an_array_that_declares_nodata_by_its_fill_value_or_its_codec_are_sound(
    tmp_path, small, nodata
):
    scene = small[["vv"]].fillna(-9999)
    serializer = small.sarcomp.encoding(model=MODEL, rmse_db=1.2)["vv"]["serializer"]
    serializer["configuration"]["nodata"] = nodata.get("nodata")
    array = zarr.create_group(tmp_path / "a").create_array(
        "vv", shape=scene.vv.shape, chunks=(CHUNK, CHUNK), dtype="float32", fill_value=nodata.get("fill_value", 0.0),
        serializer=serializer, compressors=None,
    )  # fmt: skip
    array[:] = scene.vv.values
    assert (array[:] == -9999).any()
    assert found(tmp_path / "a") == set()


def test_a_report_lists_so_many_problems_and_counts_the_others(store, monkeypatch):
    """A grid of 2**26 chunks that are all missing would be a report of many gigabytes."""
    path = store("transparent", recorded=False)
    for name in ("vv", "vh"):
        shutil.rmtree(path / name / "c")
    monkeypatch.setattr("xsarcomp.stores.verification.MOST_LISTED", 5)
    report = verify_store(path)
    assert not report.ok
    assert (len(report.problems), report.unlisted) == (5, 19)
