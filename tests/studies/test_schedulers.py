"""Processes of Dask as the studies start them: what they are told, what they were busy with, and how many threads they use."""

import os
import time

import dask
import numpy as np
import pytest
import xarray as xr
from schedulers import WORKER_ENVIRONMENT, scheduler, seconds_in_tasks

from xsarcomp.scenes.large_scene import large_scene

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed")

MODEL = "s1-grd-10m-lapped"


def settings():
    return {name: os.environ.get(name) for name in ("MALLOC_TRIM_THRESHOLD_", "ZARR_THREADING__MAX_WORKERS")}


@pytest.fixture(scope="module")
def cluster():
    """Two processes of one thread, as studies start them, and how to run a function in all of them."""
    with scheduler(2, processes=True) as everywhere:
        yield everywhere


def test_processes_are_told_what_helps_and_nobody_else_is(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "77")  # as another cluster in this process leaves it behind
    before, configured = dict(os.environ), dask.config.get("distributed.nanny.pre-spawn-environ")
    with scheduler(1, processes=True) as everywhere:
        assert everywhere(settings)["worker 1"] == {"MALLOC_TRIM_THRESHOLD_": None, "ZARR_THREADING__MAX_WORKERS": "1"}
    assert dict(os.environ) == before
    assert dask.config.get("distributed.nanny.pre-spawn-environ") == configured


def test_processes_can_be_started_as_dask_would(monkeypatch):
    for name in WORKER_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with scheduler(1, processes=True, environment={}) as everywhere:
        found = everywhere(settings)["worker 1"]
    assert found == {"MALLOC_TRIM_THRESHOLD_": "65536", "ZARR_THREADING__MAX_WORKERS": None}


def test_time_in_tasks_is_that_of_each_process(cluster):
    with seconds_in_tasks() as seconds:
        assert dask.compute(*(dask.delayed(time.sleep)(0.1 + number / 1000) for number in range(6))) == (None,) * 6
    assert sorted(seconds) == ["worker 1", "worker 2"]
    assert sum(seconds.values()) >= 0.6
    with seconds_in_tasks() as seconds:
        pass
    assert set(seconds.values()) == {0.0}


def test_a_worker_of_one_thread_codes_one_chunk_at_a_time(cluster, tmp_path):
    def watch():
        import threading
        import time

        from xsarcomp.stores.codec_zarr import _ChunkCodec

        lock, state = threading.Lock(), {"now": 0, "most": 0, "calls": 0}

        def counted(code):
            def work(*arguments):
                with lock:
                    state["now"] += 1
                    state["calls"] += 1
                    state["most"] = max(state["most"], state["now"])
                time.sleep(0.02)  # those that may begin have begun
                try:
                    return code(*arguments)
                finally:
                    with lock:
                        state["now"] -= 1

            return work

        _ChunkCodec.before = _ChunkCodec._encode_sync, _ChunkCodec._decode_sync
        _ChunkCodec._encode_sync, _ChunkCodec._decode_sync = map(counted, _ChunkCodec.before)
        _ChunkCodec.state = state

    def found():
        from xsarcomp.stores.codec_zarr import _ChunkCodec

        _ChunkCodec._encode_sync, _ChunkCodec._decode_sync = _ChunkCodec.before
        return _ChunkCodec.state["calls"], _ChunkCodec.state["most"]

    scene = large_scene((1024, 1024), border=False)  # a block of four chunks
    encoded = scene.sarcomp.encode(bits_per_pixel=1, scale="decibel", model=MODEL)
    client = distributed.default_client()
    client.run(watch)
    try:
        encoded.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
        whole = dict.fromkeys(("y_latent", "x_latent"), 128) | dict.fromkeys(("y", "x"), 1024)
        decoded = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=whole).sarcomp.decode()
        assert np.isfinite(decoded.mean().compute().vv)
    finally:
        counts = client.run(found).values()
    assert sum(calls for calls, _ in counts) == 2 * 2 * 4  # there and back, both polarizations
    assert max(most for _, most in counts) == 1
