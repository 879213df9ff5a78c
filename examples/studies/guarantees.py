"""What guarantees cost: bounds on the error beside the codecs that have one too, and the means of tiles."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from xsarcomp.benchmarks.classical import Lerc, Sz3, checked_plane, fitted_plane, imagecodecs_module
from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.benchmarks.measurement import filled_with_median
from xsarcomp.benchmarks.table import measurable_scenes
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.rate_control import Sample, Target, find_step
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.tile_means import TILE

BOUNDS_DB = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
HEADER_BITS = 8 * 96
_Codec = Callable[[NDArray[np.float32], float], tuple[bytes, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Streams of all planes under one promise, pooled."""

    bits_per_pixel: float
    rmse_db: float
    """Over valid pixels."""
    largest_error_db: float
    tile_error_db: float
    """Root mean square over tiles of 64 x 64 of the error of their mean power, dB."""
    largest_tile_error_db: float


def tile_errors_db(original_db: NDArray, restored_db: NDArray) -> NDArray[np.float64]:
    """Errors of the mean power of the valid pixels of each tile, 1-d, dB; pixels that are NaN in the original do not count."""
    valid = np.isfinite(original_db)
    sums = []
    for plane in (original_db, restored_db):
        power = np.where(valid, 10 ** (np.asarray(plane, np.float64) / 10), 0.0)
        rows, columns = (np.arange(0, size, TILE) for size in power.shape)
        sums.append(np.add.reduceat(np.add.reduceat(power, rows, axis=0), columns, axis=1))
    filled = sums[0] > 0
    return 10 * np.log10(sums[1][filled] / sums[0][filled])


def pooled(planes: Sequence[NDArray[np.float32]], codec: _Codec, setting: float) -> Kept:
    """Streams of a codec on planes in dB, NaN where invalid."""
    bits = pixels = valid = 0
    squared = largest = 0.0
    tiles = []
    for plane in planes:
        content, restored = codec(plane, setting)
        errors = (np.asarray(restored, np.float64) - plane)[np.isfinite(plane)]
        bits, pixels, valid = bits + 8 * len(content), pixels + plane.size, valid + errors.size
        squared, largest = squared + float((errors**2).sum()), max(largest, float(np.abs(errors).max()))
        tiles.append(tile_errors_db(plane, restored))
    tile_errors = np.concatenate(tiles)
    return Kept(
        bits_per_pixel=bits / pixels,
        rmse_db=float(np.sqrt(squared / valid)),
        largest_error_db=largest,
        tile_error_db=float(np.sqrt((tile_errors**2).mean())),
        largest_tile_error_db=float(np.abs(tile_errors).max()),
    )


def own(coder: LappedCoder, **request) -> _Codec:
    """The codec of this package under a request; the setting is the bound, or the rate where the request has none."""

    def code(plane: NDArray[np.float32], setting: float) -> tuple[bytes, NDArray[np.float32]]:
        asked = request if "keep_means" in request else {"max_error_db": setting}
        target = Target.from_arguments(**asked, bits_per_pixel=setting if "keep_means" in request else None)
        guarantees = target.guarantees(plane.dtype, None, "decibel")
        sample = Sample(backscatter=plane[None], scale="decibel", nodata=None, guarantees=guarantees)
        step_db = find_step([sample], target, coder, HEADER_BITS / plane.size).step_db
        settings = Settings(step_db=step_db, scale="decibel", guarantees=guarantees)
        content = encode_backscatter(plane, settings, coder)
        return content, decode_backscatter(content, None, coder)

    return code


def _classical(encode: Callable, decode: Callable) -> _Codec:
    """A codec that has no nodata: invalid pixels are filled with the median, as in the benchmark."""

    def code(plane: NDArray[np.float32], setting: float) -> tuple[bytes, NDArray[np.float32]]:
        content = encode(filled_with_median(plane), setting)
        return content, fitted_plane(decode(content, plane.shape), plane.shape)

    return code


def bounded_codecs(coder: LappedCoder) -> dict[str, _Codec]:
    """Codecs whose setting is the largest error of a pixel in dB, by name."""
    library, sz3, lerc = imagecodecs_module(), Sz3(), Lerc()
    accuracy = int(library.ZFP.MODE.FIXED_ACCURACY)
    return {
        coder.card.name: own(coder),
        "SPERR": _classical(
            lambda plane, bound: bytes(library.sperr_encode(checked_plane(plane), level=bound, mode="pwe")),
            lambda content, _: library.sperr_decode(content),
        ),
        "SZ3": _classical(sz3.encode, sz3.decode),
        "LERC": _classical(lerc.encode, lerc.decode),
        "zfp": _classical(
            lambda plane, bound: bytes(library.zfp_encode(checked_plane(plane), level=bound, mode=accuracy)),
            lambda content, _: library.zfp_decode(content),
        ),
    }


def run_guarantees(paths: Sequence[str], models: Sequence[str], output: Path | None) -> Iterator[str]:
    """Measure what guarantees cost, and yield lines of Markdown; with ``output`` also write them to ``guarantees.md`` there.

    Parameters
    ----------
    paths : sequence of str
        Scenes of one split.
    models : sequence of str
        Names or ids; the default model if empty.
    output : Path or None
        Folder.

    Yields
    ------
    str

    Raises
    ------
    RateError
        If no scene has a valid pixel.
    """
    scenes = measurable_scenes(paths)
    planes = [plane for scene in scenes for plane in scene.planes]
    lines = [
        "# What guarantees cost",
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
    yield "Bits per pixel (and RMSE in dB) with no valid pixel off by more than a bound. Each codec was asked for the bound"
    yield "alone; a largest error above it is marked with its value."
    yield ""
    yield f"| bound, dB | {' | '.join(codecs)} |"
    yield f"|{'---|' * (len(codecs) + 1)}"
    for bound in BOUNDS_DB:
        cells = []
        for codec in codecs.values():
            kept = pooled(planes, codec, bound)
            broken = f", **{kept.largest_error_db:.3g} dB**" if kept.largest_error_db > bound * (1 + 1e-5) else ""
            cells.append(f"{kept.bits_per_pixel:.3f} ({kept.rmse_db:.3f}{broken})")
        yield f"| {bound:g} | {' | '.join(cells)} |"


def _means_table(planes: Sequence[NDArray[np.float32]], coder: LappedCoder) -> Iterator[str]:
    yield ""
    yield f"Error of the mean power of tiles of {TILE} x {TILE} pixels, root mean square and largest, dB."
    yield ""
    yield "| bits per pixel asked | plain: bits | RMSE | tiles | largest | `keep_means`: bits | RMSE | tiles | largest |"
    yield f"|{'---|' * 9}"
    for rate in RATES:
        cells = []
        for keeps in (False, True):
            kept = pooled(planes, own(coder, keep_means=keeps), rate)
            cells += [f"{kept.bits_per_pixel:.4f}", f"{kept.rmse_db:.4f}"]
            cells += [f"{kept.tile_error_db:.4f}", f"{kept.largest_tile_error_db:.4f}"]
        yield f"| {rate:g} | {' | '.join(cells)} |"


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option("--model", "models", multiple=True, help="Name or id; several are compared. Default: the default model.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(scenes: tuple[str, ...], models: tuple[str, ...], output: Path | None) -> None:
    """Measure what guarantees cost on SCENES, files of one split."""
    for line in run_guarantees(scenes, models, output):
        click.echo(line)


if __name__ == "__main__":
    main()
