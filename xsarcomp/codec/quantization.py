"""Latents to integer symbols and back, with a step in dB."""

import numpy as np
from numpy.typing import NDArray

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
        Distance of two points in dB, see :func:`xsarcomp.codec.trellis.spacings_db`.
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
        See :func:`xsarcomp.codec.trellis.points_of`.
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        Distance of the reconstruction from the points, towards zero, in units of the spacing.
    spacings_db : ndarray of float64, shape (latent=64,)
        Distance of two points in dB, see :func:`xsarcomp.codec.trellis.spacings_db`.

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
