"""What commands say: tables, JSON, progress bars, warnings."""

import contextlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from xsarcomp.stores.report import StoreReport


def print_store(report: "StoreReport", as_json: bool) -> None:
    """Print the sizes of a store, and a line for each variable."""
    if as_json:
        print_json(report.to_json())
        return
    print_table({name: value for name, value in report.to_json().items() if name != "variables"})
    for name, described in report.variables.items():
        details = ", ".join(
            f"{key} {_text(value)}"
            for key, value in described.items()
            if key in ("store", "scale", "scale_reason", "step_db", "target")
            or (key in ("max_error_db", "keep_means") and value)
        )
        click.echo(f"{name}: {details}")


def print_bands(statistics: dict[str, dict[str, Any]]) -> None:
    """Statistics of latents: a line for each number, and a row for each band of frequency."""
    for name, figures in statistics.items():
        click.echo(name)
        print_table({key: value for key, value in figures.items() if not isinstance(value, list)})
        bands = {key: value for key, value in figures.items() if isinstance(value, list)}
        click.echo("".join(f"{column:<24}" for column in ("band", *bands)))
        for band, row in enumerate(zip(*bands.values(), strict=True)):
            click.echo("".join(f"{_text(value):<24}" for value in (band, *row)))


def print_table(values: dict[str, Any]) -> None:
    """A line for each value."""
    for name, value in values.items():
        click.echo(f"{name:<24}{_text(value)}")


def _text(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def print_json(values: Any) -> None:
    """Values as strict JSON: what is not a finite number becomes null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): strict(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strict(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    click.echo(json.dumps(strict(values), indent=2, allow_nan=False))


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Progress bar for Dask on a terminal, nothing in a pipe."""
    with bar(what) as report:
        if report is None:
            yield
            return
        from xsarcomp.scenes.windows import watch_tasks

        with watch_tasks(report):
            yield


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Progress bar that is moved by a call with what is done and what there is; None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        last = [0.0]

        def report(done: int, total: int) -> None:
            if time.monotonic() - last[0] > 0.1:
                last[0] = time.monotonic()
                shown.update(task, completed=done, total=total)

        yield report


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Warnings to users without file, line number and source, which say nothing to whoever calls a command."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_line(message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
            if issubclass(category, UserWarning):
                click.echo(f"xsarcomp: warning: {' '.join(str(message).split())}", err=True)
            else:
                show(message, category, *where, **further)

        warnings.showwarning = show_line
        yield
