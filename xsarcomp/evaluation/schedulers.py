"""Ways to run Dask on this machine, and what its processes needed: memory and processor time, as Linux counts them.

The kernel keeps the highest resident memory of each process, so nothing is sampled and no peak is missed.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsarcomp.errors import ConfigurationError

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


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
def scheduler(workers: int, *, processes: bool) -> Iterator[Everywhere]:
    """Context in which Dask computes on threads of this process, or on processes of one thread each.

    Parameters
    ----------
    workers : int
        Threads or processes.
    processes : bool
        Whether they are processes of a ``LocalCluster``; this process then holds its scheduler and the client.

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
        # no limit: a worker that writes to disk or pauses would hide what it needs
        distributed.LocalCluster(n_workers=workers, memory_limit=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):

        def everywhere(function: Callable[[], Any]) -> dict[str, Any]:
            found = client.run(function)
            named = {f"worker {number}": found[address] for number, address in enumerate(sorted(found), 1)}
            return {"here": function()} | named

        yield everywhere
