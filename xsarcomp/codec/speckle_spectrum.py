"""The spectrum of a scene's speckle, measured while encoding, so that decoding can make such speckle up on request.

Speckle has the same spectrum in dB wherever it is in a scene. But each product has its own: processing, resampling and
averaging shape it. At coarse steps it is lost with the speckle, and no decoder can guess it.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.lapped import BLOCK, CHANNELS, OVERLAP
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import classes_of, signal_of
from xsarcomp.radiometry.pixel_classes import VALID
from xsarcomp.tiling import equal_spans

LARGEST_PIXELS, LARGEST_WINDOWS = 2**20, 16
"""So much of a variable is looked at, but at least one plane of one window."""
PART_PIXELS = 256
"""Edge of the parts of a large plane."""
EDGE = 4
"""Latents of a block along an axis, of which some are calm: 32 pixels."""
LEAST_BLOCKS = 8


def measured_calm_variances(
    windows: Sequence[NDArray], settings: Settings, coder: LappedCoder
) -> tuple[float, ...] | None:
    """Variances of calm latents in a sample of a variable.

    Parameters
    ----------
    windows : sequence of ndarray, shape (plane, y, x)
        Backscatter, see :func:`xsarcomp.scenes.sampling.sample_windows`.
    settings : Settings
        Scale and nodata.
    coder : LappedCoder

    Returns
    -------
    tuple of 64 float or None
        See :func:`calm_variances`.
    """
    found, seen = [np.empty((0, CHANNELS))], 0
    parts = [part for values in windows for part in _parts(values)]
    for values in parts[:: max(1, len(parts) // LARGEST_WINDOWS)]:
        if seen >= LARGEST_PIXELS or min(values.shape) == 0:
            continue
        planes = values[:: max(1, values.size // LARGEST_PIXELS)]
        seen += planes.size
        classes = classes_of(planes, settings)
        signal = signal_of(planes, classes, settings, coder)
        found.append(energies(*latents_inside(signal, classes == VALID, coder)))
    return calm_variances(np.concatenate(found))


def _parts(values: NDArray) -> list[NDArray]:
    """A window in parts that are small enough to look at some of them, where it is a large plane."""
    if values.size <= LARGEST_PIXELS or len(values) > 1:
        return [values]
    rows, columns = (equal_spans(size, PART_PIXELS) for size in values.shape[1:])
    return [values[:, slice(*row), slice(*column)] for row, column in itertools.product(rows, columns)]


def latents_inside(
    signal: NDArray[np.float64], valid: NDArray[np.bool_], coder: LappedCoder
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Latents whose pixels all lie in a window, and whether these are valid.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
    valid : ndarray of bool, same shape
    coder : LappedCoder

    Returns
    -------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
    usable : ndarray of bool, shape (plane, y_latent, x_latent)
        Those without an invalid pixel in their block.
    """
    rows, columns = (max(0, size - 2 * OVERLAP) // BLOCK for size in signal.shape[1:])
    if rows == 0 or columns == 0:
        return np.empty((len(signal), CHANNELS, rows, columns)), np.empty((len(signal), rows, columns), bool)
    height, width = (BLOCK * count + 2 * OVERLAP for count in (rows, columns))
    blocks = valid[:, OVERLAP : height - OVERLAP, OVERLAP : width - OVERLAP]
    usable = blocks.reshape(len(signal), rows, BLOCK, columns, BLOCK).all(axis=(2, 4))
    return coder.analyze(np.ascontiguousarray(signal[:, :height, :width])), usable


def energies(latents: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean squares of latents over blocks of 4 x 4 of them.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
    usable : ndarray of bool, shape (plane, y_latent, x_latent)
        Blocks with any other latent are left out.

    Returns
    -------
    ndarray of float64, shape (block, latent=64), dB2
    """
    planes, channels, height, width = latents.shape
    rows, columns = height // EDGE, width // EDGE
    inside = (..., slice(rows * EDGE), slice(columns * EDGE))
    blocks = (latents[inside] ** 2).reshape(planes, channels, rows, EDGE, columns, EDGE).mean(axis=(3, 5))
    whole = usable[inside].reshape(planes, rows, EDGE, columns, EDGE).all(axis=(2, 4))
    return blocks.transpose(0, 2, 3, 1)[whole]


def calm_variances(blocks: NDArray[np.float64]) -> tuple[float, ...] | None:
    """Variances of latents where a scene is calm, which are those of its speckle: the calmer half of blocks, averaged.

    Parameters
    ----------
    blocks : ndarray of float64, shape (block, latent=64), dB2
        Of :func:`energies`.

    Returns
    -------
    tuple of 64 float or None
        dB2, with three digits, 0 for the lowest channel; None of fewer than ``LEAST_BLOCKS`` blocks.
    """
    if len(blocks) < LEAST_BLOCKS:
        return None
    usual = np.median(blocks, axis=0)
    # over all channels, each in units of its own: a sum of so many that chance hardly chooses
    unrest = (blocks[:, 1:] / np.maximum(usual[1:], 1e-12)).sum(axis=1)
    calm = blocks[np.argsort(unrest, kind="stable")[: len(blocks) // 2]].mean(axis=0)
    return (0.0, *(float(f"{variance:.3g}") for variance in calm[1:]))
