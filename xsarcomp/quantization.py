"""Latents to integer symbols and back, with a step in dB."""

import numpy as np
from numpy.typing import NDArray

SHIFT_CLASSES = 3  # magnitudes 1, 2, and 3 or more have their own reconstruction point


def nearest_anchor(step_db: float, anchor_steps_db: NDArray[np.float64]) -> int:
    """Index of the table set whose step is nearest on a logarithmic scale."""
    return int(np.argmin(np.abs(np.log(np.asarray(anchor_steps_db)) - np.log(step_db))))


def quantize_deadzone(scaled: NDArray[np.float64], rounding: float = 0.4) -> NDArray[np.int32]:
    """Round latents in units of the step towards zero's side.

    Parameters
    ----------
    scaled : ndarray of float64, any shape
        Latents divided by the step.
    rounding : float, 0..0.5
        0.5 rounds to the nearest integer; less widens the zone that becomes zero.

    Returns
    -------
    ndarray of int32, same shape
    """
    return (np.sign(scaled) * np.floor(np.abs(scaled) + rounding)).astype(np.int32)


def quantize_rate_distortion(
    scaled: NDArray[np.float64],
    bins: NDArray[np.uint8],
    code_length: NDArray[np.float32],
    shifts: NDArray[np.float32],
    lagrangian: float,
) -> NDArray[np.int32]:
    """Choose for each latent the symbol with the least squared error plus weighted code length.

    The candidates are the nearest integer, the one below it, and zero.

    Parameters
    ----------
    scaled : ndarray of float64, any shape
        Latents of one channel divided by the step.
    bins : ndarray of uint8, same shape
        Context bins.
    code_length : ndarray of float32, shape (bin, magnitude)
        Bits of each magnitude; larger magnitudes cost as much as the last.
    shifts : ndarray of float32, shape (SHIFT_CLASSES,)
        Distance of the reconstruction points from the integers, towards zero, in steps.
    lagrangian : float
        Squared steps that one bit is worth.

    Returns
    -------
    ndarray of int32, same shape as ``scaled``

    References
    ----------
    Sullivan and Wiegand (1998), IEEE Signal Processing Magazine 15(6), for the Lagrangian formulation.
    """
    magnitude = np.abs(scaled)
    nearest = np.floor(magnitude + 0.5).astype(np.int32)
    chosen = np.zeros_like(nearest)
    last = code_length.shape[-1] - 1
    best = magnitude**2 + lagrangian * code_length[bins, 0]
    for candidate in (np.maximum(nearest - 1, 0), nearest):
        reconstruction = candidate - np.where(candidate > 0, shifts[np.clip(candidate, 1, SHIFT_CLASSES) - 1], 0)
        bits = code_length[bins, np.minimum(candidate, last)] + (candidate > 0)
        cost = (magnitude - reconstruction) ** 2 + lagrangian * bits
        better = cost < best
        chosen, best = np.where(better, candidate, chosen), np.where(better, cost, best)
    return (np.sign(scaled) * chosen).astype(np.int32)


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
