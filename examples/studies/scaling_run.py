"""One large scene into a store and back in a process of its own: time, tasks, rate, peaks of memory."""

import contextlib
import importlib
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
from schedulers import ENVIRONMENT, Everywhere, Usage, reset_peak, scheduler, seconds_in_tasks, usage

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.large_scene import CHUNK_EDGE, large_scene

WAYS = {
    "threads": "latents store, 2 threads",
    "cluster-1": "latents store, 1 process",
    "cluster-2": "latents store, 2 processes",
    "untuned-1": "latents store, 1 process as Dask starts it",
    "untuned-2": "latents store, 2 processes as Dask starts them",
    "transparent": "transparent store, 2 threads",
}
"""Ways to run, and what tables call them."""
HEAVY = (
    "xsarcomp.codec.network.coder",
    "xsarcomp.stores.codec_zarr",
    "xsarcomp.latents",
    "xsarcomp.latents.decode",
    "xsarcomp.scenes.windows",
    "numba",
)
"""Imported before memory is first looked at: what comes on top is the work."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured."""

    shape: tuple[int, int]
    way: str
    """One of `WAYS`."""
    chips: tuple[str, ...] = ()
    chunk: int = CHUNK_EDGE
    model: str | None = None
    bits_per_pixel: float = 1.0
    request: dict[str, Any] = field(default_factory=dict)
    """More arguments of ``encode``, such as guarantees."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of a run."""

    seconds: float
    processor_seconds: float
    """Of all processes."""
    tasks: int
    """In the graph of what was computed; the writer makes one of those of a block."""
    peaks: dict[str, int]
    """Process to bytes of resident memory at most, over those after its imports."""
    task_seconds: dict[str, float] = field(default_factory=dict)
    """Process of a cluster to the seconds that it was in tasks; empty for threads."""

    @property
    def share_in_tasks(self) -> float:
        """Share of the time that the processes of a cluster were in tasks, 0 to 1; NaN for threads."""
        total = sum(self.task_seconds.values())
        return total / self.seconds / len(self.task_seconds) if total else math.nan

    @property
    def balance(self) -> float:
        """How many times as fast as one process these would be if they never waited: all tasks over those of the busiest.

        Hardly depends on what else the machine does; NaN for threads.
        """
        total = sum(self.task_seconds.values())
        return total / max(self.task_seconds.values()) if total else math.nan


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run has shown."""

    run: Run
    source: Phase
    """The scene made and thrown away: a part of the next two, and none of the codec's."""
    plan: Phase
    """The quantization step found."""
    encode: Phase
    decode: Phase
    stored_bytes: int

    @property
    def samples(self) -> int:
        """Pixels times polarizations."""
        return 2 * self.run.shape[0] * self.run.shape[1]

    @property
    def peak(self) -> int:
        """Bytes of the process that needed most, over those after its imports."""
        phases = (self.plan, self.encode, self.decode)
        return max(max(phase.peaks.values()) for phase in phases)


def measured_apart(run: Run) -> Outcome:
    """Measure in a fresh process, so that no run inherits the memory of another.

    Raises
    ------
    ConfigurationError
        If the way is unknown.
    """
    if run.way not in WAYS:
        raise ConfigurationError(f"way is {run.way!r}, expected one of {', '.join(WAYS)}")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, run).result()


def measure(run: Run) -> Outcome:
    """Measure in this process; what it holds already counts as imports."""
    for name in HEAVY:
        importlib.import_module(name)
    in_processes = run.way.startswith(("cluster", "untuned"))
    workers = int(run.way[-1]) if in_processes else 2
    environment = {} if run.way.startswith("untuned") else ENVIRONMENT
    scene = large_scene(run.shape, chips=run.chips, chunk=run.chunk)
    with (
        scheduler(workers, processes=in_processes, environment=environment) as everywhere,
        tempfile.TemporaryDirectory() as folder,
    ):
        base = {name: used.resident for name, used in everywhere(_imported).items()}
        _warm_up(run, Path(folder))

        def phase(work: Callable[[], Any]) -> Any:
            return _phase(work, everywhere, base, seconds_in_tasks if in_processes else contextlib.nullcontext)

        source, _ = phase(lambda: _consume(scene))
        plan_of = _planned_transparent if run.way == "transparent" else _planned_latents
        path = Path(folder) / "scene.zarr"
        plan, planned = phase(lambda: (plan_of(scene, run), 0))
        encode, _ = phase(lambda: _stored(*planned, path))
        stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        decode, _ = phase(lambda: _consume(_opened(path, run)))
    return Outcome(run=run, source=source, plan=plan, encode=encode, decode=decode, stored_bytes=stored)


def _imported() -> Usage:
    for name in HEAVY:
        importlib.import_module(name)
    return usage()


def _phase(
    work: Callable[[], tuple[Any, int]], everywhere: Everywhere, base: dict[str, int], watched: Callable[[], Any]
) -> tuple[Phase, Any]:
    """Do some work, which returns a result and its number of tasks, and say what it took."""
    everywhere(reset_peak)
    with watched() as task_seconds:
        before, start = everywhere(usage), time.perf_counter()
        result, tasks = work()
        seconds, after = time.perf_counter() - start, everywhere(usage)
    took = Phase(
        seconds=seconds,
        processor_seconds=sum(used.seconds - before[name].seconds for name, used in after.items()),
        tasks=tasks,
        peaks={name: used.peak - base[name] for name, used in after.items()},
        task_seconds=task_seconds or {},
    )
    return took, result


def _planned_latents(scene: xr.Dataset, run: Run) -> tuple[xr.Dataset, dict]:
    return scene.sarcomp.encode(**_request(run)), {}


def _planned_transparent(scene: xr.Dataset, run: Run) -> tuple[xr.Dataset, dict]:
    return scene, scene.sarcomp.encoding(**_request(run))


def _request(run: Run) -> dict[str, Any]:
    return {"bits_per_pixel": run.bits_per_pixel, "model": run.model, "scale": "decibel", **run.request}


def _stored(planned: xr.Dataset, encoding: dict, path: Path) -> tuple[None, int]:
    planned.sarcomp.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return None, len(planned.__dask_graph__())


def _opened(path: Path, run: Run) -> xr.Dataset:
    stored = xr.open_zarr(path, consolidated=False)
    return stored if run.way == "transparent" else stored.sarcomp.decode()


def _consume(scene: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Need every pixel and keep none: the mean holds a chunk at a time."""
    mean = scene.mean()
    tasks = len(mean.__dask_graph__())
    return mean.compute(), tasks


def _warm_up(run: Run, folder: Path) -> None:
    """Load the model and compile in all processes, on a small scene in chunks for each of them."""
    scene = large_scene((1024, 1024), chips=run.chips, chunk=512, border=False)
    small = folder / "small.zarr"
    plan_of = _planned_transparent if run.way == "transparent" else _planned_latents
    _stored(*plan_of(scene, run), small)
    _consume(_opened(small, run))
