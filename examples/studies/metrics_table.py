"""Table of all metrics of ``compare`` by rate, for several variants of encoding and decoding.

::

    python examples/studies/metrics_table.py SCENES --output docs/benchmarks/test

writes ``metrics.md``. SCENES are files of one split. A *variant* is a function from a scene and a rate to the decoded
scene; `standard_variants` lists those of the page.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import xarray as xr

from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.benchmarks.planes import planes_dataset, read_scenes
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.evaluation import glossary
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums

RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bits per pixel and polarization."""

Variant = Callable[[xr.Dataset, float], xr.Dataset]
"""Function from a scene and bits per pixel to the decoded scene on the same grid."""


def decoded(scene: xr.Dataset, bits_per_pixel: float, *, model: str | None = None) -> xr.Dataset:
    """Encode and decode a scene without keeping the means of its tiles.

    Parameters
    ----------
    scene : xarray.Dataset
        Backscatter.
    bits_per_pixel : float
        Rate for each polarization.
    model : str, optional
        Name or id; the default model if None.

    Returns
    -------
    xarray.Dataset
        In memory.
    """
    encoded = scene.sarcomp.encode(bits_per_pixel=bits_per_pixel, keep_means=False, model=model)
    return encoded.sarcomp.decode().compute()


def with_speckle(scene: xr.Dataset, bits_per_pixel: float, *, model: str | None = None) -> xr.Dataset:
    """Encode a scene, decode it and add synthetic speckle; parameters and result are those of `decoded`."""
    return scene.sarcomp.encode(bits_per_pixel=bits_per_pixel, model=model).sarcomp.decode(restore="speckle").compute()


def with_means(scene: xr.Dataset, bits_per_pixel: float, *, model: str | None = None) -> xr.Dataset:
    """Encode and decode a scene as users do, with kept means; parameters and result are those of `decoded`."""
    encoded = scene.sarcomp.encode(bits_per_pixel=bits_per_pixel, model=model)
    return encoded.sarcomp.decode().compute()


def without_power_correction(scene: xr.Dataset, bits_per_pixel: float, *, model: str | None = None) -> xr.Dataset:
    """Encode and decode a scene without the correction that keeps the mean power: nearest in dB, too low in power.

    Parameters and result are those of `decoded`; the scene is in decibels.
    """
    encoded = scene.sarcomp.encode(bits_per_pixel=bits_per_pixel, keep_means=False, model=model, scale="decibel")
    step_db = next(iter(encoded.sarcomp.info().values()))["step_db"]  # all variables have the same
    return encoded.sarcomp.decode().compute() - load_coder(model).mean_correction_db(step_db)


def standard_variants(model: str | None = None) -> dict[str, Variant]:
    """Variants of the page, by the title of their section.

    Parameters
    ----------
    model : str, optional
        Name or id; the default model if None.

    Returns
    -------
    dict of str to function
    """
    return {
        "decoded": functools.partial(decoded, model=model),
        "speckle restored": functools.partial(with_speckle, model=model),
        "means of tiles kept": functools.partial(with_means, model=model),
        "without the correction of the mean power": functools.partial(without_power_correction, model=model),
    }


def run_metrics(
    paths: Sequence[str],
    model: str | None = None,
    output: Path | None = None,
    *,
    variants: Mapping[str, Variant] | None = None,
    rates: Sequence[float] = RATES,
) -> Iterator[str]:
    """Measure, and yield lines of progress and of Markdown; with ``output`` also write ``metrics.md`` there.

    Parameters
    ----------
    paths : sequence of str
        Scenes of one split; they are measured in decibels and pooled as `compare` pools planes.
    model : str, optional
        Name or id; the default model if None.
    output : Path, optional
        Folder; created if it does not exist.
    variants : mapping of str to function, optional
        Variants by title; `standard_variants` if None.
    rates : sequence of float
        Bits per pixel and polarization.

    Yields
    ------
    str

    Raises
    ------
    RateError
        If no scene has a valid pixel.
    """
    scenes = read_scenes(paths)
    datasets = [planes_dataset(scene.planes) for scene in scenes]
    chosen = standard_variants(model) if variants is None else variants
    lines = [
        f"Model {load_coder(model).card.name}; {len(scenes)} scenes ({', '.join(scene.name for scene in scenes)}), pooled. "
        "Columns are the bits per pixel and polarization that were asked for; the metrics are those of `compare` "
        "(`docs/evaluation.md` says what they mean, and gives the goals, which are meant for about 1 bit per pixel).",
    ]
    for name, variant in chosen.items():
        columns = []
        for rate in rates:
            columns.append(pooled_metrics(datasets, variant, rate))
            yield f"{name}, {rate:g} bits per pixel: done"
        lines += ["", f"## {name[0].upper()}{name[1:]}", "", *_table(columns, rates)]
    yield from lines
    if output is not None:
        yield write_page(output / "metrics.md", lines)


def pooled_metrics(
    scenes: Sequence[xr.Dataset], variant: Variant, bits_per_pixel: float, *, scale: str = "decibel"
) -> dict[str, Any]:
    """Metrics of several scenes together.

    Parameters
    ----------
    scenes : sequence of xarray.Dataset
        Backscatter.
    variant : function
        From a scene and a rate to the decoded scene on the same grid.
    bits_per_pixel : float
        Rate for each polarization.
    scale : {"power", "amplitude", "decibel"}
        Scale of the scenes.

    Returns
    -------
    dict of str to float or int
        Metrics of `xsarcomp.evaluation.compare.compare`, without ``scale`` and those of maps: the planes of a benchmark have
        neither names nor dates.
    """
    errors, texture = ErrorSums(), TextureSums()
    for scene in scenes:
        for piece in scene_pieces(scene, variant(scene, bits_per_pixel), scale=scale):
            errors, texture = errors + ErrorSums.from_pair(piece), texture + TextureSums.from_pair(piece)
    return errors.metrics() | texture.metrics()


def _table(columns: Sequence[Mapping[str, Any]], rates: Sequence[float]) -> Iterator[str]:
    """Table with a row for each metric and a column for each rate."""
    yield f"| metric | {' | '.join(f'{rate:g}' for rate in rates)} | goal |"
    yield "|---" * (len(rates) + 2) + "|"
    for key in columns[0]:
        metric = glossary.METRICS.get(key)
        title = f"`{key}`" + (f", {metric.unit}" if metric and metric.unit else "")
        values = " | ".join(_text(column[key]) for column in columns)
        yield f"| {title} | {values} | {metric.goal if metric else ''} |"


def _text(value: float) -> str:
    """Cell of a value: integers as they are, four digits of others."""
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option("--model", help="Name or id of an installed model; the default model if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(scenes: tuple[str, ...], model: str | None, output: Path | None) -> None:
    """List every metric of compare by rate on SCENES, files of one split."""
    for line in run_metrics(scenes, model, output):
        click.echo(line)


if __name__ == "__main__":
    main()
