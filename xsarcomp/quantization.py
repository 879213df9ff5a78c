"""Latents to integer symbols and back, with a step in dB."""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.compiled import FIRST_USE

SHIFT_CLASSES = 3  # magnitudes 1, 2, and 3 or more have their own reconstruction point


def nearest_anchor(step_db: float, anchor_steps_db: NDArray[np.float64]) -> int:
    """Index of the table set whose step is nearest on a logarithmic scale."""
    return int(np.argmin(np.abs(np.log(np.asarray(anchor_steps_db)) - np.log(step_db))))


def quantize_deadzone(latents: NDArray[np.float64], step_db: float, rounding: float = 0.4) -> NDArray[np.int32]:
    """Round latents in units of the step towards zero's side.

    Parameters
    ----------
    latents : ndarray of float64, any shape, dB
    step_db : float
    rounding : float, 0..0.5
        0.5 rounds to the nearest integer; less widens the zone that becomes zero.

    Returns
    -------
    ndarray of int32, same shape
    """
    with FIRST_USE:
        from xsarcomp import kernels

    symbols = np.empty(latents.shape, np.int32)
    kernels.round_to_zero(np.ascontiguousarray(latents, np.float64).reshape(-1), step_db, rounding, symbols.reshape(-1))
    return symbols


def dequantize(symbols: NDArray[np.int32], shifts: NDArray[np.float32], step_db: float) -> NDArray[np.float32]:
    """Latents from symbols, at the centroid of what each symbol stands for.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        Distance of the reconstruction points from the integers, towards zero, in steps.
    step_db : float
        Quantisation step in dB.

    Returns
    -------
    ndarray of float32, same shape
    """
    classes = np.minimum(np.abs(symbols), SHIFT_CLASSES)
    padded = np.concatenate([np.zeros((len(shifts), 1), np.float32), shifts.astype(np.float32)], axis=1)
    channel = np.arange(symbols.shape[1])[:, None, None]
    return ((symbols - np.sign(symbols) * padded[channel, classes]) * np.float32(step_db)).astype(np.float32)
