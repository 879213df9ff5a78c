"""Data that keeps guarantees: residuals for the error bound, gains for the mean power of tiles.

:func:`compute_guarantee_data` makes them from the original and the signal that its symbols decode to;
:meth:`GuaranteeData.apply_to` adds them to a decoded signal; :func:`pack_guarantee_data` and :func:`unpack_guarantee_data`
are the section of a frame that holds them, called the *corrections section* in ``docs/format.md``.
"""

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

_HEADER = struct.Struct("<8sdI")  # hash, spacing in dB, bytes of the residuals
LARGEST_SPACING_DB = 2 * error_bound.LARGEST_BOUND_DB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuaranteeData:
    """Residuals and gains of a window, which a decoder applies to the signal."""

    spacing_db: float = 0.0
    """Spacing of the residuals in dB; 0 without a bound."""
    residuals: NDArray[np.int32] | None = None
    """Shape (plane, y, x), in units of their spacing; None without a bound."""
    gains: NDArray[np.int32] | None = None
    """Gains and levels of the tiles that the window touches, shape (plane, 2, y_tile, x_tile); None if means are not kept."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of the window's first pixel in its first tile."""
    means_db: NDArray[np.float64] | None = None
    """Mean power of each tile of a window of whole tiles, see :func:`xsarcomp.codec.mean_levels.means_from_levels`; None where
    none is stored."""
    uniform_means: bool = False
    """True to change all pixels of a tile alike for its mean."""

    def select_planes(self, planes: slice) -> "GuaranteeData":
        """Data of some of the planes."""
        residuals = None if self.residuals is None else self.residuals[planes]
        gains = None if self.gains is None else self.gains[planes]
        return replace(
            self, residuals=residuals, gains=gains, means_db=None if self.means_db is None else self.means_db[planes]
        )

    def apply_to(self, signal: NDArray[np.float32], level_db: float, offset_db: float) -> NDArray[np.float32]:
        """Add residuals to a copy of a decoded signal, then multiply its power by the gains.

        Parameters
        ----------
        signal : ndarray of float32, shape (plane, y, x), dB above ``level_db``
            Not changed.
        level_db : float
            Decibels at signal 0, with the correction of the mean.
        offset_db : float
            Decibels at signal 0, without the correction of the mean; levels of tiles count from it.

        Returns
        -------
        ndarray of float32, shape (plane, y, x), dB above ``level_db``
        """
        signal = np.array(signal, np.float32, order="C")
        if self.residuals is not None:
            signal += (self.residuals * self.spacing_db).astype(np.float32)
        if self.gains is not None and self.gains[:, 0].any():
            tile_means.apply_gains(signal, self.gains, level_db, offset_db, self.origin)
        return signal


def compute_guarantee_data(
    decibel: NDArray[np.float64],
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    guarantees: Guarantees,
    level_db: float,
    offset_db: float,
) -> GuaranteeData:
    """Compute the residuals and gains that keep guarantees.

    Parameters
    ----------
    decibel : ndarray of float64, shape (plane, y, x), dB
        The original; its first pixel begins a tile.
    signal : ndarray of float32, same shape, dB above ``level_db``
        The signal that the symbols decode to.
    classes : ndarray of uint8, same shape
        Pixel classes.
    guarantees : Guarantees
        Properties to keep.
    level_db, offset_db : float
        As for :meth:`GuaranteeData.apply_to`.

    Returns
    -------
    GuaranteeData
    """
    residuals = gains = None
    spacing = guarantees.residual_spacing_db
    if spacing:
        residuals = error_bound.compute_residuals(decibel, signal + np.float64(level_db), classes, spacing)
    if guarantees.keep_means:
        with_residuals = GuaranteeData(spacing_db=spacing, residuals=residuals).apply_to(signal, level_db, offset_db)
        decoded = with_residuals + np.float64(level_db)
        gains = tile_means.compute_gains(decibel, decoded, classes, offset_db, uniform=bool(spacing))
    return GuaranteeData(spacing_db=spacing, residuals=residuals, gains=gains)


def pack_guarantee_data(data: GuaranteeData) -> bytes:
    """Write the section of a frame that holds guarantee data: hash, spacing, residuals, gains.

    Parameters
    ----------
    data : GuaranteeData
        Of a whole chunk.

    Returns
    -------
    bytes
    """
    residuals = b"" if data.residuals is None else encode_integers(data.residuals)
    gains = b"" if data.gains is None else encode_integers(_gains_as_planes(data.gains))
    return _HEADER.pack(_data_hash(data), data.spacing_db, len(residuals)) + residuals + gains


def unpack_guarantee_data(section: bytes, shape: tuple[int, int, int]) -> GuaranteeData:
    """Read guarantee data from their section; the inverse of :func:`pack_guarantee_data`.

    Parameters
    ----------
    section : bytes
        The section, without anything before or after it.
    shape : tuple of int
        Shape of the chunk, (plane, y, x).

    Returns
    -------
    GuaranteeData

    Raises
    ------
    CorruptStreamError
        If lengths or hash disagree.
    """
    if len(section) < _HEADER.size:
        raise CorruptStreamError(
            f"the section of guarantee data has {len(section)} bytes, expected {_HEADER.size} or more: the chunk is damaged"
        )
    expected_hash, spacing, length = _HEADER.unpack_from(section)
    stop = _HEADER.size + length
    if not (math.isfinite(spacing) and 0 <= spacing <= LARGEST_SPACING_DB) or stop > len(section):
        raise CorruptStreamError(
            f"the section of guarantee data has {len(section)} bytes and names {length} bytes of residuals with a spacing of "
            f"{spacing} dB, expected no more than there are and 0 to {LARGEST_SPACING_DB} dB: the chunk is damaged"
        )
    residuals = decode_integers(section[_HEADER.size : stop], shape) if spacing else None
    gains = None
    if stop < len(section):
        tiles = (2 * shape[0], tile_means.tile_count(shape[1]), tile_means.tile_count(shape[2]))
        gain_planes = decode_integers(section[stop:], tiles)
        gains = np.stack([gain_planes[: shape[0]], gain_planes[shape[0] :]], axis=1)
    data = GuaranteeData(spacing_db=spacing, residuals=residuals, gains=gains)
    if (residuals is None and length) or _data_hash(data) != expected_hash:
        raise CorruptStreamError("the decoded residuals and gains do not match their hash: the chunk is damaged")
    return data


def _gains_as_planes(gains: NDArray[np.int32]) -> NDArray[np.int32]:
    """Planes of all gains, then of all levels: neighbors in a plane are alike."""
    return np.ascontiguousarray(gains.swapaxes(0, 1)).reshape(-1, *gains.shape[2:])


def _data_hash(data: GuaranteeData) -> bytes:
    integers = [values.ravel() for values in (data.residuals, data.gains) if values is not None]
    return symbol_hash(np.concatenate(integers) if integers else np.empty(0, np.int32))
