"""Data that keeps guarantees: residuals for the error bound, gains for the mean power of tiles."""

import math
import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import error_bound, tile_means
from xsarcomp.codec.frame import symbol_hash
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.settings import Guarantees
from xsarcomp.errors import CorruptStreamError

_HEAD = struct.Struct("<8sdI")
LARGEST_SPACING_DB = 2 * error_bound.LARGEST_BOUND_DB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuaranteeData:
    """Residuals and gains of a window, which a decoder adds to the signal."""

    spacing_db: float = 0.0
    """Spacing of the residuals."""
    residuals: NDArray[np.int32] | None = None
    """Shape (plane, y, x), in units of their spacing; None without a bound."""
    gains: NDArray[np.int32] | None = None
    """Gains and levels of the tiles that the window touches, shape (plane, 2, y_tile, x_tile); None if means are not kept."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of the window's first pixel in its first tile."""

    def of_planes(self, planes: slice) -> "GuaranteeData":
        """Data of some of the planes."""
        residuals = None if self.residuals is None else self.residuals[planes]
        return replace(self, residuals=residuals, gains=None if self.gains is None else self.gains[planes])

    def applied(self, signal: NDArray[np.float32], level_db: float, offset_db: float) -> NDArray[np.float32]:
        """Signal with residuals and gains; the one given is not changed.

        Parameters
        ----------
        signal : ndarray of float32, shape (plane, y, x), dB above ``level_db``
        level_db : float
            Decibels at signal 0, with the correction of the mean.
        offset_db : float
            The same without it.
        """
        signal = np.array(signal, np.float32, order="C")
        if self.residuals is not None:
            signal += (self.residuals * self.spacing_db).astype(np.float32)
        if self.gains is not None and self.gains[:, 0].any():
            tile_means.apply_gains(signal, self.gains, level_db, offset_db, self.origin)
        return signal


def guarantee_data_of(
    decibel: NDArray[np.float64],
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    guarantees: Guarantees,
    level_db: float,
    offset_db: float,
) -> GuaranteeData:
    """GuaranteeData that keep guarantees.

    Parameters
    ----------
    decibel : ndarray of float64, shape (plane, y, x), dB
        The original; the first pixel begins a tile.
    signal : ndarray of float32, same shape, dB above ``level_db``
        What the symbols decode to.
    classes : ndarray of uint8, same shape
    guarantees : Guarantees
    level_db, offset_db
        As for :meth:`GuaranteeData.applied`.

    Returns
    -------
    GuaranteeData
    """
    residuals = gains = None
    spacing = guarantees.residual_spacing_db
    if spacing:
        residuals = error_bound.residuals_of(decibel, signal + np.float64(level_db), classes, spacing)
    if guarantees.keep_means:
        restored = GuaranteeData(spacing_db=spacing, residuals=residuals).applied(signal, level_db, offset_db)
        restored = restored + np.float64(level_db)
        gains = tile_means.gains_of(decibel, restored, classes, offset_db, uniform=bool(spacing))
    return GuaranteeData(spacing_db=spacing, residuals=residuals, gains=gains)


def pack(corrections: GuaranteeData) -> bytes:
    """Section of a frame that holds corrections: their hash, the spacing, the residuals, the gains."""
    residuals = b"" if corrections.residuals is None else encode_integers(corrections.residuals)
    gains = b"" if corrections.gains is None else encode_integers(_as_planes(corrections.gains))
    return _HEAD.pack(_hash(corrections), corrections.spacing_db, len(residuals)) + residuals + gains


def unpack(section: bytes, shape: tuple[int, int, int]) -> GuaranteeData:
    """GuaranteeData from their section; the inverse of :func:`pack`.

    Parameters
    ----------
    section : bytes
    shape : tuple of (plane, y, x)

    Raises
    ------
    CorruptStreamError
        If lengths or hash disagree.
    """
    if len(section) < _HEAD.size:
        raise CorruptStreamError(f"the section of corrections has {len(section)} bytes, expected {_HEAD.size} or more")
    expected, spacing, length = _HEAD.unpack_from(section)
    if not (math.isfinite(spacing) and 0 <= spacing <= LARGEST_SPACING_DB) or _HEAD.size + length > len(section):
        raise CorruptStreamError(
            f"the section of corrections names residuals of {length} bytes, spaced {spacing} dB, which cannot be"
        )
    stop = _HEAD.size + length
    residuals = decode_integers(section[_HEAD.size : stop], shape) if spacing else None
    tiles = (2 * shape[0], *(tile_means.tile_count(size) for size in shape[1:]))
    gains = None
    if stop < len(section):
        gains = decode_integers(section[stop:], tiles)
        gains = np.stack([gains[: shape[0]], gains[shape[0] :]], axis=1)
    corrections = GuaranteeData(spacing_db=spacing, residuals=residuals, gains=gains)
    if (residuals is None and length) or _hash(corrections) != expected:
        raise CorruptStreamError("the decoded corrections are not those that were encoded: the chunk is damaged")
    return corrections


def _as_planes(gains: NDArray[np.int32]) -> NDArray[np.int32]:
    """All gains, then all levels: neighbors are alike."""
    return np.ascontiguousarray(gains.swapaxes(0, 1)).reshape(-1, *gains.shape[2:])


def _hash(corrections: GuaranteeData) -> bytes:
    parts = [values.ravel() for values in (corrections.residuals, corrections.gains) if values is not None]
    return symbol_hash(np.concatenate(parts) if parts else np.empty(0, np.int32))
