"""Two worker processes: the same stores and the same values as here, the model loaded there by its id; one is killed."""

import collections
import contextlib
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import xarray as xr

from xsarcomp.scenes.large_scene import large_scene

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """One cluster for all tests: two processes with one thread each, no dashboard."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def original():
    """Four blocks of latents, chunks that do not fit them, a hole."""
    values = np.random.default_rng(5).gamma(4.4, 0.1 / 4.4, (540, 530)).astype(np.float32)
    values[500:520, 490:530] = np.nan
    return xr.DataArray(values, dims=("y", "x"), name="vv", attrs={"units": "1"})


def files(path):
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_latents_stores_are_byte_for_byte_those_of_one_process(client, original, tmp_path):
    encoded = original.chunk(200).sarcomp.encode(bits_per_pixel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # among them: a large graph
        encoded.to_zarr(tmp_path / "there.zarr", zarr_format=3, consolidated=False)
    here = original.chunk(200).compute().sarcomp.encode(bits_per_pixel=1)
    opened = xr.open_zarr(tmp_path / "there.zarr", consolidated=False)
    for name in ("vv_latents", "vv_mask"):
        np.testing.assert_array_equal(opened[name].values, here[name].values)
    decoded = opened.sarcomp.decode().vv.compute()
    xr.testing.assert_allclose(decoded, here.sarcomp.decode().vv, rtol=1e-5, atol=0)
    import dask

    with dask.config.set(scheduler="threads"):
        encoded.to_zarr(tmp_path / "here.zarr", zarr_format=3, consolidated=False)
    assert files(tmp_path / "there.zarr") == files(tmp_path / "here.zarr")


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_transparent_stores_are_byte_for_byte_those_of_one_process(client, original, tmp_path, zarr_format):
    import dask

    chunked = original.chunk(256).to_dataset()
    encoding = chunked.sarcomp.encoding(bits_per_pixel=1, zarr_format=zarr_format)
    arguments = {"zarr_format": zarr_format, "consolidated": False, "encoding": encoding}
    chunked.to_zarr(tmp_path / "there.zarr", **arguments)
    with dask.config.set(scheduler="threads"):
        chunked.to_zarr(tmp_path / "here.zarr", **arguments)
    assert files(tmp_path / "there.zarr") == files(tmp_path / "here.zarr")
    found = xr.open_zarr(tmp_path / "there.zarr", consolidated=False).vv
    np.testing.assert_array_equal(np.isnan(found.values), np.isnan(original.values))


def test_the_engine_reads_in_the_workers(client, original, tmp_path):
    original.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", chunks={})
    error = 10 * np.log10(opened.vv / original)
    assert 0.1 < float(np.sqrt((error**2).mean())) < 3  # white speckle costs more than that of a real scene


def test_what_goes_wrong_in_a_worker_arrives_as_the_same_error(client, original, tmp_path):
    from xsarcomp.errors import CorruptStreamError

    original.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    file = tmp_path / "a.zarr/vv_latents/c/0/0/0"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CorruptStreamError):
        xr.open_zarr(tmp_path / "a.zarr", consolidated=False).sarcomp.decode().vv.compute()


def test_a_worker_loads_the_model_once_and_after_that_keeps_it(client, original):
    def misses():
        from xsarcomp.codec.installed_models import _load

        return _load.cache_info().misses

    lazy = original.chunk(100)
    lazy.sarcomp.encode(bits_per_pixel=1).vv_latents.data.persist().compute()
    assert all(count <= 1 for count in client.run(misses).values())


class Journal(distributed.diagnostics.plugin.SchedulerPlugin):
    """Which worker finished which task, in the order of time."""

    def __init__(self):
        self.finished = []

    def transition(self, key, start, finish, *arguments, **options):
        if (start, finish) == ("processing", "memory"):
            self.finished.append((key, options["worker"]))


def with_sources(keys, sources):
    """Tasks and all that they are made from."""
    found, left = set(), list(keys)
    while left:
        key = left.pop()
        if key not in found:
            found.add(key)
            left += sources.get(key, ())
    return found


@pytest.mark.soak
def test_a_killed_worker_costs_what_it_had_made_and_no_block_of_the_other(tmp_path):
    scene = large_scene((1536, 2560), chunk=512, border=False)[["vv"]]
    encoded = scene.sarcomp.encode(bits_per_pixel=1, scale="decibel", model="s1-grd-10m-lapped")
    arguments = {"zarr_format": 3, "consolidated": False}
    encoded.compute(scheduler="threads").to_zarr(tmp_path / "expected.zarr", **arguments)
    journal, errors = Journal(), []
    with contextlib.ExitStack() as stack:
        # own cluster: its workers come and go
        options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
        cluster = stack.enter_context(distributed.LocalCluster(**options))
        client = stack.enter_context(distributed.Client(cluster))
        cluster.scheduler.add_plugin(journal)
        processes = client.run(os.getpid)
        victim = min(processes)

        def store():
            try:
                with client.as_current():
                    encoded.to_zarr(tmp_path / "killed.zarr", **arguments)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=store)
        thread.start()
        blocks = 3 * 15  # latents, mask, exact values
        deadline = time.monotonic() + 600
        while sum("sarcomp" in str(key) for key, _ in journal.finished) < blocks // 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        tasks = dict(cluster.scheduler.tasks)
        sources = {key: [source.key for source in task.dependencies] for key, task in tasks.items()}
        os.kill(processes[victim], signal.SIGKILL)
        thread.join(600)
        assert not thread.is_alive()
    assert errors == []
    assert files(tmp_path / "killed.zarr") == files(tmp_path / "expected.zarr")
    # blocks of the source are read again by whoever needs them
    counts = collections.Counter(key for key, _ in journal.finished if "sarcomp" in str(key))
    twice = {key for key, count in counts.items() if count > 1}
    by_victim = {key for key, worker in journal.finished if worker == victim}
    assert twice
    assert max(counts.values()) == 2
    # what it had stored is stored again: Dask keeps the result of a task on the worker that ran it
    assert twice <= with_sources(by_victim, sources)
    assert len(counts) == blocks
