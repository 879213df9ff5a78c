"""Time, processor time, memory and tasks of scenes of growing size.

::

    python examples/studies/scaling.py --scene 4096x4096 --scene 8192x8192 --output docs/benchmarks

adds rows to ``scaling.csv`` and writes ``scaling.md``. Each size goes into a store and back in each of several ways, every
run in a new process. The rows gather in the CSV file, so that the long runs can be made one by one; the table is written
from all of them. Each row has the load of the machine when its run began and ended: on a busy machine time says little,
and only processor time can be compared.
"""

import csv
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from scaling_run import WAYS, Outcome, Run, measure_in_new_process

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.large_scene import chip_files
from xsarcomp.whole_files import whole_file, write_atomically

COLUMNS = {
    "way": str,
    "rows": int,
    "columns": int,
    "bits_per_pixel": float,
    "source_seconds": float,
    "plan_seconds": float,
    "encode_seconds": float,
    "decode_seconds": float,
    "encode_processor_seconds": float,
    "decode_processor_seconds": float,
    "encode_tasks": int,
    "chunks": int,
    "plan_peak_mb": float,
    "encode_peak_mb": float,
    "decode_peak_mb": float,
    "encode_share_in_tasks": float,
    "decode_share_in_tasks": float,
    "encode_balance": float,
    "decode_balance": float,
    "load_before": float,
    "load_after": float,
}
"""Columns of the CSV file and their types; ``chunks`` are those of the source, both polarizations."""


def parse_shape(text: str) -> tuple[int, int]:
    """Parse rows and columns such as "25000x16000".

    Raises
    ------
    ConfigurationError
        If the text has another form.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigurationError(f"found scene {text!r}, expected rows and columns. Write it as 25000x16000.")
    return int(parts[0]), int(parts[1])


def run_scaling(
    scenes: Sequence[str],
    ways: Sequence[str] = (),
    *,
    chips: tuple[str, ...] = (),
    model: str | None = None,
    output: Path | None = None,
) -> Iterator[str]:
    """Measure, and yield lines of progress and of a Markdown table.

    Parameters
    ----------
    scenes : sequence of str
        Sizes such as "4096x4096", rows and columns of each of two polarizations.
    ways : sequence of str
        Keys of :data:`~scaling_run.WAYS`; all if empty.
    chips : tuple of str
        Files of real chips; simulated ones if empty.
    model : str, optional
        Name or id; the default model if not given.
    output : Path, optional
        Folder for ``scaling.csv``, to which rows are added, and ``scaling.md``.

    Yields
    ------
    str

    Raises
    ------
    ConfigurationError
        If a size or a way cannot be understood.
    """
    shapes = [parse_shape(scene) for scene in scenes]
    runs = [Run(shape=shape, way=way, chips=chips, model=model) for shape in shapes for way in ways or WAYS]
    path = None if output is None else output / "scaling.csv"
    rows = read_rows(path) if path is not None and path.exists() else []
    for run in runs:
        load_before = os.getloadavg()[0]
        row = outcome_row(measure_in_new_process(run), load_before, os.getloadavg()[0])
        rows = [old for old in rows if any(old[key] != row[key] for key in ("way", "rows", "columns"))] + [row]
        yield f"{WAYS[run.way]}, {run.shape[0]} x {run.shape[1]}: {row['encode_seconds']:.1f} s there, {row['decode_seconds']:.1f} s back"
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_rows(path, rows)
            write_atomically(path.with_suffix(".md"), "\n".join(table(rows)) + "\n")
    yield from table(rows)


def outcome_row(outcome: Outcome, load_before: float, load_after: float) -> dict[str, Any]:
    """Row of the CSV file; memory is that of the process with the highest peak, in MB above its imports."""
    run = outcome.run
    blocks = [-(-size // run.chunk) for size in run.shape]
    row: dict[str, Any] = {
        "way": run.way,
        "rows": run.shape[0],
        "columns": run.shape[1],
        "bits_per_pixel": 8 * outcome.stored_bytes / outcome.samples,
        "encode_tasks": outcome.encode.tasks,
        "chunks": 2 * blocks[0] * blocks[1],
        "load_before": load_before,
        "load_after": load_after,
    }
    for name in ("source", "plan", "encode", "decode"):
        phase = getattr(outcome, name)
        row[f"{name}_seconds"] = phase.seconds
        row[f"{name}_processor_seconds"] = phase.processor_seconds
        row[f"{name}_peak_mb"] = max(phase.peaks.values()) / 1e6
        row[f"{name}_share_in_tasks"], row[f"{name}_balance"] = phase.share_in_tasks, phase.balance
    return {name: round(row[name], 3) if kind is float else row[name] for name, kind in COLUMNS.items()}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV file of `write_rows`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: kind(row[name]) for name, kind in COLUMNS.items()} for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown table of rows, and below it the growth of time with size and the gain by a second process."""
    yield (
        "| way | scene, VV and VH | bits per pixel | plan s | encode s | decode s | encode Mpx/s | decode Mpx/s "
        "| processor ns a value, encode | decode | tasks a source chunk | peak MB, plan | encode | decode "
        "| share of time in tasks, encode | decode | load |"
    )
    yield "|---" * 17 + "|"
    for row in sorted(rows, key=lambda row: (list(WAYS).index(row["way"]), _samples(row))):
        samples = _samples(row)
        yield (
            f"| {WAYS[row['way']]} | {row['rows']} x {row['columns']} | {row['bits_per_pixel']:.3f} "
            f"| {row['plan_seconds']:.1f} | {row['encode_seconds']:.1f} | {row['decode_seconds']:.1f} "
            f"| {samples / row['encode_seconds'] / 1e6:.2f} | {samples / row['decode_seconds'] / 1e6:.2f} "
            f"| {row['encode_processor_seconds'] / samples * 1e9:.0f} | {row['decode_processor_seconds'] / samples * 1e9:.0f} "
            f"| {row['encode_tasks'] / row['chunks']:.2f} "
            f"| {row['plan_peak_mb']:.0f} | {row['encode_peak_mb']:.0f} | {row['decode_peak_mb']:.0f} "
            f"| {_percent(row['encode_share_in_tasks'])} | {_percent(row['decode_share_in_tasks'])} "
            f"| {row['load_before']:.1f} - {row['load_after']:.1f} |"
        )
    yield ""
    for way, name in WAYS.items():
        of_way = [row for row in rows if row["way"] == way]
        if len({_samples(row) for row in of_way}) > 1:
            yield f"* {name}: " + "; ".join(_growth(of_way, phase) for phase in ("encode", "decode")) + "."
    yield from _second_process(rows)


def _growth(rows: Sequence[dict[str, Any]], phase: str) -> str:
    """Clause on the lines through time and processor time over size."""
    samples = [_samples(row) for row in rows]
    fits = (linear_fit(samples, [row[f"{phase}_{kind}"] for row in rows]) for kind in ("seconds", "processor_seconds"))
    (time, _, time_deviation), (processor, _, processor_deviation) = fits
    return (
        f"{phase} {time:.3f} s a million values, off by {time_deviation:.0%} at most; processor time "
        f"{processor:.3f} s, off by {processor_deviation:.0%}"
    )


def _percent(share: float) -> str:
    """Cell of a share; a dash if it is NaN."""
    return "-" if math.isnan(share) else f"{share:.0%}"


def _second_process(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines on the speed of two processes against one, where both were measured: as it is, and as if they never waited."""
    for kind in ("cluster", "untuned"):
        one, two = ({(row["rows"], row["columns"]): row for row in rows if row["way"] == f"{kind}-{n}"} for n in (1, 2))
        for shape in sorted(one.keys() & two.keys()):
            yield f"* {WAYS[f'{kind}-2']} against one, {shape[0]} x {shape[1]}: {_comparison(one[shape], two[shape])}."


def _comparison(one: dict[str, Any], two: dict[str, Any]) -> str:
    """Clause on one process against two, from their rows."""
    ratios = [
        one[f"{phase}_{kind}"] / two[f"{phase}_{kind}"]
        for kind in ("seconds", "processor_seconds")
        for phase in ("encode", "decode")
    ]
    text = (
        f"{ratios[0]:.2f} times as fast to encode, {ratios[1]:.2f} to decode; processor time of one over that of two "
        f"{ratios[2]:.2f} and {ratios[3]:.2f}"
    )
    if math.isnan(two["encode_balance"]):
        return text
    return (
        f"{text}; all tasks of two over those of the busier {two['encode_balance']:.2f} and {two['decode_balance']:.2f}"
    )


def _samples(row: dict[str, Any]) -> int:
    """Number of values of both polarizations."""
    return 2 * row["rows"] * row["columns"]


def linear_fit(samples: Sequence[int], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Fit a line through times over sizes.

    Parameters
    ----------
    samples : sequence of int
        Numbers of values, at least two different ones.
    seconds : sequence of float
        Time of each.

    Returns
    -------
    slope, intercept, deviation : float
        Seconds for a million values; seconds; largest distance of a point from the line, as a share of the point. Distances
        are weighted as such shares, so that the largest scene does not decide everything.
    """
    millions, times = np.array(samples) / 1e6, np.array(seconds)
    slope, intercept = np.polyfit(millions, times, 1, w=1 / times)
    return float(slope), float(intercept), float(np.abs((slope * millions + intercept) / times - 1).max())


@click.command()
@click.option("--scene", "sizes", multiple=True, required=True, help="Rows and columns, as 25000x16000; several.")
@click.option("--way", "ways", multiple=True, help=f"{', '.join(WAYS)}; several. Default: all.")
@click.option("--model", help="Name or id of an installed model; the default model if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(sizes: tuple[str, ...], ways: tuple[str, ...], model: str | None, output: Path | None) -> None:
    """Measure time, memory and tasks of scenes of growing size.

    The scenes consist of the real chips in XSARCOMP_DATA, or of simulated ones where it is not set.
    """
    for line in run_scaling(sizes, ways, chips=chip_files(), model=model, output=output):
        click.echo(line)


if __name__ == "__main__":
    main()
