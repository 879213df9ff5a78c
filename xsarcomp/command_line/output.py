"""Output of the commands: tables, JSON, progress bars, warnings."""

import contextlib
import json
import logging
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from xsarcomp.command_line.messages import describe, options_in_text, wants_traceback
from xsarcomp.display import size, visible

if TYPE_CHECKING:
    from xsarcomp.stores.batch import Outcome
    from xsarcomp.stores.report import StoreReport
    from xsarcomp.stores.verification import VerificationReport


def say(text: Any, *, err: bool = False) -> None:
    """Print a line: the one place at which words reach the terminal, apart from JSON, which escapes by itself."""
    click.echo(visible(str(text)), err=err)


def print_store(report: "StoreReport", as_json: bool) -> None:
    """Print the sizes of a store, and a line for each variable; or all as JSON."""
    if as_json:
        print_json(report.to_json())
        return
    asked = "" if report.asked_bytes is None else f": {size(report.asked_bytes)}"
    values = {
        "pixel data": f"{size(report.payload_bytes)}, {report.bits_per_pixel:.3g} bits per pixel, 1/{report.ratio:.3g} of float32",
        "whole store": f"{size(report.stored_bytes)} in {report.objects} files, {report.stored_bits_per_pixel:.3g} bits per pixel",
        "asked for": None if report.target is None else f"{report.target}{asked}",
        "pixels": f"{report.pixels} in {len(report.variables)} variable{'s' * (len(report.variables) > 1)}",
        "model": report.model if isinstance(report.model, str) else ", ".join(report.model),
    }
    print_table({name: value for name, value in values.items() if value is not None})
    for name, settings in report.variables.items():
        say(f"{name}: {_settings_text(settings)}")


def _settings_text(settings: dict[str, Any]) -> str:
    """Settings of a variable in words."""
    reason = settings.get("scale_reason")
    steps = settings.get("steps_db") or [settings.get("step_db")]
    parts = [
        "latents" if settings.get("store") == "latents" else "transparent, backscatter for any reader with xsarcomp",
        f"scale {settings.get('scale')}{f' ({reason})' if reason else ''}",
        f"quantization step {', '.join(map(_text, steps))} dB",
    ]
    if settings.get("max_error_db"):
        parts.append(f"each valid pixel within {_text(settings['max_error_db'])} dB")
    if settings.get("keep_means"):
        parts.append("mean power of tiles kept")
    return "; ".join(parts)


def print_verification(report: "VerificationReport") -> None:
    """Print each problem of a store, what was checked, and the result."""
    for problem in report.problems:
        say(problem)
    count = len(report.problems) + report.unlisted
    depth = {"full": "all bytes, all symbols decoded", "quick": "all bytes, no symbols decoded"}
    manifest = {
        "recorded": "there: swapped and missing chunks are noticed",
        "none": "none: swapped chunks and some missing ones go unnoticed. xsarcomp verify --record writes one",
        "damaged": "damaged: swapped chunks and some missing ones go unnoticed",
    }
    values = {
        "result": "no problem found" if report.ok else f"{count} problem{'s' * (count != 1)} found",
        "not listed above": report.unlisted or None,
        "checked": f"{depth.get(report.depth, 'headers of chunks')}: {size(report.bytes)}",
        "chunks": f"{report.stored} of {report.chunks} stored in {report.arrays} arrays; others hold only the fill value, or nothing",
        "perhaps missing": report.unproven or None,
        "manifest": manifest[report.manifest],
    }
    if report.stored == report.chunks:
        values["chunks"] = f"{report.chunks} in {report.arrays} arrays, all stored"
    print_table({name: value for name, value in values.items() if value is not None})


def print_jobs(
    outcomes: "Iterable[Outcome]", done: str, words: Callable[[Any], tuple[str, int, int]], *, as_json: bool = False
) -> bool:
    """Print a line for each of several sources as it ends, and a summary; or all as JSON at the end.

    Parameters
    ----------
    outcomes : iterable of Outcome
    done : str
        Word for what was done: "encoded".
    words : callable
        Words for a result, and the bytes of source and target.
    as_json : bool

    Returns
    -------
    bool
        True if no source failed.
    """
    ended: list[Outcome] = []
    size_in = size_out = 0
    for outcome in outcomes:
        ended.append(outcome)
        if outcome.error is not None:
            if wants_traceback():
                traceback.print_exception(outcome.error)
            say(f"xsarcomp: {outcome.job.source}: {describe(outcome.error)}", err=True)
            continue
        text, *sizes = words(outcome.result)
        size_in, size_out = size_in + sizes[0], size_out + sizes[1]
        note = "finished before" if outcome.status == "skipped" else f"{outcome.seconds:.1f} s"
        if not as_json:
            say(f"{outcome.job.source}: {outcome.job.target}, {text}, {note}")
    failed = [outcome.job.source for outcome in ended if outcome.error is not None]
    if as_json:
        print_json([_job_json(outcome) for outcome in ended])
        return not failed
    count = {status: sum(outcome.status == status for outcome in ended) for status in ("done", "skipped")}
    said = f"{count['done']} {done}" + (f", {count['skipped']} finished before" if count["skipped"] else "")
    said += f", {len(failed)} failed ({', '.join(failed)})" if failed else ""
    change = "" if not size_in or not size_out else f", 1/{size_in / size_out:.3g}"
    if size_out > size_in > 0:
        change = f", {size_out / size_in:.3g} times as much"
    say(f"{said}: {size(size_in)} in, {size(size_out)} out{change}")
    return not failed


def _job_json(outcome: "Outcome") -> dict[str, Any]:
    """Outcome of a job as JSON."""
    return {
        "source": outcome.job.source,
        "target": outcome.job.target,
        "status": outcome.status,
        "seconds": outcome.seconds,
        "error": None if outcome.error is None else describe(outcome.error),
        "report": None if outcome.result is None else outcome.result.to_json(),
    }


@contextlib.contextmanager
def warnings_in_one_line(name: str = "") -> Iterator[None]:
    """Print warnings to users as one line, without file, line number and source code.

    Parameters
    ----------
    name : str
        Name of what is worked on, where there are several.
    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_line(message: Warning | str, category: type[Warning], *arguments: Any, **keywords: Any) -> None:
            if issubclass(category, UserWarning):
                say(f"xsarcomp: warning: {f'{name}: ' if name else ''}{options_in_text(str(message))}", err=True)
            else:
                show(message, category, *arguments, **keywords)

        warnings.showwarning = show_line
        yield


def print_bands(statistics: dict[str, dict[str, Any]]) -> None:
    """Print statistics of latents: a line for each number, and a row for each frequency band."""
    for name, values in statistics.items():
        say(name)
        print_table({key: value for key, value in values.items() if not isinstance(value, list)})
        bands = {key: value for key, value in values.items() if isinstance(value, list)}
        say("".join(f"{column:<24}" for column in ("band", *bands)))
        for band, row in enumerate(zip(*bands.values(), strict=True)):
            say("".join(f"{_text(value):<24}" for value in (band, *row)))


def print_table(values: dict[str, Any]) -> None:
    """Print a line for each value."""
    for name, value in values.items():
        say(f"{name:<24}{_text(value)}")


def _text(value: Any) -> str:
    """Value in words, numbers with five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def print_json(values: Any) -> None:
    """Print values as strict JSON: NaN and infinity become null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): strict(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strict(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    click.echo(json.dumps(strict(values), indent=2, allow_nan=False))


@contextlib.contextmanager
def progress(label: str) -> Iterator[None]:
    """Show the progress of Dask as a bar on a terminal, and nothing in a pipe."""
    with bar(label) as report:
        if report is None:
            yield
            return
        from xsarcomp.scenes.calls import watch_tasks

        with watch_tasks(report):
            yield


@contextlib.contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal; gives a function of the finished and the total number, None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(label, total=None)
        last = [0.0]

        def report(done: int, total: int) -> None:
            if time.monotonic() - last[0] > 0.1:
                last[0] = time.monotonic()
                display.update(task, completed=done, total=total)

        yield report


@contextlib.contextmanager
def collected_notes() -> Iterator[list[str]]:
    """Collect what the package logs at level INFO, such as the choice of variables; gives the list of texts."""
    logger = logging.getLogger("xsarcomp")
    notes: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(record.getMessage())

    handler, level = Collector(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
