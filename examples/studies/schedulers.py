"""Ways to run Dask on this machine, and what its processes needed: memory and processor time, as Linux counts them.

The kernel keeps the highest resident memory of each process, so nothing is sampled and no peak is missed.
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
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": None, "ZARR_THREADING__MAX_WORKERS": 1}
"""What worker processes of one thread should be given beside what Dask sets; None takes a variable of Dask away. With Dask's
threshold the allocator gives each array back to the system when it is freed, and takes as much time as the codec. Zarr has
as many threads as it likes in each process unless it is told. Figures are in ``docs/scaling.md``, "Choosing"."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used."""

    resident: int
    """Bytes in memory now."""
    peak: int
    """Bytes in memory at most since `reset_peak`."""
    seconds: float
    """Processor time of all its threads, user and system."""


def usage() -> Usage:
    """What this process has used.

    Raises
    ------
    ConfigurationError
        Where there is no ``/proc``.
    """
    if not _STATUS.exists():
        raise ConfigurationError(f"found no {_STATUS}: peaks of memory are measured on Linux alone. Run it there")
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    resident, peak = (1024 * int(lines[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return Usage(resident, peak, time.process_time())


def reset_peak() -> None:
    """Let the peak of this process begin at what it holds now."""
    _RESET_PEAK.write_text("5")


Everywhere = Callable[[Callable[[], Any]], dict[str, Any]]
"""Runs a function in each process that works: name of the process to what was returned."""


@contextlib.contextmanager
def scheduler(
    workers: int, *, processes: bool, environment: Mapping[str, str | int | None] = ENVIRONMENT
) -> Iterator[Everywhere]:
    """Context in which Dask computes on threads of this process, or on processes of one thread each.

    Parameters
    ----------
    workers : int
        Threads or processes.
    processes : bool
        Whether they are processes of a ``LocalCluster``; this process then holds its scheduler and the client.
    environment : mapping of str to str, int or None
        Variables that the processes are started with, see `ENVIRONMENT`; empty for what Dask sets alone.

    Yields
    ------
    callable
        See `Everywhere`; this process is called "here".
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
        _started_with(environment),
        # no limit: a worker that writes to disk or pauses would hide what it needs
        distributed.LocalCluster(n_workers=workers, memory_limit=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):

        def everywhere(function: Callable[[], Any]) -> dict[str, Any]:
            found = client.run(function)
            return {"here": function()} | {name: found[address] for address, name in _names(client).items()}

        yield everywhere


@contextlib.contextmanager
def seconds_in_tasks() -> Iterator[dict[str, float]]:
    """Context that counts how long each process of a cluster was in tasks.

    Yields
    ------
    dict of str to float
        Name of the process to the seconds in which it computed tasks, filled when the context ends. Waiting is no part of
        it, nor is fetching what a task needs from another process, which goes on beside other tasks.
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
    """Addresses of the workers, in order, to what their processes are called."""
    addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
    return {address: f"worker {number}" for number, address in enumerate(addresses, 1)}


@contextlib.contextmanager
def _started_with(environment: Mapping[str, str | int | None]) -> Iterator[None]:
    """Context in which Dask starts processes with these variables; it leaves its own behind in this process otherwise."""
    import dask

    before = dict(os.environ)
    for name in environment:
        os.environ.pop(name, None)  # what is set already counts more than what Dask is asked for
    try:
        with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": v for name, v in environment.items()}):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
