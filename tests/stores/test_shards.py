"""Chunks and shards that users ask for: objects in real stores, which verify, resume, grow and decode as without shards."""

from collections import Counter

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.store_model import all_files
from xsarcomp.errors import ConfigurationError, DimensionError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.transparent import _edge_for_blocks
from xsarcomp.stores.verification import verify_store
from xsarcomp.stores.writing import write_dataset

REQUEST = {"bits_per_pixel": 0.5, "model": "s1-grd-10m-lapped"}
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.fixture(scope="module")
def scene():
    """Backscatter of 1100 x 72 pixels: 3 chunks of a latents store below each other."""
    return simulated_dataset((1100, 72), seed=1)[["vv"]]


@pytest.fixture(scope="module")
def decoded(scene):
    return scene.sarcomp.encode(**REQUEST).sarcomp.decode().vv.values


@pytest.fixture(scope="module")
def stack():
    """Five dates of 160 x 160 pixels."""
    plane = simulated_dataset((160, 160), seed=2)[["vv"]]
    dates = np.arange("2024-01-01", "2024-01-06", dtype="datetime64[D]").astype("datetime64[ns]")
    return xr.concat([plane * (1 + 0.1 * i) for i in range(5)], xr.Variable("time", dates)).assign_attrs(plane.attrs)


def objects(path):
    return Counter(name.split("/")[0] for name in all_files(path) if "/c/" in name)


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize(("shards", "count"), [(None, 3), (1024, 2), ({"y": 4096}, 1), ((1024, 512), 2)])
def test_shards_of_latents_decode_as_without(scene, decoded, tmp_path, is_lazy, shards, count):
    given = scene.chunk(y=512) if is_lazy else scene
    encoded = given.sarcomp.encode(**REQUEST, shards=shards)
    encoded.sarcomp.to_zarr(tmp_path / "a")
    assert objects(tmp_path / "a")["vv_latents"] == count
    assert verify_store(tmp_path / "a").ok
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "a").sarcomp.decode().vv, decoded)


def test_xarray_writes_shards_of_latents_too(scene, tmp_path):
    encoded = scene.chunk(y=300).sarcomp.encode(**REQUEST, shards=1024)
    assert encoded.vv_latents.chunks[1:] == ((128, 10), (9,))
    encoded.to_zarr(tmp_path / "a")
    assert objects(tmp_path / "a")["vv_latents"] == 2


@pytest.mark.slow  # chunks of 512 x 512 pixels
def test_shards_hold_several_dates_and_are_filled_by_appends(tmp_path):
    plane = simulated_dataset((512, 512), seed=3)[["vv"]]
    dates = np.array(["2024-01-01", "2024-01-13", "2024-01-25"], "datetime64[ns]")
    chips = xr.concat([plane, plane, plane], xr.Variable("time", dates)).chunk(time=1)
    chips.sarcomp.encode(**REQUEST, shards={"time": 2}).sarcomp.to_zarr(tmp_path / "a")
    assert {part: objects(tmp_path / "a")[f"vv_{part}"] for part in ("latents", "mask", "coding")} == {
        "latents": 2, "mask": 2, "coding": 2,
    }  # fmt: skip
    chips.assign_coords(time=dates + np.timedelta64(60, "D")).sarcomp.append(tmp_path / "a")
    assert objects(tmp_path / "a")["vv_latents"] == 3
    assert verify_store(tmp_path / "a").ok
    decoded = xr.open_zarr(tmp_path / "a").sarcomp.decode().vv
    np.testing.assert_array_equal(decoded[3:], decoded[:3])


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        (1000, "shards of 'vv' have 1000 elements along 'y', expected a multiple of .* 512, such as 1024"),
        ({"y": 768}, "768 elements along 'y'"),
        ({"time": 2}, "there is no time"),
    ],
)
def test_shards_that_divide_chunks_of_latents_are_refused(scene, shards, words):
    with pytest.raises(DimensionError, match=words):
        scene.sarcomp.encode(**REQUEST, shards=shards)


@pytest.mark.parametrize("blocks", [None, {"y": 512}, {"y": (300, 500, 300), "x": (20, 52)}])
@pytest.mark.parametrize(
    ("asked", "chunks", "shards"),
    [
        ({"chunks": 256}, (256, 72), None),
        ({"chunks": 256, "shards": 512}, (256, 72), (512, 72)),
        ({"chunks": {"y": 128}, "shards": {"y": 1280}}, (128, None), (1152, None)),
        ({"shards": 2048}, (None, None), ()),
    ],
)
def test_transparent_stores_have_the_chunks_and_shards_that_were_asked_for(
    scene, tmp_path, blocks, asked, chunks, shards
):
    given = scene.chunk(blocks) if blocks else scene
    encoding = given.sarcomp.encoding(**REQUEST, **asked)
    given.sarcomp.to_zarr(tmp_path / "a", encoding=encoding)
    stored = zarr.open_array(tmp_path / "a/vv")
    assert all(wanted in (None, found) for wanted, found in zip(chunks, stored.chunks, strict=True))
    if shards:
        assert all(wanted in (None, found) for wanted, found in zip(shards, stored.shards, strict=True))
    elif shards is None:
        assert stored.shards is None
    else:
        assert objects(tmp_path / "a")["vv"] == 1
    assert verify_store(tmp_path / "a").ok
    assert (np.isfinite(xr.open_zarr(tmp_path / "a").vv) == np.isfinite(scene.vv)).all()


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (
            {"chunks": 256, "shards": 300},
            DimensionError,
            "300 elements along 'y', expected a multiple of its chunks of 256",
        ),
        (
            {"chunks": 4},
            DimensionError,
            r"4 \(y\) x 4 \(x\) pixels.*expected at least 8.*encoding\(chunks=512\)",
        ),
        ({"chunks": (256,)}, DimensionError, "found 1 sizes, expected 2"),
        ({"chunks": {"z": 4}}, DimensionError, "there is no z"),
        ({"chunks": 0}, ConfigurationError, "whole numbers of 1 or more"),
        ({"shards": 512, "zarr_format": 2}, ConfigurationError, "format 2 has none"),
    ],
)
def test_chunks_and_shards_that_cannot_be_are_refused_with_what_to_type(scene, asked, error, words):
    with pytest.raises(error, match=words):
        scene.sarcomp.encoding(**REQUEST, **asked)


def test_chunks_above_the_limit_of_the_codec_are_refused_before_anything_is_written():
    dask_array = pytest.importorskip("dask.array")
    huge = xr.Dataset({"vv": (("y", "x"), dask_array.full((16_000, 16_000), 0.1, "f4", chunks=-1))})
    with pytest.raises(
        DimensionError, match=r"'vv' has chunks of 9000 .* 81000000 values in a chunk, expected at most"
    ):
        huge.sarcomp.encoding(**REQUEST, scale="power", chunks=9000)


def test_small_chunks_that_were_asked_for_are_warned_of(scene):
    with pytest.warns(UserWarning, match=r"'vv' has chunks of 32 \(y\) x 32 \(x\) pixels.*below about 64"):
        scene.sarcomp.encoding(**REQUEST, chunks=32)


@pytest.mark.parametrize(
    ("blocks", "edge"),
    [
        ((25_000,), 1000),
        ((24_989,), 512),
        ((1000,), 1000),
        ((512, 512, 76), 512),
        ((64,) * 9, 64),
        ((4096, 4096, 100), 1024),
        ((9973, 9973), 512),
        ((200, 800), 200),
        ((256, 768, 300), 256),
        ((300, 500, 200), 504),
        ((100, 450, 450), 504),
        ((1, 999), 504),
        ((0,), 1),
    ],
)
def test_chunks_follow_dask_blocks_unless_they_would_be_small_or_giant(blocks, edge):
    assert _edge_for_blocks(blocks) == edge


def test_irregular_blocks_of_a_stack_in_any_order_are_written(stack, tmp_path):
    for number, given in enumerate(
        (
            stack.chunk(time=(1, 3, 1), y=(100, 60), x=(70, 70, 20)),
            stack.transpose("y", "x", "time").chunk(time=(2, 3), y=(60, 100)),
        )
    ):
        path = tmp_path / str(number)
        given.sarcomp.to_zarr(path, encoding=given.sarcomp.encoding(**REQUEST))
        assert verify_store(path).ok
        assert dict(zip(given.vv.dims, zarr.open_array(path / "vv").chunks, strict=True))["time"] == 1
        assert (np.isfinite(xr.open_zarr(path).vv) == np.isfinite(given.vv)).all()


@pytest.mark.parametrize("kind", ["latents", "transparent"])
def test_a_store_in_shards_resumes_shard_by_shard(scene, tmp_path, kind):
    lazy = scene.chunk(y=256)
    if kind == "latents":
        given, options, first = lazy.sarcomp.encode(**REQUEST, shards={"y": 1024}), {}, "vv_latents/c/0/0/0"
    else:
        given, options = lazy, {"encoding": lazy.sarcomp.encoding(**REQUEST, chunks=256, shards={"y": 512})}
        first = "vv/c/0/0"
    report = write_dataset(given, tmp_path / "a", **options)
    expected = all_files(tmp_path / "a")
    (tmp_path / "a" / first).unlink()
    again = write_dataset(given, tmp_path / "a", resume=True, **options)
    assert (again.blocks, again.reused) == (report.blocks, report.blocks - 1)
    assert all_files(tmp_path / "a") == expected
