"""Several scenes or stores one after the other: names of the targets, and failures that do not stop the others."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from xsarcomp.errors import ConfigurationError
from xsarcomp.stores.files import is_zarr


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work on one source."""

    source: str
    """Path or URL."""
    target: str
    """Path or URL in the folder of all targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a job."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    """"skipped" if the target was there before."""
    seconds: float
    result: Any = None
    """What the work returned; None if it failed."""
    error: Exception | None = None
    """Why it failed."""


def plan_jobs(sources: Sequence[str], folder: str, ending: str) -> list[Job]:
    """Give each source a target of its name in a folder; nothing is written.

    Parameters
    ----------
    sources : sequence of str
        Paths or URLs.
    folder : str
        Path or URL.
    ending : str
        Ending of the targets, with its dot.

    Returns
    -------
    list of Job

    Raises
    ------
    ConfigurationError
        If two sources have the same name, or the folder is a file or a store.
    """
    ends_like_a_target = Path(folder.rstrip("/")).suffix.lower() in (".zarr", ".tif", ".tiff", ".nc")
    if ends_like_a_target or ("://" not in folder and (is_zarr(folder) or Path(folder).is_file())):
        raise ConfigurationError(
            f"--output names {folder}, expected a folder, in which each source gets a target of its own: choose another name"
        )
    jobs: dict[str, Job] = {}
    for source in sources:
        name = PurePosixPath(urlsplit(source).path).stem if "://" in source else Path(source).stem
        target = f"{folder.rstrip('/')}/{name}{ending}" if "://" in folder else str(Path(folder) / f"{name}{ending}")
        if target in jobs:
            raise ConfigurationError(
                f"{jobs[target].source} and {source} would both become {target}, and nothing was written: rename one of them, or "
                "choose another folder for it"
            )
        jobs[target] = Job(source=source, target=target)
    return list(jobs.values())


def run_jobs(
    jobs: Sequence[Job], work: Callable[[Job], Any], *, finished: Callable[[Job], Any] | None = None
) -> Iterator[Outcome]:
    """Work on sources one after the other, whatever happens to one of them.

    Parameters
    ----------
    jobs : sequence of Job
    work : callable
        Called with each job.
    finished : callable, optional
        Called in place of ``work`` where the target exists: targets have their name only when they are whole.

    Yields
    ------
    Outcome
        Of each job, as soon as it is known.
    """
    for job in jobs:
        is_there = finished is not None and "://" not in job.target and Path(job.target).exists()
        begin = time.monotonic()
        try:
            result = finished(job) if is_there and finished else work(job)
        except Exception as error:  # the next source may be a good one
            yield Outcome(job=job, status="failed", seconds=time.monotonic() - begin, error=error)
        else:
            status: Literal["done", "skipped"] = "skipped" if is_there else "done"
            yield Outcome(job=job, status=status, seconds=time.monotonic() - begin, result=result)
