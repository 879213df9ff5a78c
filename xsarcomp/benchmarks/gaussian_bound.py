"""Bits that a block-adaptive Gaussian model of the scenes would need: a yardstick, not a codec.

Blocks of 32 x 32 pixels are transformed (DCT). Each coefficient is taken as Gaussian with a variance of its own: the
mean spectrum of the plane times a local gain, the mean of the whitened squares over 3 x 3 blocks and 5 x 5
frequencies around it. Reverse water-filling with one level for all planes gives rate and error.

Two limits of the estimate:

* It is no bound on what can be achieved. For Gaussian data of these variances no codec needs fewer bits, but backscatter
  in dB is not Gaussian, and for a given spectrum Gaussian data is the most expensive. Redundancy between polarizations
  and between blocks is not used either. A codec may therefore lie below it.
* It cannot be reached as it stands. The variances are fitted to the very plane that is measured and cost no bits here. Of
  white noise, which has nothing to fit, the estimate takes 1 % too little error (tested).

References
----------
Cover and Thomas (2006), *Elements of Information Theory*, section 10.3.3, reverse water-filling.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from xsarcomp.benchmarks.measurement import Measurement, Sweep
from xsarcomp.benchmarks.planes import Scene, fill_with_median

GAUSSIAN_BOUND = "Gaussian bound (estimate)"
"""Name in tables and plots."""
BLOCK = 32
"""Pixels along both edges of a block."""
WATER_LEVELS_DB2 = tuple(np.geomspace(0.003, 60.0, 34).tolist())
"""Largest mean square error of a coefficient, dB2; from below 0.1 to above 2 bits per pixel on all kinds of products."""

_BLOCKS_AROUND, _FREQUENCIES_AROUND = 3, 5


def gaussian_sweep(scenes: Sequence[Scene]) -> Sweep:
    """Estimate rate and error of the model on scenes.

    Parameters
    ----------
    scenes : sequence of Scene

    Returns
    -------
    dict of float to list of list of Measurement
        By water level, dB2. Blocks count with the share of their pixels that is valid.
    """
    measurements: Sweep = {level: [[] for _ in scenes] for level in WATER_LEVELS_DB2}
    for index, scene in enumerate(scenes):
        for plane in scene.planes:
            variances, shares = coefficient_variances(plane)
            for level in WATER_LEVELS_DB2:
                measurements[level][index].append(_fill_to_level(level, variances, shares, plane))
    return measurements


def coefficient_variances(plane_db: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the model to a plane.

    Parameters
    ----------
    plane_db : ndarray of float32, shape (y, x)
        Backscatter in dB, NaN where invalid.

    Returns
    -------
    variances : ndarray of float64, shape (block row, block column, BLOCK, BLOCK)
        dB2, of the coefficients of an orthonormal DCT.
    shares : ndarray of float64, shape (block row, block column)
        Share of the pixels of a block that is valid, 0..1.
    """
    around = [(0, -size % BLOCK) for size in plane_db.shape]
    coefficients = fft.dctn(
        _blocks(np.pad(fill_with_median(plane_db), around, mode="symmetric").astype(np.float64)),
        axes=(2, 3),
        norm="ortho",
    )
    valid = np.pad(np.isfinite(plane_db), around).astype(np.float64)
    shares = _blocks(valid).mean(axis=(2, 3))
    # blocks count with their valid share here too: what fills the gaps is smooth and would pass for quiet ground
    weights = shares[..., np.newaxis, np.newaxis]
    coefficients[..., 0, 0] -= np.average(coefficients[..., 0, 0], weights=shares)
    squares = np.square(coefficients, out=coefficients)
    spectrum = np.sum(weights * squares, axis=(0, 1)) / shares.sum() + np.finfo(np.float64).tiny
    gains = ndimage.uniform_filter(
        weights * squares / spectrum,
        size=(_BLOCKS_AROUND, _BLOCKS_AROUND, _FREQUENCIES_AROUND, _FREQUENCIES_AROUND),
        mode="nearest",
    )
    gains /= np.maximum(
        ndimage.uniform_filter(weights, size=(_BLOCKS_AROUND, _BLOCKS_AROUND, 1, 1), mode="nearest"), 1e-9
    )
    # rounding in the running sums of the filter can leave tiny negative numbers
    return np.maximum(gains, 0.0) * spectrum, shares


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """View of a plane as blocks, shape (block row, block column, BLOCK, BLOCK)."""
    rows, columns = (size // BLOCK for size in plane.shape)
    return plane.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)


def _fill_to_level(
    level: float, variances: NDArray[np.float64], shares: NDArray[np.float64], plane_db: NDArray[np.float32]
) -> Measurement:
    """Reverse water-filling of a plane: coefficients above the level get bits, the others err by their variance."""
    bits = 0.5 * np.log2(np.maximum(variances / level, 1.0)).sum(axis=(2, 3))
    errors = np.minimum(variances, level).sum(axis=(2, 3))
    return Measurement(
        coded_bits=float(np.sum(bits * shares)),
        pixels=plane_db.size,
        valid_pixels=int(np.count_nonzero(np.isfinite(plane_db))),
        squared_error=float(np.sum(errors * shares)),
    )
