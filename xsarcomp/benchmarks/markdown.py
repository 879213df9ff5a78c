"""Results of a benchmark as Markdown tables, a CSV file and a plot."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xsarcomp.benchmarks.bootstrap import CONFIDENCE_PERCENT, RESAMPLES, bd_rate_intervals
from xsarcomp.benchmarks.gaussian_bound import GAUSSIAN_BOUND
from xsarcomp.benchmarks.measurement import Sweep, pooled_curve
from xsarcomp.errors import MissingDependencyError, RateError
from xsarcomp.metrics.rate_distortion import (
    HIGHEST_RATE,
    LOWEST_RATE,
    TABLE_RATES,
    RateDistortionCurve,
    RatePoint,
    metric_at_rate,
    rmse_at_rates,
)
from xsarcomp.whole_files import whole_file, write_atomically

REFERENCES = ("VVC", "AV1", "JPEG XL", "JPEG 2000")
"""Codecs that the others are compared with, where they were measured."""
QUALITY_RATE = 1.0
"""Bits per pixel at which speckle, edges and bias are tabulated."""
SCENE_RATES = (LOWEST_RATE, *TABLE_RATES)
"""Bits per pixel at which every metric of the first codec is listed scene by scene."""
QUALITIES = {"enl_ratio": "ENL ratio", "edge_preservation": "edges", "bias_db": "bias dB"}
"""Metrics beside the error, fields of `RatePoint`, and their titles."""

_ENOUGH_ERRORS = 0.95
"""Share of the reference's errors that both curves must reach for a BD-rate without an asterisk."""
_FORMATS = {"enl_ratio": "{:.3f}", "edge_preservation": "{:.3f}", "bias_db": "{:+.3f}"}


class Speed(NamedTuple):
    """Speed of a codec, million pixels per second."""

    encode: float = math.nan
    decode: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """Measurements of a benchmark."""

    scenes: Sequence[str]
    """Names, in the order of the measurements."""
    sweeps: Mapping[str, Sweep]
    """Measurements of each codec."""
    speeds: Mapping[str, Speed]
    """Speed of each codec; the Gaussian bound has none."""
    notes: Sequence[str] = ()
    """Remarks below the table, such as codecs that this machine lacks."""

    @property
    def references(self) -> list[str]:
        """Codecs that the others are compared with."""
        return [name for name in REFERENCES if name in self.sweeps]

    def curves(self, scenes: Sequence[int] | None = None) -> dict[str, list[RatePoint]]:
        """Curve of each codec over some scenes, given by number; over all by default."""
        numbers = range(len(self.scenes)) if scenes is None else scenes
        return {name: pooled_curve(sweep, numbers) for name, sweep in self.sweeps.items()}


def result_lines(result: BenchmarkResult) -> Iterator[str]:
    """Yield the tables: all scenes together, BD-rates scene by scene, every metric of the first codec.

    Parameters
    ----------
    result : BenchmarkResult

    Yields
    ------
    str
        Lines of Markdown.
    """
    yield from _summary(result)
    yield ""
    yield (
        f"RMSE in dB at {', '.join(f'{rate:g}' for rate in TABLE_RATES)} bits per pixel and polarization. Rate at equal error, mean "
        f"over the errors that the reference has from {LOWEST_RATE:g} to {HIGHEST_RATE:g} bits per pixel (BD-rate), with "
        f"the {CONFIDENCE_PERCENT:g} % interval of {RESAMPLES} bootstrap resamples of the {len(result.scenes)} scenes; "
        f"* less than {100 * _ENOUGH_ERRORS:g} % of those errors are reached by both. ENL ratio, edge preservation (Pearson) and "
        f"bias of the mean power at {QUALITY_RATE:g} bit per pixel. Speeds: one plane after the other in this run, mean "
        "over the settings, threads as each library chooses; HEVC and AV1 with the start of the program. Invalid pixels are "
        "filled with the median for every codec and count for nothing; no codec stores their mask."
    )
    yield from result.notes
    for reference in result.references if len(result.scenes) > 1 else ():
        yield ""
        yield from _by_scene(result, reference)
    yield ""
    yield from _qualities_by_scene(result, next(iter(result.sweeps)))


def write_result(result: BenchmarkResult, lines: Iterable[str], folder: Path) -> Iterator[str]:
    """Write ``rate_distortion.md``, ``.csv`` and ``.png``.

    Parameters
    ----------
    result : BenchmarkResult
    lines : iterable of str
        Lines of `result_lines`.
    folder : Path
        Created if it does not exist.

    Yields
    ------
    str
        A message for each file: its path, or the reason why there is none.
    """
    yield write_page(folder / "rate_distortion.md", lines)
    _write_csv(folder / "rate_distortion.csv", result)
    yield f"wrote {folder / 'rate_distortion.csv'}"
    yield _draw(folder / "rate_distortion.png", result)


def write_page(path: Path, lines: Iterable[str]) -> str:
    """Write lines of Markdown to a file, whose folder is created if it does not exist; return a message for the user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(lines) + "\n")
    return f"wrote {path}"


def _summary(result: BenchmarkResult) -> Iterator[str]:
    """Table with a row for each codec, all scenes together."""
    references, curves = result.references, result.curves()
    intervals = bd_rate_intervals(result.sweeps, references)
    yield _row(
        "codec",
        *(f"{rate:g}" for rate in TABLE_RATES),
        *(f"rate vs {name}" for name in references),
        *QUALITIES.values(),
        "encode Mpx/s",
        "decode Mpx/s",
    )
    yield "|---" * (len(TABLE_RATES) + len(references) + len(QUALITIES) + 3) + "|"
    for name, points in curves.items():
        yield _row(
            name,
            *(_number("{:.3f}", error) for error in _errors(points)),
            *(_gain(curves, name, other, intervals.get((name, other))) for other in references),
            *(_number(_FORMATS[key], metric_at_rate(points, key, QUALITY_RATE)) for key in QUALITIES),
            *(_number("{:.2f}", speed) for speed in result.speeds.get(name, Speed())),
        )


def _by_scene(result: BenchmarkResult, reference: str) -> Iterator[str]:
    """Table of BD-rates against a reference with a row for each scene."""
    others = [name for name in result.sweeps if name != reference]
    yield _row(f"scene, rate vs {reference}", *others)
    yield "|---" * (len(others) + 1) + "|"
    for number, scene in enumerate(result.scenes):
        curves = result.curves([number])
        yield _row(scene, *(_gain(curves, name, reference) for name in others))


def _qualities_by_scene(result: BenchmarkResult, name: str) -> Iterator[str]:
    """Table of every metric of one codec, scene by scene and rate by rate."""
    yield _row(f"{name}, scene", "bits per pixel", "RMSE dB", *QUALITIES.values())
    yield "|---" * (len(QUALITIES) + 3) + "|"
    for number, scene in enumerate(result.scenes):
        points = result.curves([number])[name]
        for rate, error in zip(SCENE_RATES, _errors(points, SCENE_RATES), strict=True):
            qualities = (_number(_FORMATS[key], metric_at_rate(points, key, rate)) for key in QUALITIES)
            yield _row(scene, f"{rate:g}", _number("{:.3f}", error), *qualities)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(form: str, value: float) -> str:
    if abs(value) >= 1000:  # the number of looks of an area that has become constant
        return f"{value:.0e}"
    return "-" if math.isnan(value) else form.format(value)


def _errors(points: Sequence[RatePoint], rates: Sequence[float] = TABLE_RATES) -> Sequence[float]:
    """RMSE in dB at rates; NaN where the codec has none."""
    try:
        return rmse_at_rates(points, rates).tolist()
    except RateError:  # fewer than two points with falling error
        return [math.nan] * len(rates)


def _gain(
    curves: Mapping[str, Sequence[RatePoint]],
    name: str,
    reference: str,
    interval: tuple[float, float] | None = None,
) -> str:
    """Cell of the BD-rate of a codec against a reference."""
    if name == reference:
        return "0"
    try:
        percent, share = RateDistortionCurve(curves[name]).bd_rate(
            RateDistortionCurve(curves[reference]), (LOWEST_RATE, HIGHEST_RATE)
        )
    except RateError:  # no common error
        return "-"
    text = f"{percent:+.1f} %" + ("*" if share < _ENOUGH_ERRORS else "")
    if interval is None or math.isnan(interval[0]):
        return text
    return f"{text} ({interval[0]:+.1f} to {interval[1]:+.1f})"


def _write_csv(path: Path, result: BenchmarkResult) -> None:
    """Write one row for each scene, codec and setting, and for all scenes together ("all")."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scene", "codec", "setting", "bits_per_pixel", "rmse_db", *QUALITIES])
        groups = {"all": None} | {name: [number] for number, name in enumerate(result.scenes)}
        for scene, numbers in groups.items():
            for codec, points in result.curves(numbers).items():
                for point in points:
                    values = (getattr(point, name) for name in ("bits_per_pixel", "rmse_db", *QUALITIES))
                    cells = ("" if math.isnan(value) else f"{value:.5f}" for value in values)
                    writer.writerow([scene, codec, f"{point.setting:.5g}", *cells])


def _draw(path: Path, result: BenchmarkResult) -> str:
    """Draw the curves of all codecs over all scenes; return a message for the user."""
    from xsarcomp.benchmarks.pictures import rate_distortion_figure

    curves = result.curves()
    bounds = {name: curves.pop(name) for name in (GAUSSIAN_BOUND,) if name in curves}
    try:
        figure = rate_distortion_figure(curves, bounds, reference=next(iter(result.references), None))
    except (MissingDependencyError, RateError) as error:
        return f"no plot: {error}"
    with whole_file(path) as temporary:
        figure.savefig(temporary)
    return f"wrote {path}"
