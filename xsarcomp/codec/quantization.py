"""Latents to integer symbols and back, with a step in dB."""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNEL_ORDER
from xsarcomp.codec.kernels.compile import FIRST_USE

SHIFT_CLASSES = 6  # magnitudes 1 to 5, and 6 or more, have their own reconstruction point


def nearest_anchor(step_db: float, anchor_steps_db: NDArray[np.float64]) -> int:
    """Index of the table set whose step is nearest on a logarithmic scale."""
    return int(np.argmin(np.abs(np.log(np.asarray(anchor_steps_db)) - np.log(step_db))))


def quantize_deadzone(
    latents: NDArray[np.float64], spacings_db: NDArray[np.float64], rounding: float = 0.4
) -> NDArray[np.int32]:
    """Round latents in units of their channel's spacing towards zero's side.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
    spacings_db : ndarray of float64, shape (latent=64,)
        Distance of two points in dB, see :func:`xsarcomp.codec.quantization.spacings_db`.
    rounding : float, 0..0.5
        0.5 rounds to the nearest integer; less widens the zone that becomes zero.

    Returns
    -------
    ndarray of int32, same shape
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels

    symbols = np.empty(latents.shape, np.int32)
    spacings_db = np.ascontiguousarray(spacings_db, np.float64)
    kernels.round_to_zero(np.ascontiguousarray(latents, np.float64), spacings_db, rounding, symbols)
    return symbols


def dequantize(
    points: NDArray[np.int32], shifts: NDArray[np.float32], spacings_db: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Latents from points, at the centroid of what each point stands for.

    Parameters
    ----------
    points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        See :func:`xsarcomp.codec.quantization.points_of`.
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        Distance of the reconstruction from the points, towards zero, in units of the spacing.
    spacings_db : ndarray of float64, shape (latent=64,)
        Distance of two points in dB, see :func:`xsarcomp.codec.quantization.spacings_db`.

    Returns
    -------
    ndarray of float32, same shape
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels

    padded = np.zeros((len(shifts), 1 + SHIFT_CLASSES))
    padded[:, 1:] = shifts.astype(np.float32)
    latents = np.empty(points.shape, np.float32)
    spacings = np.asarray(spacings_db, np.float32).astype(np.float64)
    decoder_kernels.dequantize(np.ascontiguousarray(points, np.int32), padded, spacings, latents)
    return latents


POINT_SPACING = 0.5625
"""Distance of two points of the grid in steps. At one half, a quantizer alone would be as fine as that of the other
channels; the path makes up for a little more, so that both kinds of channels pay the same for a decibel."""


def spacings_db(step_db: float, trellised: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in dB of the points that symbols of each channel stand for, shape (latent=64,)."""
    return np.where(trellised, POINT_SPACING * step_db, step_db)


def points_of(symbols: NDArray[np.int32], trellised: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Points of the grid that symbols stand for; in channels without trellis the symbols themselves.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    trellised : ndarray of bool, shape (latent=64,)
        The channels with trellis.

    Returns
    -------
    ndarray of int32, same shape
        ``symbols`` itself if no channel has a trellis.
    """
    if not trellised.any():
        return symbols
    with FIRST_USE:
        from xsarcomp.codec.kernels import trellis as trellis_kernels

    points = np.array(symbols, np.int32, order="C")
    channels = np.array([channel for channel in CHANNEL_ORDER if trellised[channel]])
    trellis_kernels.replace_by_points(channels, points)
    return points


def symbols_of(points: NDArray[np.int32], trellised: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Symbols of points that lie on a path; the inverse of :func:`points_of`."""
    symbols = points.copy()
    chosen = points[:, trellised]
    symbols[:, trellised] = np.sign(chosen) * ((np.abs(chosen) + 1) >> 1)
    return symbols


class QuantizerStates:
    """The states of all blocks of a chunk, while its channels are gone through in coding order.

    Parameters
    ----------
    shape : tuple of int
        (plane, y_latent, x_latent).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        with FIRST_USE:
            from xsarcomp.codec.kernels import trellis as trellis_kernels

        self._kernels = trellis_kernels
        self._states = np.zeros(shape, np.uint8)

    @property
    def quantizers(self) -> NDArray[np.uint8]:
        """Quantizer of each block's next symbol, 0 or 1, shape (plane, y_latent, x_latent)."""
        return self._states & 1

    def advance(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        """Take in the symbols of a channel, shape (plane, y_latent, x_latent), and return their points."""
        points = np.array(symbols, np.int32, order="C")
        self._kernels.advance(self._states.reshape(-1), points.reshape(-1))
        return points
