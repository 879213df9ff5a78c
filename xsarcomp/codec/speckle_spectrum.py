"""The spectrum of a scene's speckle, measured while encoding, so that a decoder can synthesize such speckle.

It is described by the variances of the latents in homogeneous areas, where they come only from speckle. Speckle has the same
spectrum in dB everywhere in a scene. But each product has its own: processing, resampling and averaging shape it. At coarse
steps the spectrum is lost with the speckle, and no decoder can estimate it. Metadata hold the variances under the key
``calm_variances_db2``.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.lapped import BLOCK, CHANNELS, OVERLAP
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import classify_backscatter, signal_from_backscatter
from xsarcomp.radiometry.pixel_classes import VALID
from xsarcomp.tiling import equal_spans

LARGEST_PIXELS, LARGEST_WINDOWS = 2**20, 16
"""Pixels and windows of a variable that are measured at most; at least one plane of one window is measured."""
PART_PIXELS = 256
"""Edge in pixels of the parts into which a large plane is cut."""
EDGE = 4
"""Latents along the edge of a block that is homogeneous or not: 32 pixels."""
LEAST_BLOCKS = 8
"""Blocks that are needed for a measurement."""


def measure_homogeneous_variances(
    windows: Sequence[NDArray], settings: Settings, coder: LappedCoder
) -> tuple[float, ...] | None:
    """Measure the variances of latents in the homogeneous areas of a sample of a variable.

    Parameters
    ----------
    windows : sequence of ndarray, shape (plane, y, x)
        Backscatter, see :func:`xsarcomp.scenes.sampling.sample_windows`.
    settings : Settings
        Scale and nodata.
    coder : LappedCoder
        Model whose transform makes the latents.

    Returns
    -------
    tuple of 64 float or None
        See :func:`homogeneous_variances`.
    """
    energies, measured_pixels = [np.empty((0, CHANNELS))], 0
    parts = [part for values in windows for part in _parts(values)]
    for values in parts[:: max(1, len(parts) // LARGEST_WINDOWS)]:
        if measured_pixels >= LARGEST_PIXELS or min(values.shape) == 0:
            continue
        planes = values[:: max(1, values.size // LARGEST_PIXELS)]
        measured_pixels += planes.size
        classes = classify_backscatter(planes, settings)
        signal = signal_from_backscatter(planes, classes, settings, coder)
        energies.append(block_energies(*latents_inside(signal, classes == VALID, coder)))
    return homogeneous_variances(np.concatenate(energies))


def _parts(values: NDArray) -> list[NDArray]:
    """Cut a window that is one large plane into parts, so that some of them can be measured; return others whole."""
    if values.size <= LARGEST_PIXELS or len(values) > 1:
        return [values]
    rows, columns = (equal_spans(size, PART_PIXELS) for size in values.shape[1:])
    return [values[:, slice(*row), slice(*column)] for row, column in itertools.product(rows, columns)]


def latents_inside(
    signal: NDArray[np.float64], valid: NDArray[np.bool_], coder: LappedCoder
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute the latents of a window that depend only on pixels inside it.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
        Filled signal of the window.
    valid : ndarray of bool, same shape
        Valid pixels.
    coder : LappedCoder
        Model whose transform is used.

    Returns
    -------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
    usable : ndarray of bool, shape (plane, y_latent, x_latent)
        Latents without an invalid pixel in their block.
    """
    rows, columns = (max(0, size - 2 * OVERLAP) // BLOCK for size in signal.shape[1:])
    if rows == 0 or columns == 0:
        return np.empty((len(signal), CHANNELS, rows, columns)), np.empty((len(signal), rows, columns), bool)
    height, width = (BLOCK * count + 2 * OVERLAP for count in (rows, columns))
    blocks = valid[:, OVERLAP : height - OVERLAP, OVERLAP : width - OVERLAP]
    usable: NDArray[np.bool_] = np.all(blocks.reshape(len(signal), rows, BLOCK, columns, BLOCK), axis=(2, 4))
    return coder.analyze(np.ascontiguousarray(signal[:, :height, :width])), usable


def block_energies(latents: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the mean squares of latents over blocks of 4 x 4 latents.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        See :func:`latents_inside`.
    usable : ndarray of bool, shape (plane, y_latent, x_latent)
        Usable latents; blocks with any other are left out.

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


def homogeneous_variances(blocks: NDArray[np.float64]) -> tuple[float, ...] | None:
    """Average the more homogeneous half of the blocks; variances there are those of speckle.

    Parameters
    ----------
    blocks : ndarray of float64, shape (block, latent=64), dB2
        Mean squares, see :func:`block_energies`.

    Returns
    -------
    tuple of 64 float or None
        Variances in dB2 with three digits, 0 for the lowest channel; None if there are fewer than ``LEAST_BLOCKS`` blocks.
    """
    if len(blocks) < LEAST_BLOCKS:
        return None
    usual = np.median(blocks, axis=0)
    # summed over all channels, each in units of its median: with so many terms the choice hardly depends on chance
    heterogeneity = (blocks[:, 1:] / np.maximum(usual[1:], 1e-12)).sum(axis=1)
    variances = blocks[np.argsort(heterogeneity, kind="stable")[: len(blocks) // 2]].mean(axis=0)
    return (0.0, *(float(f"{variance:.3g}") for variance in variances[1:]))
