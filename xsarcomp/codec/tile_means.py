"""Gains that keep the mean power of each tile of 64 x 64 pixels, larger for brighter pixels.

Decoded values that are right on average in decibels are not right in power, and where a bright target was smoothed a tile
loses power that one correction for the whole scene cannot restore. The same gain for all pixels of a tile would brighten the
sea around a ship to make up for the power of the ship. So a pixel of power P is multiplied by

    1 + (G - 1) P^2 / (P^2 + P0^2)

with two numbers a tile, the *gain* G and the *level* P0, near the mean power of the tile: pixels far below it hardly change.
The mean power is linear in G, so G follows from the original mean without iteration.
"""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.radiometry.pixel_classes import VALID

TILE = 64
"""Pixels of a tile along an axis. Tiles begin at the first pixel of the scene."""
GAIN_STEP_DB = 0.02
"""Unit of the gains. Rounding to it changes the mean by at most half of it, at any level."""
LEVEL_STEP_DB = 3.0
"""Unit of the levels, which count from the offset of the signal."""
UNIFORM_LEVEL = -400
"""Level of a tile whose pixels all get the same gain: no power is below it."""
GUARANTEED_DB = 0.02
"""Largest error of the mean power of a tile: half a unit of the gains, and the difference of two decoders."""


def tile_count(pixels: int) -> int:
    """Number of tiles along an axis of ``pixels`` pixels."""
    return -(-pixels // TILE)


def _tile_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over tiles, shape (plane, y_tile, x_tile); the window begins at a tile."""
    rows, columns = (np.arange(0, size, TILE) for size in values.shape[1:])
    return np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)


def spread_over_tiles(values: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Repeat the value of each tile at its pixels; the window begins at a tile."""
    return np.repeat(np.repeat(values, TILE, axis=1)[:, : shape[1]], TILE, axis=2)[:, :, : shape[2]]


def compute_gains(
    decibel: NDArray[np.float64],
    decoded: NDArray[np.float64],
    classes: NDArray[np.uint8],
    offset_db: float,
    *,
    uniform: bool = False,
) -> NDArray[np.int32]:
    """Compute the gains and levels that keep the mean power of the valid pixels of each tile.

    Parameters
    ----------
    decibel : ndarray of float64, shape (plane, y, x), dB
        The original; its first pixel begins a tile.
    decoded : ndarray of float64, same shape, dB
        Decoded values without gains.
    classes : ndarray of uint8, same shape
        Pixel classes.
    offset_db : float
        Decibels at signal 0, from the model card; levels count from it.
    uniform : bool
        Use the same gain for all pixels of a tile: then none moves by more than the largest error in the tile.

    Returns
    -------
    ndarray of int32, shape (plane, 2, y_tile, x_tile)
        Gains in units of ``GAIN_STEP_DB`` and levels in units of ``LEVEL_STEP_DB`` above the offset; 0 where no pixel is
        valid, or none needs a gain.
    """
    valid = classes == VALID
    power = np.where(valid, 10 ** (decoded / 10), 0.0)
    original_sums = _tile_sums(np.where(valid, 10 ** (decibel / 10), 0.0))
    decoded_sums, count = _tile_sums(power), _tile_sums(valid.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        levels = np.rint((10 * np.log10(original_sums / count) - offset_db) / LEVEL_STEP_DB)
        levels = np.where((count > 0) & (not uniform), levels, UNIFORM_LEVEL)
        # P0 / P as the decoder computes it, which does not square powers far above the level
        ratio = spread_over_tiles(_level_power(levels, offset_db), power.shape) / power
        weighted_sums = _tile_sums(power / (1 + ratio**2))
        factors = 1 + (original_sums - decoded_sums) / weighted_sums
        # the decoded power is too large by more than the bright pixels have: all pixels are darkened
        is_uniform = factors <= 0
        levels = np.where(is_uniform, UNIFORM_LEVEL, levels)
        factors = np.where(is_uniform, original_sums / decoded_sums, factors)
        gains = np.where(count > 0, np.rint(10 * np.log10(factors) / GAIN_STEP_DB), 0)
    levels = np.where(gains == 0, 0, levels)
    return np.stack([gains, levels], axis=1).astype(np.int32)


def _level_power(levels: NDArray, offset_db: float) -> NDArray[np.float64]:
    """Powers of levels: 10 to a tenth of their decibels."""
    return 10 ** ((levels * LEVEL_STEP_DB + offset_db) / 10)


def apply_gains(
    signal: NDArray[np.float32], gains: NDArray[np.int32], level_db: float, offset_db: float, origin: tuple[int, int]
) -> None:
    """Multiply the power of a window by the gains of its tiles, in place.

    Parameters
    ----------
    signal : ndarray of float32, shape (plane, y, x), dB above ``level_db``
    gains : ndarray of int32, shape (plane, 2, y_tile, x_tile)
        Of all tiles that the window touches, see :func:`compute_gains`.
    level_db : float
        Decibels at signal 0, with the correction of the mean.
    offset_db : float
        As for :func:`compute_gains`.
    origin : tuple of int
        Row and column of the window's first pixel in its first tile, 0 to 63.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels

    factors = 10 ** (gains[:, 0] * (GAIN_STEP_DB / 10)) - 1
    powers = _level_power(gains[:, 1], offset_db)
    decoder_kernels.lift(signal, factors, powers, level_db, TILE, *origin)
