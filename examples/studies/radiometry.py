"""Bias of the mean power of real scenes through both kinds of store, and the time that keeping it takes.

::

    python examples/studies/radiometry.py SCENES --output docs/benchmarks/validation

writes ``radiometry.md``: for each file and polarization the bias of the scene at each rate, and the largest of any tile of
64 x 64 pixels, as stores come by default and with ``keep_means=False``.
"""

import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.codec.tile_means import TILE
from xsarcomp.errors import SarcompError
from xsarcomp.scenes.variables import spatial_dimensions
from xsarcomp.stores import files

RATES = (0.25, 1.0)
"""Bits per pixel."""
GOAL_DB = 0.02
"""Largest bias of a scene and of a tile."""
TIMED_PIXELS = 2048
"""Edge of the scene on which encoding is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """Bias of one variable at one rate through one kind of store."""

    scene: str
    variable: str
    rate: float
    store: str
    """"latents", "transparent" or "latents, keep_means=False"."""
    scene_db: float
    """Mean power decoded over mean power, dB; the largest of all planes of a stack."""
    tile_db: float
    """The largest of any tile, dB."""


def _power(array: xr.DataArray) -> NDArray[np.float64]:
    """Power of shape (plane, y, x); NaN where pixels are invalid."""
    values = array.transpose(..., *spatial_dimensions(array)).values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        is_decibel = np.nanmedian(values) < 0
        values = 10 ** (values / 10) if is_decibel else values
    return np.where(values > 0, values, np.nan).reshape(-1, *values.shape[-2:])


def _sums(power: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    """Sums over tiles."""
    rows, columns = (np.arange(0, size, edge) for size in power.shape[1:])
    return np.add.reduceat(np.add.reduceat(power, rows, axis=1), columns, axis=2)


def _largest_db(original: NDArray[np.float64], decoded: NDArray[np.float64], edge: int) -> float:
    """Largest bias of any tile, with its sign, dB."""
    valid = np.isfinite(original) & np.isfinite(decoded)
    sums = [_sums(np.where(valid, power, 0.0), edge) for power in (decoded, original)]
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = 10 * np.log10(sums[0] / sums[1])
    bias = bias[np.isfinite(bias)]
    return float(bias[np.argmax(np.abs(bias))]) if bias.size else 0.0


def _stores(scene: xr.Dataset, rate: float) -> Iterator[tuple[str, xr.Dataset]]:
    """Scene decoded from each kind of store."""
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("latents", {}), ("latents, keep_means=False", {"keep_means": False})):
            path = Path(folder) / f"{len(name)}.zarr"
            scene.sarcomp.encode(bits_per_pixel=rate, **options).sarcomp.to_zarr(path)
            yield name, xr.open_zarr(path).sarcomp.decode().load()
        path = Path(folder) / "transparent.zarr"
        scene.sarcomp.to_zarr(path, encoding=scene.sarcomp.encoding(bits_per_pixel=rate))
        yield "transparent", xr.open_zarr(path).load()


def measure(path: str) -> Iterator[Bias]:
    """Biases of a file.

    Parameters
    ----------
    path : str
        File with backscatter.

    Yields
    ------
    Bias
    """
    scene = files.open_scene(path).load()
    for rate in RATES:
        for store, decoded in _stores(scene, rate):
            names = [name for name in decoded.data_vars if decoded[name].dtype.kind == "f" and name in scene]
            for name in names:
                if decoded[name].identical(scene[name]):
                    continue
                powers = _power(scene[name]), _power(decoded[name])
                edge = max(powers[0].shape[1:])
                yield Bias(
                    scene=Path(path).name,
                    variable=str(name),
                    rate=rate,
                    store=store,
                    scene_db=_largest_db(*powers, edge),
                    tile_db=_largest_db(*powers, TILE),
                )


def time_encoding(rate: float, repeats: int = 3) -> tuple[float, float]:
    """Seconds to encode and write a simulated scene without kept means, and with; the least of some repetitions, in turn."""
    from xsarcomp.scenes.simulation import simulated_dataset

    scene = simulated_dataset((TIMED_PIXELS, TIMED_PIXELS), seed=1)[["vv"]].chunk(y=1024, x=1024)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            for keep_means, times in seconds.items():
                encoded = scene.sarcomp.encode(bits_per_pixel=rate, keep_means=keep_means)
                began = time.perf_counter()
                encoded.sarcomp.to_zarr(Path(folder) / "s.zarr", mode="w")
                times.append(time.perf_counter() - began)
    return min(seconds[False]), min(seconds[True])


def _lines(biases: list[Bias], skipped: list[str], seconds: dict[float, tuple[float, float]]) -> Iterator[str]:
    """Lines of the page."""
    kinds = list(dict.fromkeys(bias.store for bias in biases))
    yield "# Mean power of real scenes"
    yield ""
    yield (
        f"Bias of the mean power in dB: of the whole scene (of a stack, the worst date) / of the worst tile of {TILE} x {TILE} pixels. "
        f"The goal is {GOAL_DB} dB."
    )
    yield ""
    yield f"| scene | variable | bits per pixel | {' | '.join(kinds)} |"
    yield f"|---|---|---|{'---|' * len(kinds)}"
    rows = dict.fromkeys((bias.scene, bias.variable, bias.rate) for bias in biases)
    found = {(bias.scene, bias.variable, bias.rate, bias.store): bias for bias in biases}
    for row in rows:
        cells = (found.get((*row, kind)) for kind in kinds)
        texts = ("" if cell is None else f"{cell.scene_db:+.3f} / {cell.tile_db:+.3f}" for cell in cells)
        yield f"| {row[0]} | {row[1]} | {row[2]:g} | {' | '.join(texts)} |"
    yield ""
    for kind in kinds:
        of_kind = [bias for bias in biases if bias.store == kind]
        scene_db = max(abs(bias.scene_db) for bias in of_kind)
        tile_db = max(abs(bias.tile_db) for bias in of_kind)
        missed = sum(abs(bias.scene_db) > GOAL_DB for bias in of_kind)
        yield f"* {kind}: largest {scene_db:.3f} dB of a scene, {tile_db:.3f} of a tile; {missed} of {len(of_kind)} miss the goal."
    yield ""
    yield f"Encoding and writing of {TIMED_PIXELS} x {TIMED_PIXELS} pixels, with kept means over without, in turn on the same machine:"
    yield ""
    for rate, (without, with_means) in seconds.items():
        yield f"* {rate:g} bits per pixel: {with_means / without:.2f} ({with_means:.2f} s and {without:.2f} s)."
    if skipped:
        yield ""
        yield f"Not measured: {'; '.join(skipped)}."


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the page.")
def main(scenes: tuple[str, ...], output: Path) -> None:
    """Measure the bias of the mean power of SCENES."""
    warnings.simplefilter("ignore")
    biases: list[Bias] = []
    skipped: list[str] = []
    for path in scenes:
        try:
            biases += measure(path)
        except SarcompError as error:
            skipped.append(f"{Path(path).name} ({str(error)[:120]})")
            continue
        click.echo(f"{path}: {max((abs(bias.tile_db) for bias in biases[-2:]), default=math.nan):.3f} dB")
    seconds = {rate: time_encoding(rate) for rate in RATES}
    click.echo(write_page(output / "radiometry.md", _lines(biases, skipped, seconds)))


if __name__ == "__main__":
    main()
