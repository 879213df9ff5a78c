"""Mean levels: the mean power of each tile of 64 x 64 pixels, stored beside the symbols, which the decoder restores.

Decoded values that are right on average in decibels are not right in power, and no constant mends scenes of every kind. So the
encoder stores the mean power of the valid pixels of each tile, and the decoder multiplies each decoded power P of the tile by

    1 - w + G w,  w = P^2 / (P^2 + M^2)

where M is the stored mean, and G makes the mean of the result M. Pixels far below the mean hardly change: the sea around a ship
does not brighten to make up for the power of the ship. The encoder needs no decoder for that, unlike for the gains of
:mod:`xsarcomp.codec.tile_means`, which is why ``docs/decisions/0025-mean-levels.md`` prefers them.

Stored is the *level*: the mean in units of ``LEVEL_STEP_DB`` above a prediction from the symbols of the tile.
"""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.frame import symbol_hash
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.tile_means import TILE, spread_over_tiles, tile_count
from xsarcomp.errors import CorruptStreamError, DimensionError

TILE_LATENTS = TILE // BLOCK
"""Latents of a tile along an axis."""
LEVEL_STEP_DB = 1 / 32
"""Unit of the levels in dB. Rounding to it moves the mean of a tile by at most half of it."""
UNKNOWN = LARGEST_MAGNITUDE - 1
"""Level of a tile whose mean is not stored, because it is no number that a level can express."""
_EXPONENTS = {"power": 1, "amplitude": 2, "decibel": 0}
_HASH_BYTES = 8
VARIANCE_TO_DB = np.log(10) / 20
"""Decibels between the mean power and the power of the mean decibels, for each dB2 of variance, if decibels are normal."""
LARGEST_VARIANCE_DB2 = 100.0
"""Limit on the variance from which a mean is predicted."""


def compute_levels(
    backscatter: NDArray,
    scale: str,
    classes: NDArray[np.uint8],
    symbols: NDArray[np.int32],
    coder: LappedCoder,
    step_db: float,
) -> NDArray[np.int32]:
    """Compute the levels of tiles.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (plane, y, x)
        The original; its first pixel begins a tile.
    scale : {"power", "amplitude", "decibel"}
        Scale of the original.
    classes : ndarray of uint8, same shape
        Pixel classes.
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of these pixels.
    coder : LappedCoder
    step_db : float
        Quantization step in dB.

    Returns
    -------
    ndarray of int32, shape (plane, y_tile, x_tile)
        0 for tiles without a valid pixel.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import tile_means as kernels

    sums = np.zeros((len(backscatter), 2, *map(tile_count, backscatter.shape[1:])), np.float64)
    values = np.ascontiguousarray(backscatter, np.float64)
    kernels.add_powers(values, _EXPONENTS[scale], np.ascontiguousarray(classes), TILE, sums)
    count, total = sums[:, 0], sums[:, 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        means_db = 10 * np.log10(total / count) - coder.card.offset_db
        levels = np.rint((means_db - _predicted_db(symbols, coder, step_db)) / LEVEL_STEP_DB)
    levels = np.where(np.abs(levels) < UNKNOWN, levels, UNKNOWN)  # NaN too
    return np.where(count > 0, levels, 0).astype(np.int32)


def means_from_levels(
    levels: NDArray[np.int32], symbols: NDArray[np.int32], coder: LappedCoder, step_db: float
) -> NDArray[np.float64]:
    """Compute the means for which levels stand; the inverse of :func:`compute_levels` up to rounding.

    Parameters
    ----------
    levels : ndarray of int32, shape (plane, y_tile, x_tile)
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of these tiles.
    coder : LappedCoder
    step_db : float
        Quantization step in dB.

    Returns
    -------
    ndarray of float64, shape (plane, y_tile, x_tile), dB above the offset
        NaN where the level is ``UNKNOWN``.
    """
    means_db = _predicted_db(symbols, coder, step_db) + LEVEL_STEP_DB * levels
    return np.where(levels == UNKNOWN, np.nan, means_db)


def _predicted_db(symbols: NDArray[np.int32], coder: LappedCoder, step_db: float) -> NDArray[np.float64]:
    """Mean power of tiles as their symbols predict it, dB above the offset, shape (plane, y_tile, x_tile)."""
    with FIRST_USE:
        from xsarcomp.codec.kernels import tile_means as kernels

    points = np.ascontiguousarray(coder.points(symbols, step_db), np.int32)
    spacings = np.asarray(coder.spacings_db(step_db), np.float64)
    tiles = (-(-size // TILE_LATENTS) for size in symbols.shape[2:])
    sums = np.zeros((len(symbols), 3, *tiles), np.float64)
    kernels.add_latents(points, spacings, TILE_LATENTS, sums)
    blocks, lowest, squares = sums[:, 0], sums[:, 1], sums[:, 2]
    mean_db = lowest / (blocks * BLOCK)
    variance = np.minimum(squares / (blocks * BLOCK**2) - mean_db**2, LARGEST_VARIANCE_DB2)
    return mean_db + VARIANCE_TO_DB * variance


def restore_means(
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    means_db: NDArray[np.float64],
    correction_db: float,
    *,
    uniform: bool = False,
) -> NDArray[np.float32]:
    """Give the tiles of a decoded signal their means.

    Parameters
    ----------
    signal : ndarray of float32, shape (plane, y, x), dB above the offset
        Whole tiles, but for those that the scene cuts. Not changed.
    classes : ndarray of uint8, same shape
        Pixel classes.
    means_db : ndarray of float64, shape (plane, y_tile, x_tile), dB above the offset
        See :func:`means_from_levels`.
    correction_db : float
        Decibels that are added to the signal afterwards.
    uniform : bool
        Change all pixels of a tile by the same factor. For signals with synthetic speckle, whose number of looks a larger
        factor for brighter pixels would change.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
    """
    if uniform:
        return _restore_uniformly(signal, classes, means_db, correction_db)
    with FIRST_USE:
        from xsarcomp.codec.kernels import tile_means as kernels

    signal = np.array(signal, np.float32, order="C")
    kernels.set_means(
        signal, np.ascontiguousarray(classes), np.ascontiguousarray(means_db, np.float64), float(correction_db), TILE
    )
    return signal


def _restore_uniformly(
    signal: NDArray[np.float32], classes: NDArray[np.uint8], means_db: NDArray[np.float64], correction_db: float
) -> NDArray[np.float32]:
    """Add to each tile the decibels between its mean and that of its valid pixels."""
    values = np.ascontiguousarray(signal, np.float64)
    with FIRST_USE:
        from xsarcomp.codec.kernels import tile_means as kernels

    sums = np.zeros((len(signal), 2, *means_db.shape[1:]), np.float64)
    kernels.add_powers(values, _EXPONENTS["decibel"], np.ascontiguousarray(classes), TILE, sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        missing_db = means_db - correction_db - 10 * np.log10(sums[:, 1] / sums[:, 0])
    missing_db = np.where(np.isfinite(missing_db), missing_db, 0.0)
    return (values + spread_over_tiles(missing_db, signal.shape)).astype(np.float32)


def pack_levels(levels: NDArray[np.int32]) -> bytes:
    """Write the section of a frame that holds levels: their hash, and the levels as integers of small magnitude.

    Parameters
    ----------
    levels : ndarray of int32, shape (plane, y_tile, x_tile)

    Returns
    -------
    bytes
    """
    return symbol_hash(levels) + encode_integers(levels)


def unpack_levels(section: bytes, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """Read levels from their section; the inverse of :func:`pack_levels`.

    Parameters
    ----------
    section : bytes
        The section, without anything before or after it.
    shape : tuple of int
        Shape of the levels, (plane, y_tile, x_tile).

    Returns
    -------
    ndarray of int32, shape as given

    Raises
    ------
    CorruptStreamError
        If the section does not hold so many levels, or they do not match their hash.
    """
    levels = decode_integers(section[_HASH_BYTES:], shape)
    if len(section) < _HASH_BYTES or symbol_hash(levels) != section[:_HASH_BYTES]:
        raise CorruptStreamError("the decoded mean levels do not match their hash: the chunk is damaged")
    return levels


def channel_from_levels(levels: NDArray[np.int32], blocks: tuple[int, int]) -> NDArray[np.int32]:
    """Make the last channel of latents: the level of each tile at its first block, 0 at the others.

    Parameters
    ----------
    levels : ndarray of int32, shape (plane, y_tile, x_tile)
    blocks : tuple of int
        Size of the channel, (y_latent, x_latent).

    Returns
    -------
    ndarray of int32, shape (plane, y_latent, x_latent)
    """
    channel = np.zeros((len(levels), *blocks), np.int32)
    channel[:, ::TILE_LATENTS, ::TILE_LATENTS] = levels
    return channel


def levels_from_channel(channel: NDArray[np.int32]) -> NDArray[np.int32]:
    """Read levels from the last channel of latents; the inverse of :func:`channel_from_levels`.

    Parameters
    ----------
    channel : ndarray of int32, shape (plane, y_latent, x_latent)
        Its first block begins a tile.

    Returns
    -------
    ndarray of int32, shape (plane, y_tile, x_tile)

    Raises
    ------
    DimensionError
        If there are levels elsewhere: the channel does not begin at a tile.
    """
    if has_stray_levels(channel):
        raise DimensionError(
            f"a chunk of latents does not begin at a tile of {TILE_LATENTS} x {TILE_LATENTS} blocks: write latents in the chunks "
            "that encode() chose"
        )
    return np.ascontiguousarray(channel[:, ::TILE_LATENTS, ::TILE_LATENTS])


def has_stray_levels(channel: NDArray[np.int32]) -> bool:
    """Return whether the last channel of latents (plane, y_latent, x_latent) holds levels beside the first blocks of tiles."""
    return np.count_nonzero(channel[:, ::TILE_LATENTS, ::TILE_LATENTS]) != np.count_nonzero(channel)
