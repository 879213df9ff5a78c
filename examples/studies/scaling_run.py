"""One run of the study ``scaling.py``: a large scene into a store and back in a new process.

It measures time, processor time, tasks, rate and peaks of memory.
"""

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
from schedulers import WORKER_ENVIRONMENT, RunEverywhere, Usage, reset_peak, scheduler, seconds_in_tasks, usage

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
"""Ways to run, and their names in tables."""
PRELOADED_MODULES = (
    "xsarcomp.codec.network.coder",
    "xsarcomp.stores.codec_zarr",
    "xsarcomp.latents.encode",
    "xsarcomp.latents.decode",
    "xsarcomp.scenes.calls",
    "xsarcomp.scenes.windows",
    "numba",
)
"""Modules that are imported before memory is first measured, so that peaks above that level belong to the work."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Parameters of a run."""

    shape: tuple[int, int]
    way: str
    """One of `WAYS`."""
    chips: tuple[str, ...] = ()
    """Files of real chips; simulated ones if empty."""
    chunk: int = CHUNK_EDGE
    """Pixels along both edges of a chunk of the source."""
    model: str | None = None
    """Name or id; the default model if None."""
    bits_per_pixel: float = 1.0
    encode_arguments: dict[str, Any] = field(default_factory=dict)
    """More arguments of ``encode``, such as guarantees."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Measurements of one part of a run."""

    seconds: float
    processor_seconds: float
    """Sum over all processes."""
    tasks: int
    """Tasks in the graph; the writer fuses those of a block into one."""
    peaks: dict[str, int]
    """Process to its peak of resident memory in bytes, above the level after its imports."""
    task_seconds: dict[str, float] = field(default_factory=dict)
    """Process of a cluster to the seconds that it spent in tasks; empty for threads."""

    @property
    def share_in_tasks(self) -> float:
        """Share of the time that the processes of a cluster spent in tasks, 0 to 1; NaN for threads."""
        total = sum(self.task_seconds.values())
        return total / self.seconds / len(self.task_seconds) if total else math.nan

    @property
    def balance(self) -> float:
        """Speed-up over one process if none ever waited: time of all tasks over that of the busiest process.

        It hardly depends on other work of the machine; NaN for threads.
        """
        total = sum(self.task_seconds.values())
        return total / max(self.task_seconds.values()) if total else math.nan


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Measurements of a run."""

    run: Run
    source: Phase
    """Computing the scene without the codec; encoding and planning contain this too."""
    plan: Phase
    """Finding the quantization step."""
    encode: Phase
    decode: Phase
    stored_bytes: int

    @property
    def samples(self) -> int:
        """Pixels times polarizations."""
        return 2 * self.run.shape[0] * self.run.shape[1]

    @property
    def peak(self) -> int:
        """Highest peak of a process in bytes, above the level after its imports."""
        phases = (self.plan, self.encode, self.decode)
        return max(max(phase.peaks.values()) for phase in phases)


def measure_in_new_process(run: Run) -> Outcome:
    """Measure in a new process, so that no run inherits the memory of another.

    Raises
    ------
    ConfigurationError
        If the way is unknown.
    """
    if run.way not in WAYS:
        raise ConfigurationError(f"found way {run.way!r}, expected one of {', '.join(WAYS)}. Choose one of them.")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, run).result()


def measure(run: Run) -> Outcome:
    """Measure in this process; memory that it holds already counts as imports."""
    for name in PRELOADED_MODULES:
        importlib.import_module(name)
    in_processes = run.way.startswith(("cluster", "untuned"))
    workers = int(run.way[-1]) if in_processes else 2
    environment = {} if run.way.startswith("untuned") else WORKER_ENVIRONMENT
    scene = large_scene(run.shape, chips=run.chips, chunk=run.chunk)
    with (
        scheduler(workers, processes=in_processes, environment=environment) as everywhere,
        tempfile.TemporaryDirectory() as folder,
    ):
        base = {name: used.resident for name, used in everywhere(_import_modules).items()}
        _warm_up(run, Path(folder))

        def measure_phase(work: Callable[[], Any]) -> Any:
            return _measure_phase(work, everywhere, base, seconds_in_tasks if in_processes else contextlib.nullcontext)

        path = Path(folder) / "scene.zarr"
        source, _ = measure_phase(lambda: _consume(scene))
        plan, (planned, encoding) = measure_phase(lambda: (_plan(scene, run), 0))
        encode, _ = measure_phase(lambda: _write(planned, encoding, path))
        stored_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        decode, _ = measure_phase(lambda: _consume(_open(path, run)))
    return Outcome(run=run, source=source, plan=plan, encode=encode, decode=decode, stored_bytes=stored_bytes)


def _import_modules() -> Usage:
    for name in PRELOADED_MODULES:
        importlib.import_module(name)
    return usage()


def _measure_phase(
    work: Callable[[], tuple[Any, int]], everywhere: RunEverywhere, base: dict[str, int], watch_tasks: Callable[[], Any]
) -> tuple[Phase, Any]:
    """Measure a function that returns a result and its number of tasks; return the measurements and the result."""
    everywhere(reset_peak)
    with watch_tasks() as task_seconds:
        before, start = everywhere(usage), time.perf_counter()
        result, tasks = work()
        seconds, after = time.perf_counter() - start, everywhere(usage)
    phase = Phase(
        seconds=seconds,
        processor_seconds=sum(used.seconds - before[name].seconds for name, used in after.items()),
        tasks=tasks,
        peaks={name: used.peak - base[name] for name, used in after.items()},
        task_seconds=task_seconds or {},
    )
    return phase, result


def _plan(scene: xr.Dataset, run: Run) -> tuple[xr.Dataset, dict[str, Any]]:
    """Find the quantization step; return the dataset to write and its encoding."""
    arguments = {"bits_per_pixel": run.bits_per_pixel, "model": run.model, "scale": "decibel", **run.encode_arguments}
    if run.way == "transparent":
        return scene, scene.sarcomp.encoding(**arguments)
    return scene.sarcomp.encode(**arguments), {}


def _write(planned: xr.Dataset, encoding: dict[str, Any], path: Path) -> tuple[None, int]:
    """Write a store; return nothing and the number of tasks."""
    planned.sarcomp.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return None, len(planned.__dask_graph__())


def _open(path: Path, run: Run) -> xr.Dataset:
    stored = xr.open_zarr(path, consolidated=False)
    return stored if run.way == "transparent" else stored.sarcomp.decode()


def _consume(scene: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Compute the mean, which needs every pixel and holds a chunk at a time; return it and the number of tasks."""
    mean = scene.mean()
    tasks = len(mean.__dask_graph__())
    return mean.compute(), tasks


def _warm_up(run: Run, folder: Path) -> None:
    """Load the model and compile the kernels in all processes, on a small scene with chunks for each of them."""
    scene = large_scene((1024, 1024), chips=run.chips, chunk=512, border=False)
    small = folder / "small.zarr"
    planned, encoding = _plan(scene, run)
    _write(planned, encoding, small)
    _consume(_open(small, run))
