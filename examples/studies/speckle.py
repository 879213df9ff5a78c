"""Decoding with synthetic speckle against plain decoding: looks by band and rate, other metrics by rate, and the time it takes.

::

    python examples/studies/speckle.py SCENES --output docs/benchmarks/test

writes ``speckle.md``; ``docs/benchmarks/speckle_restoration.md`` holds the tables of both splits with comments. SCENES are
files of one split; the word ``simulated`` stands for a simulated scene. Everything goes through the interface that users
call.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import xarray as xr

from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.codec.installed_models import installed_models
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.scenes.variables import has_spatial_dimensions, plane_polarizations
from xsarcomp.stores import files

RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bits per pixel that are asked for."""
METRICS = (
    ("ENL ratio", "enl_ratio", "{:.3f}"), ("KS", "ks_distance", "{:.3f}"),
    ("semivariogram 1", "semivariogram_ratio_1", "{:.3f}"), ("semivariogram 8", "semivariogram_ratio_8", "{:.3f}"),
    ("edges", "edge_preservation", "{:.3f}"), ("RMSE dB", "rmse_db", "{:.3f}"), ("bias dB", "bias_db", "{:+.3f}"),
)  # fmt: skip
"""Title of a column, key of the metric in :mod:`xsarcomp.evaluation.glossary`, and its format."""
SIMULATED = "simulated"
"""Stands for a simulated scene among the paths."""
_TIMED_EDGE, _TURNS = 1536, 3

Sums = tuple[ErrorSums, TextureSums]


def run_speckle(paths: Sequence[str], models: Sequence[str] = (), output: Path | None = None) -> Iterator[str]:
    """Measure models, and yield lines of Markdown; with ``output`` also write them to ``speckle.md`` there.

    Parameters
    ----------
    paths : sequence of str
        Anything that :func:`xsarcomp.stores.files.open_scene` opens, or ``SIMULATED``.
    models : sequence of str
        Names or ids; all installed models if empty.
    output : Path, optional
        Folder; created if it does not exist.

    Yields
    ------
    str
    """
    lines = []
    for model in models or sorted(installed_models()):
        lines += [f"### {model}", ""]
        yield from lines[-2:]
        for line in speckle_tables(paths, model=model):
            lines.append(line)
            yield line
        ratio = decoding_time_ratio(model=model)
        lines += ["", f"Decoding takes {ratio:.2f} times the processor time with restoration.", ""]
        yield from lines[-3:]
    if output is not None:
        yield write_page(output / "speckle.md", lines[:-1])


def speckle_tables(
    paths: Sequence[str], *, model: str | None = None, rates: Sequence[float] = RATES, restore: str = "speckle"
) -> Iterator[str]:
    """Encode each band of scenes alone at rates, decode it without and with restoration, and compare both with the original.

    Parameters
    ----------
    paths : sequence of str
        As for `run_speckle`.
    model : str, optional
        Name or id; the default model if None.
    rates : sequence of float
        Bits per pixel.
    restore : str
        Argument of ``decode``.

    Yields
    ------
    str
        Lines of two Markdown tables, values as "without -> with": the ENL ratio of each band and its extremes, then all metrics
        of all bands together.
    """
    modes = (None, restore)
    totals: dict[tuple[float, str | None], Sums] = {}
    looks: dict[tuple[float, str | None], list[float]] = {(rate, mode): [] for rate in rates for mode in modes}
    yield "| ENL ratio | " + " | ".join(f"{rate:g} bit" for rate in rates) + " |"
    yield "|---|" + "---|" * len(rates)
    for name, band in (each for path in paths for each in _bands(path)):
        cells = []
        for rate in rates:
            encoded = band.sarcomp.encode(bits_per_pixel=rate, model=model)
            for mode in modes:
                errors, texture = _error_sums(band, encoded.sarcomp.decode(restore=mode))
                looks[rate, mode].append(errors.metrics()["enl_ratio"])
                all_errors, all_texture = totals.get((rate, mode), (ErrorSums(), TextureSums()))
                totals[rate, mode] = all_errors + errors, all_texture + texture
            cells.append(_arrow("{:.3f}", *(looks[rate, mode][-1] for mode in modes)))
        yield f"| {name} | " + " | ".join(cells) + " |"
    for name, extreme in (("lowest", min), ("highest", max)):
        cells = [_arrow("{:.3f}", *(extreme(looks[rate, mode]) for mode in modes)) for rate in rates]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    yield "| all bands | " + " | ".join(title for title, _, _ in METRICS) + " |"
    yield "|---|" + "---|" * len(METRICS)
    for rate in rates:
        yield _row(f"{rate:g} bit", totals[rate, None], totals[rate, restore])


def decoding_time_ratio(*, model: str | None = None, rate: float = 1.0, restore: str = "speckle") -> float:
    """Processor time of decoding with restoration over that without, on latents in memory; the least of three turns each."""
    scene = simulated_dataset((_TIMED_EDGE, _TIMED_EDGE), seed=1)
    encoded = scene.sarcomp.encode(bits_per_pixel=rate, model=model)
    seconds: dict[str | None, float] = {}
    for mode in (None, restore) * (_TURNS + 1):  # one turn more: the first compiles
        start = time.process_time()
        encoded.sarcomp.decode(restore=mode)
        seconds[mode] = min(seconds.get(mode, float("inf")), time.process_time() - start)
    return seconds[restore] / seconds[None]


def _bands(path: str) -> Iterator[tuple[str, xr.Dataset]]:
    """Name each band of a scene, and give it as a dataset of its own."""
    scene = simulated_dataset((512, 512), seed=5) if path == SIMULATED else files.open_scene(path).load()
    for name, array in scene.data_vars.items():
        if not has_spatial_dimensions(array):
            continue
        planes = [array.isel(band=number, drop=True) for number in range(array.sizes.get("band", 0))] or [array]
        for number, (plane, polarization) in enumerate(zip(planes, plane_polarizations(array), strict=True), 1):
            label = polarization or (f"band {number}" if len(planes) > 1 else str(name))
            yield f"{Path(path).stem} {label}", plane.rename("sigma0").to_dataset()


def _error_sums(original: xr.Dataset, decoded: xr.Dataset) -> Sums:
    errors, texture = ErrorSums(), TextureSums()
    for piece in scene_pieces(original, decoded, scale=None):
        errors, texture = errors + ErrorSums.from_pair(piece), texture + TextureSums.from_pair(piece)
    return errors, texture


def _row(name: str, plain: Sums, restored: Sums) -> str:
    before, after = (errors.metrics() | texture.metrics() for errors, texture in (plain, restored))
    return f"| {name} | " + " | ".join(_arrow(form, before[key], after[key]) for _, key, form in METRICS) + " |"


def _arrow(form: str, before: float, after: float) -> str:
    return f"{form.format(before)} -> {form.format(after)}"


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option("--model", "models", multiple=True, help="Name or id; several are compared. Default: all installed.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(scenes: tuple[str, ...], models: tuple[str, ...], output: Path | None) -> None:
    """Measure synthetic speckle on SCENES, files of one split, or the word simulated."""
    for line in run_speckle(scenes, models, output):
        click.echo(line)


if __name__ == "__main__":
    main()
