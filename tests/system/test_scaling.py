"""Scenes that grow: what is held, how many tasks there are, what a window reads, and that settings stay as they were."""

import contextlib
import pickle
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import dask
import dask.callbacks
import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from schedulers import reset_peak, scheduler, usage
from threadpoolctl import threadpool_info

from xsarcomp.codec.target import Target
from xsarcomp.latents.decode import decode_dataset
from xsarcomp.latents.encode import encode_dataset
from xsarcomp.latents.layout import CHUNK_PIXELS
from xsarcomp.latents.plan import PlanOptions, make_plan
from xsarcomp.latents.plane_steps import with_fingerprint
from xsarcomp.scenes.large_scene import large_scene

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
REQUEST = {"bits_per_pixel": 1, "scale": "decibel", "model": MODEL}
WHOLE = (25_000, 16_000)


def planned(shape):
    """Plan of a small scene for one of another shape: nothing is sampled."""
    target = Target.from_arguments(bits_per_pixel=1)
    small = large_scene((256, 256), border=False)
    options = PlanOptions(model=MODEL, scale="decibel", recompress=False, chunk_pixels=CHUNK_PIXELS)
    plan = make_plan(small, ["vv", "vh"], target, options)
    without_place = {"pixels": shape, "corners": (None,) * 4}
    variables = {
        name: with_fingerprint(replace(metadata, **without_place)) for name, metadata in plan.variables.items()
    }
    return replace(plan, variables=variables)


def stored(scene, path, **request):
    scene.sarcomp.encode(**{**REQUEST, **request}).sarcomp.to_zarr(path, zarr_format=3, consolidated=False)
    return xr.open_zarr(path, consolidated=False)


@pytest.mark.parametrize("chunk", [1024, 2048])
def test_tasks_of_a_whole_scene_are_at_most_three_a_chunk_each_way(chunk):
    scene = large_scene(WHOLE, chunk=chunk)
    encoded = encode_dataset(scene, planned(WHOLE))
    decoded = decode_dataset(encoded)
    chunks = sum(scene[name].data.npartitions for name in scene)
    there, back = (dict(dataset.__dask_graph__()) for dataset in (encoded, decoded))
    assert len(there) - len(dict(scene.__dask_graph__())) <= 3 * chunks
    assert len(back) - len(there) <= 3 * chunks


def test_the_graph_of_a_whole_scene_is_below_what_dask_calls_large():
    encoded = encode_dataset(large_scene(WHOLE), planned(WHOLE))
    assert len(pickle.dumps(dict(decode_dataset(encoded).__dask_graph__()))) < 10e6


def traced_peak(work):
    """Bytes of NumPy arrays that stood at once while some work was done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_hardly_grows_with_the_scene(tmp_path, monkeypatch):
    for module in ("layout", "encode"):
        monkeypatch.setattr(f"xsarcomp.latents.{module}.CHUNK_LATENTS", 32)  # blocks of a source chunk each
    peaks, sizes = {"encode": [], "decode": []}, []
    with dask.config.set(scheduler="synchronous"):
        stored(large_scene((64, 64)), tmp_path / "warm.zarr").sarcomp.decode().compute()
        for rows in (1024, 3072):
            scene = large_scene((rows, 768), chunk=256)[["vv"]]
            encoded = scene.sarcomp.encode(**REQUEST)
            path = tmp_path / f"{rows}.zarr"
            peaks["encode"].append(traced_peak(lambda e=encoded, p=path: e.sarcomp.to_zarr(p, consolidated=False)))
            decoded = xr.open_zarr(path, consolidated=False).sarcomp.decode()
            peaks["decode"].append(
                traced_peak(lambda d=decoded, p=path: d.sarcomp.to_zarr(f"{p}-decoded", consolidated=False))
            )
            sizes.append(scene.nbytes)
    growth = {way: (peak[1] - peak[0]) / (sizes[1] - sizes[0]) for way, peak in peaks.items()}
    # what grows are the objects of the graph, 20 to 40 kB a block; these blocks hold 262 kB, usual ones 64 times as much
    assert max(growth.values()) < 0.25, (growth, peaks)


class Held(dask.callbacks.Callback):
    """Counts the blocks of some arrays that stand in memory at once, on a local scheduler."""

    def __init__(self, names):
        super().__init__()
        self.names, self.keys, self.most = names, set(), 0

    def _start(self, graph):
        self.keys = {key for key in graph if isinstance(key, tuple) and key[0].startswith(self.names)}

    def _posttask(self, _key, _result, _graph, state, _worker):
        self.most = max(self.most, len(self.keys & state["cache"].keys()))


@pytest.mark.parametrize("request_", [{}, {"max_error_db": 4.0, "keep_means": True}], ids=["plain", "guarantees"])
def test_blocks_that_stand_at_once_are_two_rows_however_many_rows_there_are(tmp_path, monkeypatch, request_):
    """A block needs the blocks around it, so two rows and a bit are the least for an order row by row."""
    for module in ("layout", "encode"):
        monkeypatch.setattr(f"xsarcomp.latents.{module}.CHUNK_LATENTS", 16)  # small blocks, for speed
    for columns, rows in [(4, 5), (4, 12), (8, 8)]:
        scene = large_scene((128 * rows, 128 * columns), chunk=128, border=False)
        encoded = scene.sarcomp.encode(**{**REQUEST, "bits_per_pixel": 3, **request_})
        path = tmp_path / f"{columns}-{rows}"
        with (
            dask.config.set(scheduler="synchronous"),  # threads add what they begin early, beside a slow one any number
            Held("scene-") as sources,
            Held("sarcomp-encode") as latents,
        ):
            encoded.sarcomp.to_zarr(path, consolidated=False)
        bound = 2 * columns + 5
        assert columns < sources.most <= bound
        assert latents.most <= bound * bool(request_)  # guarantees need those around; else they stay inside of a task
        decoded = xr.open_zarr(path, consolidated=False).sarcomp.decode()
        opened = ("open_dataset-vv_latents", "open_dataset-vh_latents")
        with dask.config.set(scheduler="synchronous"), Held(opened) as latents:
            decoded.sarcomp.to_zarr(f"{path}-decoded", consolidated=False)
        assert columns < latents.most <= bound


class CountingStore(zarr.storage.LocalStore):
    """A store that notes which chunks are read; of the class, because a store may be copied on its way."""

    READ: ClassVar[list[str]] = []

    async def get(self, key, *arguments, **options):
        if "/c/" in key:
            self.READ.append(key)
        return await super().get(key, *arguments, **options)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A store of 3 x 3 chunks, opened, and the keys of chunks that were read since."""
    path = tmp_path_factory.mktemp("scaling") / "counted.zarr"
    stored(large_scene((1536, 1100), chunk=512, border=False)[["vv"]], path)
    return xr.open_zarr(CountingStore(path, read_only=True), consolidated=False), CountingStore.READ


def test_opening_a_store_reads_no_chunk_of_it(counted):
    opened, read = counted
    read.clear()
    opened.sarcomp.decode()
    assert read == []


@pytest.mark.parametrize(
    ("window", "latents"),
    [
        (np.s_[600:900, 600:900], {(1, 1)}),
        (np.s_[0:10, 0:10], {(0, 0)}),
        (np.s_[600:601, 510:514], {(1, 0), (1, 1)}),
    ],
    ids=["inside a chunk", "corner", "across a border"],
)
def test_a_window_reads_its_chunks_and_at_most_those_around(counted, window, latents):
    opened, read = counted
    read.clear()
    opened.sarcomp.decode().vv[window].compute()
    assert all(key.startswith("vv_") for key in read)
    found = {tuple(map(int, key.split("/")[-2:])) for key in read if key.startswith("vv_latents/")}
    around = {(y + dy, x + dx) for y, x in latents for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    assert latents <= found <= around
    masks = {tuple(map(int, key.split("/")[-2:])) for key in read if key.startswith("vv_mask/")}
    assert masks <= latents
    assert len(read) == len(set(read))


def test_threads_of_libraries_are_what_they_were_after_tasks(tmp_path):
    scene = large_scene((200, 200), chunk=100, border=False)

    def settings():
        pools = sorted((pool["user_api"], pool["filepath"], pool["num_threads"]) for pool in threadpool_info())
        return torch.get_num_threads(), torch.get_num_interop_threads(), pools

    def work():
        before = settings()
        with dask.config.set(scheduler="synchronous"):
            decoded = stored(scene, tmp_path / "threads.zarr", model="s1-grd-10m").sarcomp.decode().compute()
        assert np.isfinite(decoded.vv).all()
        return before, settings()

    scene.sarcomp.encode(**{**REQUEST, "model": "s1-grd-10m"})  # all libraries are loaded
    with ThreadPoolExecutor(1) as pool:
        before, after = pool.submit(work).result()
    assert before == after
    assert settings()[0] == before[0]


@pytest.mark.parametrize(
    "chunks",
    [((512, 5), (1, 300, 7, 30)), ((1,) * 4 + (541,), (138,)), ((129,), (3, 3, 532))],
    ids=["edges smaller than the halo", "rows of one pixel", "columns of three"],
)
def test_irregular_chunks_give_the_latents_of_the_whole(chunks):
    shape = tuple(sum(sizes) for sizes in chunks)
    lazy = large_scene(shape, chunk=chunks)[["vv"]]
    encoded, whole = lazy.sarcomp.encode(**REQUEST), lazy.compute().sarcomp.encode(**REQUEST)
    np.testing.assert_array_equal(encoded.vv_latents.values, whole.vv_latents.values)
    np.testing.assert_array_equal(encoded.vv_mask.values, whole.vv_mask.values)


@pytest.fixture(scope="module")
def cluster():
    """One worker process of one thread, and how to run a function in all processes."""
    pytest.importorskip("distributed")
    with scheduler(1, processes=True) as everywhere:
        yield everywhere


def test_chunks_of_one_pixel_go_through_a_worker(cluster, tmp_path):
    scene = large_scene((9, 7), chunk=1, border=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # among them: a large graph
        opened = stored(scene, tmp_path / "pixels.zarr")
        decoded = opened.sarcomp.decode().compute()
    whole = scene.compute(scheduler="synchronous").sarcomp.encode(**REQUEST)
    for name in ("vv_latents", "vh_latents", "vv_mask"):
        np.testing.assert_array_equal(opened[name].values, whole[name].values)
    assert np.isfinite(decoded.vv).all()


def test_workers_say_what_they_used(cluster):
    assert sorted(cluster(usage)) == ["here", "worker 1"]
    for used in cluster(usage).values():
        assert 0 < used.resident <= used.peak
        assert used.seconds > 0


def test_the_peak_of_a_process_is_kept_until_it_is_reset():
    before = usage()
    values = np.ones(40_000_000)
    del values
    assert usage().peak >= before.resident + 250e6
    reset_peak()
    assert usage().peak < before.resident + 250e6


def test_threads_are_used_only_inside_the_context():
    with contextlib.ExitStack() as stack:
        everywhere = stack.enter_context(scheduler(3, processes=False))
        assert dask.config.get("num_workers") == 3
        assert list(everywhere(usage)) == ["here"]
    assert dask.config.get("num_workers", None) != 3
