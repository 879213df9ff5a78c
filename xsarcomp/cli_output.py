"""Output of the commands: tables, JSON, progress bars, warnings."""

import contextlib
import json
import logging
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from xsarcomp.stores.report import StoreReport


def visible(text: str) -> str:
    """Text with everything that is no visible character written as text: escape sequences and line breaks of names do nothing.

    Parameters
    ----------
    text : str
        Anything: names, attributes and file names may come from a stranger's store.

    Returns
    -------
    str
        Control characters, line breaks, marks of direction and of no width, and broken file names as in Python: ``\\x1b``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(text: Any, *, err: bool = False) -> None:
    """Print a line: the one place at which words reach the terminal, apart from JSON, which escapes by itself."""
    click.echo(visible(str(text)), err=err)


class Words(click.Choice):
    """Choice among words, with a message of one line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or refuse it with those that there are."""
        if value in self.choices:
            return value
        return self.fail(f"{value!r} is unknown, expected one of {', '.join(self.choices)}", param, ctx)


def print_store(report: "StoreReport", as_json: bool) -> None:
    """Print the sizes of a store, and a line for each variable; or all as JSON."""
    if as_json:
        print_json(report.to_json())
        return
    print_table({name: value for name, value in report.to_json().items() if name != "variables" and value is not None})
    for name, settings in report.variables.items():
        details = ", ".join(
            f"{key} {_text(value)}"
            for key, value in settings.items()
            if key in ("store", "scale", "scale_reason", "step_db", "target")
            or (key in ("max_error_db", "keep_means") and value)
        )
        say(f"{name}: {details}")


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
def warnings_in_one_line() -> Iterator[None]:
    """Print warnings to users as one line, without file, line number and source code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_line(message: Warning | str, category: type[Warning], *arguments: Any, **keywords: Any) -> None:
            if issubclass(category, UserWarning):
                say(f"xsarcomp: warning: {options_in_text(str(message))}", err=True)
            else:
                show(message, category, *arguments, **keywords)

        warnings.showwarning = show_line
        yield


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


def split_names(text: str | None) -> list[str] | None:
    """Names in a text that commas separate; None without a text."""
    return None if text is None else [name for name in map(str.strip, text.split(",")) if name]


def options_in_text(text: str) -> str:
    """Text in one line, with options of the command in place of arguments in Python."""
    text = re.sub(
        r"variables=\[([^\]]+)\]", lambda names: f"--variables {names[1].replace(chr(39), '').replace(', ', ',')}", text
    )
    text = text.replace("recompress=True", "--recompress").replace("without resume", "without --resume")
    return " ".join(text.split())
