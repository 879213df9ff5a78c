"""Scenes of any size that are never in memory as a whole: mosaics of real or simulated chips, computed where they are read.

The plane is covered with square tiles. A tile shows one of a few chips, mirrored and shifted in level by a random generator
that is seeded with the tile's row and column. A pixel is therefore a function of its position only: it is the same for every
chunking, in every process and for every part that is computed. Tasks carry the paths of the chips; each process reads them
once.

The seams between tiles do not lie on the grids of chunks and latents, so that no chunk ends where a tile does.
"""

import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.rasters import RASTER_VARIABLE, open_raster
from xsarcomp.scenes.simulation import POLARIZATIONS, checked_shape, simulate_scene, slanted_border
from xsarcomp.tiling import Span, Window

TILE_PIXELS = 480
"""Side of a tile in pixels; chips are at least as large."""
GRID_SHIFT = (211, 133)
"""Rows and columns of the first tile that lie outside the scene, at the top and at the left."""
SIMULATED_CHIPS = 4
"""Number of simulated chips, if no files are given."""
MAX_LEVEL_SHIFT_DB = 3.0
"""Largest difference between the levels of a tile and its chip."""
CHUNK_EDGE = 2048
"""Side of the Dask chunks in pixels."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Description of a large scene that each task carries, in some hundred bytes."""

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    chips: tuple[str, ...] = ()
    """Files of backscatter in dB with the bands VV and VH; simulated chips if empty."""
    seed: int = 0
    """Seed of the random choices."""
    border: bool = True
    """The slanted edges of the scene are NaN, see :func:`~xsarcomp.scenes.simulation.slanted_border`."""


def chip_files(data: Path | None = None) -> tuple[str, ...]:
    """List the files of real chips of VV and VH in dB.

    Parameters
    ----------
    data : Path, optional
        Folder with ``train/grd_decibel/*.tif``; the environment variable ``XSARCOMP_DATA`` if not given.

    Returns
    -------
    tuple of str
        Paths in order of names, without hand-drawn masks of water and chips smaller than a tile; empty where there are none.
    """
    folder = data or os.environ.get("XSARCOMP_DATA")
    paths = sorted(Path(folder).glob("train/grd_decibel/*.tif")) if folder else []
    scenes = (str(path.resolve()) for path in paths if not path.stem.endswith("_water"))
    return tuple(path for path in scenes if _holds_tile(open_raster(path)[RASTER_VARIABLE]))


def large_scene(
    shape: Sequence[int],
    *,
    chips: Sequence[str] = (),
    seed: int = 0,
    chunk: int | tuple[tuple[int, ...], tuple[int, ...]] = CHUNK_EDGE,
    border: bool = True,
) -> xr.Dataset:
    """Describe a scene of sigma0 in VV and VH whose chunks are computed when they are read.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    chips : sequence of str
        Files of real chips, see :func:`chip_files`; ``SIMULATED_CHIPS`` simulated ones if empty.
    seed : int
        The same seed, shape and chips give the same values.
    chunk : int or two tuples of int
        Side of the Dask chunks, or all chunks along y and x; the values do not depend on it.
    border : bool
        Set the slanted edges of the scene to NaN.

    Returns
    -------
    xarray.Dataset
        Variables ``vv`` and ``vh`` on Dask arrays, float32, dimensions (y, x), dB.

    Raises
    ------
    DimensionError
        If the shape is not two positive numbers.
    """
    from xsarcomp.scenes.windows import map_windows

    size = checked_shape(shape)
    chunks = tuple(_regular_chunks(length, chunk) for length in size) if isinstance(chunk, int) else chunk
    mosaic = Mosaic(shape=size, chips=tuple(chips), seed=seed, border=border)
    attributes = {"units": "dB", "long_name": "sigma nought"}
    return xr.Dataset(
        {
            name: (
                ("y", "x"),
                map_windows(_mosaic_block, {}, chunks, np.float32, name=f"scene-{name}", arguments=(mosaic, plane)),
                {**attributes, "polarization": name.upper()},
            )
            for plane, name in enumerate(POLARIZATIONS)
        }
    )


def _regular_chunks(length: int, chunk: int) -> tuple[int, ...]:
    """Return chunk sizes along an axis; the last one may be smaller."""
    return tuple(min(chunk, length - start) for start in range(0, length, chunk))


def _mosaic_block(window: Window, _pieces: Mapping[str, NDArray], mosaic: Mosaic, plane: int) -> NDArray[np.float32]:
    """Compute a block of one polarization, as a task of Dask; it reads no other array."""
    rows, columns = window
    return mosaic_window((rows, columns), mosaic, plane)


def mosaic_window(window: tuple[Span, Span], mosaic: Mosaic, plane: int) -> NDArray[np.float32]:
    """Compute the pixels of a window of one polarization.

    Parameters
    ----------
    window : two of (start, stop)
        Rows and columns.
    mosaic : Mosaic
    plane : int
        0 for VV, 1 for VH.

    Returns
    -------
    ndarray of float32, shape (y, x)
        sigma0 in dB; NaN where nothing was measured.
    """
    values = np.empty([stop - start for start, stop in window], np.float32)
    tile_rows, tile_columns = (
        range((start + shift) // TILE_PIXELS, -(-(stop + shift) // TILE_PIXELS))
        for (start, stop), shift in zip(window, GRID_SHIFT, strict=True)
    )
    for position in itertools.product(tile_rows, tile_columns):
        in_tile, in_window = [], []
        for number, (start, stop), shift in zip(position, window, GRID_SHIFT, strict=True):
            first = number * TILE_PIXELS - shift
            low, high = max(start, first), min(stop, first + TILE_PIXELS)
            in_tile.append(slice(low - first, high - first))
            in_window.append(slice(low - start, high - start))
        values[*in_window] = _tile(mosaic, plane, position)[*in_tile]
    if mosaic.border:
        values[slanted_border(mosaic.shape, window)] = np.nan
    return values


def _tile(mosaic: Mosaic, plane: int, position: tuple[int, int]) -> NDArray[np.float32]:
    """Compute one tile of the plane; both polarizations take the same chip, level and mirror image."""
    random = np.random.default_rng((mosaic.seed, *position))
    chips = _load_chips(mosaic.chips)
    chip = chips[random.integers(len(chips))][plane]
    level_db = np.float32(random.uniform(-MAX_LEVEL_SHIFT_DB, MAX_LEVEL_SHIFT_DB))
    y, x = (random.integers(length - TILE_PIXELS + 1) for length in chip.shape)
    flips = tuple(slice(None, None, 1 - 2 * int(mirrored)) for mirrored in random.integers(2, size=2))
    return chip[y : y + TILE_PIXELS, x : x + TILE_PIXELS][flips] + level_db


@functools.lru_cache(maxsize=2)
def _load_chips(paths: tuple[str, ...]) -> tuple[NDArray[np.float32], ...]:
    """Load chips in dB, shape (polarization, y, x), NaN where nothing was measured; once in each process."""
    if paths:
        return tuple(_read_chip(path) for path in paths)
    shape = (TILE_PIXELS + 32, TILE_PIXELS + 32)
    scenes = (simulate_scene(shape, seed=seed, nodata_border=False) for seed in range(SIMULATED_CHIPS))
    return tuple(10 * np.log10(power) for power in scenes)


def _holds_tile(raster: xr.DataArray) -> bool:
    """Whether a raster has the bands VV and VH, as large as a tile at least."""
    return raster.ndim == 3 and raster.shape[0] >= len(POLARIZATIONS) and min(raster.shape[1:]) >= TILE_PIXELS


def _read_chip(path: str) -> NDArray[np.float32]:
    """Read the bands VV and VH of a file in dB, with nodata as NaN."""
    raster = open_raster(path)[RASTER_VARIABLE]
    if not _holds_tile(raster):
        raise ConfigurationError(
            f"found shape {raster.shape} in {path}, expected the bands VV and VH of {TILE_PIXELS} x {TILE_PIXELS} pixels or "
            "more: leave it out"
        )
    values = raster[: len(POLARIZATIONS)].to_numpy().astype(np.float32)
    nodata = raster.attrs.get("_FillValue")
    return values if nodata is None else np.where(values == nodata, np.float32(np.nan), values)
