"""Dask on threads or processes of this machine, and the memory and processor time of its processes as Linux counts them.

The study ``scaling.py`` uses it. The kernel keeps the highest resident memory of each process, so nothing is sampled and no
peak is missed.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsarcomp.errors import ConfigurationError

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")
WORKER_ENVIRONMENT: dict[str, str | int | None] = {"MALLOC_TRIM_THRESHOLD_": None, "ZARR_THREADING__MAX_WORKERS": 1}
"""Environment variables for worker processes of one thread, beside those that Dask sets; None removes a variable of Dask. With
Dask's threshold the allocator gives each array back to the system when it is freed, and takes as much time as the codec. Zarr
chooses its own number of threads in each process unless it is set. Measurements are in ``docs/scaling.md``, "Choosing"."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Memory and processor time of a process."""

    resident: int
    """Resident memory now, bytes."""
    peak: int
    """Highest resident memory since `reset_peak`, bytes."""
    seconds: float
    """Processor time of all its threads, user and system."""


def usage() -> Usage:
    """Memory and processor time of this process.

    Raises
    ------
    ConfigurationError
        Where there is no ``/proc``.
    """
    if not _STATUS.exists():
        raise ConfigurationError(
            f"found no {_STATUS}, expected Linux: only there peaks of memory are measured. Run it there."
        )
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    resident, peak = (1024 * int(lines[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return Usage(resident, peak, time.process_time())


def reset_peak() -> None:
    """Set the peak of this process to the memory that it holds now."""
    _RESET_PEAK.write_text("5")


RunEverywhere = Callable[[Callable[[], Any]], dict[str, Any]]
"""Function that runs a function in each process that computes: name of the process to the result."""


@contextlib.contextmanager
def scheduler(
    workers: int, *, processes: bool, environment: Mapping[str, str | int | None] = WORKER_ENVIRONMENT
) -> Iterator[RunEverywhere]:
    """Context in which Dask computes on threads of this process, or on processes of one thread each.

    Parameters
    ----------
    workers : int
        Threads or processes.
    processes : bool
        Whether they are processes of a ``LocalCluster``; this process then holds its scheduler and the client.
    environment : mapping of str to str, int or None
        Variables that the processes are started with, see `WORKER_ENVIRONMENT`; empty for only those that Dask sets.

    Yields
    ------
    callable
        See `RunEverywhere`; this process is called "here".
    """
    import dask

    if not processes:
        with dask.config.set(scheduler="threads", num_workers=workers):
            yield lambda function: {"here": function()}
        return
    import distributed

    # any free port: the usual one may belong to another cluster on this machine
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        _environment_of_workers(environment),
        # no limit: a worker that writes to disk or pauses would hide its need for memory
        distributed.LocalCluster(n_workers=workers, memory_limit=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):

        def everywhere(function: Callable[[], Any]) -> dict[str, Any]:
            results = client.run(function)
            return {"here": function()} | {name: results[address] for address, name in _names(client).items()}

        yield everywhere


@contextlib.contextmanager
def seconds_in_tasks() -> Iterator[dict[str, float]]:
    """Context that sums the time that each process of a cluster spends in tasks.

    Yields
    ------
    dict of str to float
        Name of the process to the seconds in which it computed tasks, filled when the context ends. Waiting does not count,
        nor does fetching the inputs of a task from another process, which goes on beside other tasks.
    """
    import distributed

    client = distributed.default_client()
    names = _names(client)
    seconds = dict.fromkeys(names.values(), 0.0)
    with distributed.get_task_stream(client) as stream:
        yield seconds
    for task in stream.data:
        computed = (part for part in task["startstops"] if part["action"] == "compute")
        seconds[names[task["worker"]]] += sum(part["stop"] - part["start"] for part in computed)


def _names(client: Any) -> dict[str, str]:
    """Addresses of the workers, in order, to the names of their processes."""
    addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
    return {address: f"worker {number}" for number, address in enumerate(addresses, 1)}


@contextlib.contextmanager
def _environment_of_workers(environment: Mapping[str, str | int | None]) -> Iterator[None]:
    """Context in which Dask starts processes with these variables; without it Dask would leave its own in this process."""
    import dask

    before = dict(os.environ)
    for name in environment:
        os.environ.pop(name, None)  # a variable that is set already overrides the request to Dask
    try:
        with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": v for name, v in environment.items()}):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
