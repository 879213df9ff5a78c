"""The mean power of each tile of 64 x 64 pixels, kept by a gain that grows with brightness.

A decoder that is right on average in decibels is not right in power, and where a bright target was smoothed a tile loses
power that one correction for the whole scene cannot give back. One gain for all pixels of a tile would lift the sea
around a ship to pay for the ship. So a pixel of power P is multiplied by

    1 + (G - 1) P^2 / (P^2 + P0^2)

with two numbers a tile, the *gain* G and the *level* P0, near the mean power of the tile: pixels far below it stay as they are.
The mean power is linear in G, so that G follows in one step.
"""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.radiometry.pixel_classes import VALID

TILE = 64
"""Pixels of a tile along an axis; tiles begin at the first pixel of the scene."""
GAIN_STEP_DB = 0.02
"""Unit of the gains. Rounding to it moves the mean by at most half of it, whatever the level."""
LEVEL_STEP_DB = 3.0
"""Unit of the levels, which count from the level of the signal."""
UNIFORM_LEVEL = -400
"""Level of a tile whose pixels all get the gain."""
PROMISED_DB = 0.02
"""By how much the mean power of a tile may be off: half a unit, and what decoders may differ."""


def tile_count(pixels: int) -> int:
    """Tiles along an axis of so many pixels."""
    return -(-pixels // TILE)


def _tile_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over tiles, shape (plane, y_tile, x_tile); the window begins at a tile."""
    rows, columns = (np.arange(0, size, TILE) for size in values.shape[1:])
    return np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)


def _over_tiles(values: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Value of its tile at each pixel of a window that begins at a tile."""
    return np.repeat(np.repeat(values, TILE, axis=1)[:, : shape[1]], TILE, axis=2)[:, :, : shape[2]]


def gains_of(
    decibel: NDArray[np.float64],
    restored: NDArray[np.float64],
    classes: NDArray[np.uint8],
    offset_db: float,
    *,
    uniform: bool = False,
) -> NDArray[np.int32]:
    """Gains and levels that keep the mean power of the valid pixels of each tile.

    Parameters
    ----------
    decibel : ndarray of float64, shape (plane, y, x), dB
        The original; the first pixel begins a tile.
    restored : ndarray of float64, same shape, dB
        What the decoder has without gains.
    classes : ndarray of uint8, same shape
    offset_db : float
        Level of the signal, from the model card.
    uniform : bool
        The same gain for all pixels of a tile: none then moves by more than the largest error in it.

    Returns
    -------
    ndarray of int32, shape (plane, 2, y_tile, x_tile)
        Gains in units of ``GAIN_STEP_DB`` and levels in units of ``LEVEL_STEP_DB`` above the offset; 0 where no pixel is
        valid, or none needs a gain.
    """
    valid = classes == VALID
    power = np.where(valid, 10 ** (restored / 10), 0.0)
    wanted = _tile_sums(np.where(valid, 10 ** (decibel / 10), 0.0))
    found, count = _tile_sums(power), _tile_sums(valid.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        levels = np.rint((10 * np.log10(wanted / count) - offset_db) / LEVEL_STEP_DB)
        levels = np.where((count > 0) & (not uniform), levels, UNIFORM_LEVEL)
        # as the decoder has it: no square of a power far above the level
        below = _over_tiles(_level_power(levels, offset_db), power.shape) / power
        shares = _tile_sums(power / (1 + below**2))
        factors = 1 + (wanted - found) / shares
        # too much power, and the bright pixels have less than that: all give
        is_uniform = factors <= 0
        levels, factors = np.where(is_uniform, UNIFORM_LEVEL, levels), np.where(is_uniform, wanted / found, factors)
        gains = np.where(count > 0, np.rint(10 * np.log10(factors) / GAIN_STEP_DB), 0)
    levels = np.where(gains == 0, 0, levels)
    return np.stack([gains, levels], axis=1).astype(np.int32)


def _level_power(levels: NDArray, offset_db: float) -> NDArray[np.float64]:
    return 10 ** ((levels * LEVEL_STEP_DB + offset_db) / 10)


def apply_gains(
    signal: NDArray[np.float32], gains: NDArray[np.int32], level_db: float, offset_db: float, origin: tuple[int, int]
) -> None:
    """Multiply the power of a window by the gains of its tiles, in place.

    Parameters
    ----------
    signal : ndarray of float32, shape (plane, y, x), dB above ``level_db``
    gains : ndarray of int32, shape (plane, 2, y_tile, x_tile)
        Of all tiles that the window touches, see :func:`gains_of`.
    level_db : float
        Decibels at signal 0, with the correction of the mean.
    offset_db : float
        As for :func:`gains_of`.
    origin : tuple of (row, column)
        Place of the window's first pixel in its first tile, 0 to 63.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels

    factors = 10 ** (gains[:, 0] * (GAIN_STEP_DB / 10)) - 1
    powers = _level_power(gains[:, 1], offset_db)
    decoder_kernels.lift(signal, factors, powers, level_db, TILE, *origin)
