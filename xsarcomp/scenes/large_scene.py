"""A scene of any size that never stands in memory: pieces of real or simulated chips, made where and when they are read.

The plane is laid with square tiles. A tile takes one of a few chips, mirrored and shifted in level as a generator says that
is seeded with the tile's row and column, so a pixel is a function of its place alone: the same for every chunking, in every
process and for every part that is asked for. Tasks carry the names of the chips, each process reads them once.

The seams between tiles lie off the grids of chunks and of latents, so that no chunk ends where a tile does.
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

from xsarcomp.errors import ConfigurationError, DimensionError
from xsarcomp.scenes.rasters import RASTER_VARIABLE, open_raster
from xsarcomp.scenes.simulation import POLARIZATIONS, simulate_scene, slanted_border
from xsarcomp.tiling import Window

TILE = 480
"""Edge of a tile in pixels; chips are at least as large."""
SHIFT = (211, 133)
"""Pixels that the first tile lacks at the top and at the left."""
SIMULATED_CHIPS = 4
LEVELS_DB = 3.0
"""The level of a tile is that of its chip plus or minus this at most."""
CHUNK_EDGE = 2048


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """All that a task needs to know about a large scene; some hundred bytes."""

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    chips: tuple[str, ...] = ()
    """Files of backscatter in dB with the bands VV and VH; simulated chips if empty."""
    seed: int = 0
    border: bool = True
    """Whether the slanted edges of the scene are NaN, see :func:`~xsarcomp.scenes.simulation.slanted_border`."""


def chip_files(data: Path | None = None) -> tuple[str, ...]:
    """Real chips of VV and VH in dB.

    Parameters
    ----------
    data : Path, optional
        Folder with ``train/grd_decibel/*.tif``; the environment variable ``XSARCOMP_DATA`` if not given.

    Returns
    -------
    tuple of str
        Paths in order of names, without the hand-drawn masks of water; empty where there are none.
    """
    named = data or os.environ.get("XSARCOMP_DATA")
    found = sorted(Path(named).glob("train/grd_decibel/*.tif")) if named else []
    return tuple(str(path.resolve()) for path in found if not path.stem.endswith("_water"))


def large_scene(
    shape: tuple[int, int],
    *,
    chips: Sequence[str] = (),
    seed: int = 0,
    chunk: int | tuple[tuple[int, ...], tuple[int, ...]] = CHUNK_EDGE,
    border: bool = True,
) -> xr.Dataset:
    """Scene in VV and VH whose blocks are made when they are read.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    chips : sequence of str
        Files of real chips, see `chip_files`; `SIMULATED_CHIPS` simulated ones if empty.
    seed : int
        The same seed, shape and chips give the same values.
    chunk : int or two tuples of int
        Edge of the Dask chunks, or all chunks along y and x; the values do not depend on it.
    border : bool
        Whether the slanted edges of the scene are NaN.

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

    shape = tuple(int(length) for length in shape)
    if len(shape) != 2 or min(shape) < 1:
        raise DimensionError(f"found shape {shape}, expected (rows, columns), both at least 1. Pass two numbers.")
    if isinstance(chunk, int):
        chunk = tuple(tuple(min(chunk, size - start) for start in range(0, size, chunk)) for size in shape)
    mosaic = Mosaic(shape=shape, chips=tuple(chips), seed=seed, border=border)
    attributes = {"units": "dB", "long_name": "sigma nought"}
    return xr.Dataset(
        {
            name: (
                ("y", "x"),
                map_windows(_mosaic_window, {}, chunk, np.float32, name=f"scene-{name}", arguments=(mosaic, plane)),
                {**attributes, "polarization": name.upper()},
            )
            for plane, name in enumerate(POLARIZATIONS)
        }
    )


def _mosaic_window(window: Window, _pieces: Mapping[str, NDArray], mosaic: Mosaic, plane: int) -> NDArray[np.float32]:
    """Pixels of a window of one polarization, as a task of Dask computes them."""
    return mosaic_block(window, mosaic, plane)


def mosaic_block(block: tuple[tuple[int, int], tuple[int, int]], mosaic: Mosaic, plane: int) -> NDArray[np.float32]:
    """Pixels of a block of one polarization.

    Parameters
    ----------
    block : two of (start, stop)
        Rows and columns.
    mosaic : Mosaic
    plane : int
        0 for VV, 1 for VH.

    Returns
    -------
    ndarray of float32, shape (y, x), dB; NaN where nothing was measured
    """
    values = np.empty([stop - start for start, stop in block], np.float32)
    ranges = [
        range((start + shift) // TILE, -(-(stop + shift) // TILE))
        for (start, stop), shift in zip(block, SHIFT, strict=True)
    ]
    for place in itertools.product(*ranges):
        inside, target = [], []
        for number, (start, stop), shift in zip(place, block, SHIFT, strict=True):
            first = number * TILE - shift
            low, high = max(start, first), min(stop, first + TILE)
            inside.append(slice(low - first, high - first))
            target.append(slice(low - start, high - start))
        values[*target] = _tile(mosaic, plane, place)[*inside]
    if mosaic.border:
        values[slanted_border(mosaic.shape, block)] = np.nan
    return values


def _tile(mosaic: Mosaic, plane: int, place: tuple[int, int]) -> NDArray[np.float32]:
    """One tile of the plane; both polarizations take the same chip, level and mirror image."""
    random = np.random.default_rng((mosaic.seed, *place))
    chips = _chips(mosaic.chips)
    chip = chips[random.integers(len(chips))][plane]
    level_db = np.float32(random.uniform(-LEVELS_DB, LEVELS_DB))
    y, x = (random.integers(size - TILE + 1) for size in chip.shape)
    flips = tuple(slice(None, None, 1 - 2 * int(mirrored)) for mirrored in random.integers(2, size=2))
    return chip[y : y + TILE, x : x + TILE][flips] + level_db


@functools.lru_cache(maxsize=2)
def _chips(paths: tuple[str, ...]) -> tuple[NDArray[np.float32], ...]:
    """Chips in dB, shape (polarization, y, x), NaN where nothing was measured; each process makes them once."""
    if paths:
        return tuple(_read_chip(path) for path in paths)
    shape = (TILE + 32, TILE + 32)
    made = (simulate_scene(shape, seed=seed, nodata_border=False) for seed in range(SIMULATED_CHIPS))
    return tuple(10 * np.log10(power) for power in made)


def _read_chip(path: str) -> NDArray[np.float32]:
    raster = open_raster(path)[RASTER_VARIABLE]
    if raster.ndim != 3 or raster.shape[0] < len(POLARIZATIONS) or min(raster.shape[1:]) < TILE:
        raise ConfigurationError(
            f"{path} has shape {raster.shape}, expected the bands VV and VH of {TILE} x {TILE} pixels or more: leave it out"
        )
    values = raster[: len(POLARIZATIONS)].to_numpy().astype(np.float32)
    nodata = raster.attrs.get("_FillValue")
    return values if nodata is None else np.where(values == nodata, np.float32(np.nan), values)
