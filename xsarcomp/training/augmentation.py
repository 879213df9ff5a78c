"""Augmentations that leave a patch a believable SAR image.

All functions take backscatter in decibel and return a new array or a view; nothing is changed in place.
Deliberately absent are additive noise (speckle is multiplicative), interpolating rotations and elastic
deformation (they smooth speckle, so the network would learn a texture that no sensor delivers), and contrast
changes (a factor on decibel values is not a physical operation).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError

DECIBEL_PER_NEPER = 10.0 / np.log(10.0)
"""Decibel of a power ratio of e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """Random changes of a patch."""

    flips: bool = True
    """Mirror rows and columns, each with probability one half."""

    transposes: bool = True
    """Exchange rows and columns with probability one half; with `flips`: all 90-degree rotations."""

    gain_db: float = 0.0
    """Half width in dB of the uniform random gain of a whole patch; 0 switches it off."""

    speckle_looks: float | None = None
    """Looks of additional synthetic speckle; None (default) adds none."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gain_db) and self.gain_db >= 0):
            raise ConfigurationError(
                f"gain_db is {self.gain_db}, expected a finite number >= 0. Give the half width in dB, such as 2."
            )
        if self.speckle_looks is not None and not (np.isfinite(self.speckle_looks) and self.speckle_looks > 0):
            raise ConfigurationError(
                f"speckle_looks is {self.speckle_looks}, expected a number of looks > 0. Use None to add no speckle."
            )


def flip(decibel: NDArray[np.float32], *, rows: bool = False, columns: bool = False) -> NDArray[np.float32]:
    """Mirror a patch.

    Speckle has no handedness, so its statistics survive. Layover and shadow change sides, as they do for the
    opposite look direction: fine for compression, to be switched off for a model that has to know the look
    direction.

    Parameters
    ----------
    decibel : ndarray of float32, shape (y, x)
        Backscatter in dB.
    rows, columns : bool
        Reverse the order of the rows (y) or of the columns (x).

    Returns
    -------
    ndarray of float32, shape (y, x)
        A view of `decibel`.
    """
    return decibel[:: -1 if rows else 1, :: -1 if columns else 1]


def transpose(decibel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Exchange rows and columns.

    Range and azimuth change places. For 10 m GRD (20 by 22 m resolution) the correlation of speckle is nearly
    the same in both directions, and map projection turns both anyway. Switch it off for data with clearly
    different resolutions, such as slant-range images.

    Parameters
    ----------
    decibel : ndarray of float32, shape (y, x)
        Backscatter in dB.

    Returns
    -------
    ndarray of float32, shape (x, y)
        A view of `decibel`.
    """
    return decibel.T


def apply_gain(decibel: NDArray[np.float32], gain_db: float) -> NDArray[np.float32]:
    """Multiply the power of a patch by a constant: an addition in dB.

    Season, moisture, incidence angle and calibration move the level of a scene by some dB without changing
    its texture. A model that has seen shifted copies does not depend on the mean level of the training
    scenes.

    Parameters
    ----------
    decibel : ndarray of float32, shape (y, x)
        Backscatter in dB.
    gain_db : float
        Gain in dB.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Backscatter in dB.
    """
    return decibel + np.float32(gain_db)


def apply_speckle(decibel: NDArray[np.float32], looks: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Multiply the power of a patch by gamma speckle of mean one.

    The factor follows Gamma(shape `looks`, scale 1 / `looks`), so the mean *power* is kept. In dB the speckle
    is log-gamma: additive, independent of the level, skewed to the dark side, with mean
    10/ln(10) (digamma(L) - ln(L)), about -1.06 dB for four looks, and variance (10/ln(10))^2 trigamma(L).

    The added speckle is white, and the data already has its own, correlated speckle: for a patch of ENL `E` the
    product has 1 / (1/E + 1/L + 1/(E L)) looks. Hence it is off by default and meant for smooth or simulated
    reflectivity.

    Parameters
    ----------
    decibel : ndarray of float32, shape (y, x)
        Backscatter in dB.
    looks : float
        Number of looks of the added speckle, > 0; not necessarily an integer.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Backscatter in dB, finite.

    References
    ----------
    Oliver and Quegan (2004), *Understanding Synthetic Aperture Radar Images*: multiplicative gamma speckle
    model.
    """
    speckle = generator.gamma(looks, 1.0 / looks, size=decibel.shape)
    # A gamma variate of few looks can underflow to zero, whose logarithm would poison the whole batch.
    speckle = np.maximum(speckle, np.finfo(np.float32).tiny)
    return (decibel + DECIBEL_PER_NEPER * np.log(speckle)).astype(np.float32)


def augment(
    decibel: NDArray[np.float32], config: AugmentationConfig, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Apply the random changes of a configuration to one patch.

    Parameters
    ----------
    decibel : ndarray of float32, shape (y, x)
        Backscatter in dB; square where `config.transposes` is set and patches are to be stacked.
    config : AugmentationConfig
        Random changes and their limits.
    generator : numpy.random.Generator
        Source of randomness. The number of draws depends only on the configuration and the shape.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Backscatter in dB.
    """
    if config.flips:
        rows, columns = generator.random(2) < 0.5
        decibel = flip(decibel, rows=bool(rows), columns=bool(columns))
    if config.transposes and generator.random() < 0.5:
        decibel = transpose(decibel)
    if config.gain_db:
        decibel = apply_gain(decibel, generator.uniform(-config.gain_db, config.gain_db))
    if config.speckle_looks is not None:
        decibel = apply_speckle(decibel, config.speckle_looks, generator)
    return decibel
