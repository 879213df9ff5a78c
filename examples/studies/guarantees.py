"""Cost of guarantees: error bounds beside the codecs that have one too, and kept means of tiles.

::

    python examples/studies/guarantees.py SCENES --output docs/benchmarks/test

writes ``guarantees.md``. SCENES are files of one split.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from xsarcomp.benchmarks.classical import Lerc, Sz3, decoded_plane, encodable_plane, import_imagecodecs
from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.benchmarks.planes import fill_with_median, read_scenes
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.rate_control import FIRST_STEP_DB, Sample, find_step
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.target import Target
from xsarcomp.codec.tile_means import TILE

BOUNDS_DB = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Largest errors that are asked for, dB."""
RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bits per pixel that are asked for."""
HEADER_BITS = 8 * 96
"""Bits of the header of a frame, which the search for the step adds to those of the symbols."""

RoundTrip = Callable[[NDArray[np.float32], float], tuple[bytes, NDArray[np.float32]]]
"""Codec as a function: a plane in dB, NaN where invalid, and a setting to the stream and the decoded plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledErrors:
    """Rate and errors of all planes together."""

    bits_per_pixel: float
    rmse_db: float
    """Over valid pixels."""
    largest_error_db: float
    tile_error_db: float
    """Root mean square over tiles of 64 x 64 of the error of their mean power, dB."""
    largest_tile_error_db: float


def tile_errors_db(original_db: NDArray[np.float32], decoded_db: NDArray[np.float32]) -> NDArray[np.float64]:
    """Errors of the mean power of the valid pixels of each tile.

    Parameters
    ----------
    original_db, decoded_db : ndarray of float32, shape (y, x)
        Backscatter in dB; pixels that are NaN in the original do not count.

    Returns
    -------
    ndarray of float64, shape (tile,)
        Decoded over original, dB, of tiles with a valid pixel.
    """
    valid = np.isfinite(original_db)
    sums = []
    for plane in (original_db, decoded_db):
        power = np.where(valid, 10 ** (np.asarray(plane, np.float64) / 10), 0.0)
        rows, columns = (np.arange(0, size, TILE) for size in power.shape)
        sums.append(np.add.reduceat(np.add.reduceat(power, rows, axis=0), columns, axis=1))
    original, decoded = sums
    with_pixels = original > 0
    return 10 * np.log10(decoded[with_pixels] / original[with_pixels])


def pooled_errors(planes: Sequence[NDArray[np.float32]], round_trip: RoundTrip, setting: float) -> PooledErrors:
    """Send planes in dB, NaN where invalid, through a codec and pool their errors."""
    bits = pixels = valid = 0
    squared = largest = 0.0
    tiles = []
    for plane in planes:
        stream, decoded = round_trip(plane, setting)
        errors = (np.asarray(decoded, np.float64) - plane)[np.isfinite(plane)]
        bits, pixels, valid = bits + 8 * len(stream), pixels + plane.size, valid + errors.size
        squared, largest = squared + float((errors**2).sum()), max(largest, float(np.abs(errors).max()))
        tiles.append(tile_errors_db(plane, decoded))
    tile_errors = np.concatenate(tiles)
    return PooledErrors(
        bits_per_pixel=bits / pixels,
        rmse_db=float(np.sqrt(squared / valid)),
        largest_error_db=largest,
        tile_error_db=float(np.sqrt((tile_errors**2).mean())),
        largest_tile_error_db=float(np.abs(tile_errors).max()),
    )


def model_with_bound(coder: LappedCoder) -> RoundTrip:
    """Model of this package; the setting is the largest error of a pixel, dB."""
    return lambda plane, bound_db: _encode_and_decode(plane, Target.from_arguments(max_error_db=bound_db), coder)


def model_at_rate(coder: LappedCoder, *, keep_means: bool) -> RoundTrip:
    """Model of this package, with or without kept means of tiles; the setting is the rate in bits per pixel."""
    return lambda plane, rate: _encode_and_decode(
        plane, Target.from_arguments(bits_per_pixel=rate, keep_means=keep_means), coder
    )


def _encode_and_decode(
    plane: NDArray[np.float32], target: Target, coder: LappedCoder
) -> tuple[bytes, NDArray[np.float32]]:
    guarantees = target.guarantees(plane.dtype, None, "decibel")
    settings = Settings(step_db=FIRST_STEP_DB, scale="decibel", guarantees=guarantees)
    sample = Sample(backscatter=plane[None], settings=settings)
    step_db = find_step([sample], target, coder, HEADER_BITS / plane.size).step_db
    stream = encode_backscatter(plane, replace(settings, step_db=step_db), coder)
    return stream, decode_backscatter(stream, None, coder)


def _classical(
    encode: Callable[[NDArray[np.float32], float], bytes],
    decode: Callable[[bytes, tuple[int, int]], NDArray[np.float32]],
) -> RoundTrip:
    """Codec that has no nodata: invalid pixels are filled with the median, as in the benchmark."""

    def round_trip(plane: NDArray[np.float32], bound_db: float) -> tuple[bytes, NDArray[np.float32]]:
        stream = encode(fill_with_median(plane), bound_db)
        return stream, decoded_plane(decode(stream, plane.shape), plane.shape)

    return round_trip


def bounded_codecs(coder: LappedCoder) -> dict[str, RoundTrip]:
    """Codecs whose setting is the largest error of a pixel in dB, by name."""
    library, sz3, lerc = import_imagecodecs(), Sz3(), Lerc()
    accuracy = int(library.ZFP.MODE.FIXED_ACCURACY)
    return {
        coder.card.name: model_with_bound(coder),
        "SPERR": _classical(
            lambda plane, bound: bytes(library.sperr_encode(encodable_plane(plane), level=bound, mode="pwe")),
            lambda stream, _: library.sperr_decode(stream),
        ),
        "SZ3": _classical(sz3.encode, sz3.decode),
        "LERC": _classical(lerc.encode, lerc.decode),
        "zfp": _classical(
            lambda plane, bound: bytes(library.zfp_encode(encodable_plane(plane), level=bound, mode=accuracy)),
            lambda stream, _: library.zfp_decode(stream),
        ),
    }


def run_guarantees(paths: Sequence[str], models: Sequence[str], output: Path | None) -> Iterator[str]:
    """Measure the cost of guarantees, and yield lines of Markdown; with ``output`` also write them to ``guarantees.md`` there.

    Parameters
    ----------
    paths : sequence of str
        Scenes of one split.
    models : sequence of str
        Names or ids; the default model if empty.
    output : Path or None
        Folder; created if it does not exist.

    Yields
    ------
    str

    Raises
    ------
    RateError
        If no scene has a valid pixel.
    """
    scenes = read_scenes(paths)
    planes = [plane for scene in scenes for plane in scene.planes]
    lines = [
        "# Cost of guarantees",
        "",
        f"Scenes: {', '.join(scene.name for scene in scenes)}. {len(planes)} planes.",
    ]
    yield from lines
    for model in models or (None,):
        coder = load_coder(model)
        for line in [*_bound_table(planes, coder), *_means_table(planes, coder)]:
            lines.append(line)
            yield line
    if output is not None:
        yield write_page(output / "guarantees.md", lines)


def _bound_table(planes: Sequence[NDArray[np.float32]], coder: LappedCoder) -> Iterator[str]:
    codecs = bounded_codecs(coder)
    yield ""
    yield "Bits per pixel (and RMSE in dB) with no valid pixel off by more than a bound. Each codec was asked only for the"
    yield "bound; a largest error above it is marked with its value."
    yield ""
    yield f"| bound, dB | {' | '.join(codecs)} |"
    yield f"|{'---|' * (len(codecs) + 1)}"
    for bound_db in BOUNDS_DB:
        cells = []
        for round_trip in codecs.values():
            errors = pooled_errors(planes, round_trip, bound_db)
            exceeded = errors.largest_error_db > bound_db * (1 + 1e-5)  # rounding of float32
            mark = f", **{errors.largest_error_db:.3g} dB**" if exceeded else ""
            cells.append(f"{errors.bits_per_pixel:.3f} ({errors.rmse_db:.3f}{mark})")
        yield f"| {bound_db:g} | {' | '.join(cells)} |"


def _means_table(planes: Sequence[NDArray[np.float32]], coder: LappedCoder) -> Iterator[str]:
    yield ""
    yield f"Error of the mean power of tiles of {TILE} x {TILE} pixels, root mean square and largest, dB."
    yield ""
    yield "| bits per pixel asked | plain: bits | RMSE | tiles | largest | `keep_means`: bits | RMSE | tiles | largest |"
    yield f"|{'---|' * 9}"
    for rate in RATES:
        cells = []
        for keep_means in (False, True):
            errors = pooled_errors(planes, model_at_rate(coder, keep_means=keep_means), rate)
            cells += [f"{errors.bits_per_pixel:.4f}", f"{errors.rmse_db:.4f}"]
            cells += [f"{errors.tile_error_db:.4f}", f"{errors.largest_tile_error_db:.4f}"]
        yield f"| {rate:g} | {' | '.join(cells)} |"


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option("--model", "models", multiple=True, help="Name or id; several are compared. Default: the default model.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(scenes: tuple[str, ...], models: tuple[str, ...], output: Path | None) -> None:
    """Measure the cost of guarantees on SCENES, files of one split."""
    for line in run_guarantees(scenes, models, output):
        click.echo(line)


if __name__ == "__main__":
    main()
