"""Synthetic speckle in place of the speckle that quantization removed, for users who ask for ``restore="speckle"``.

A decoder returns the expected value of details that were not coded, so speckle is smoothed and the equivalent number of looks
rises. Here the missing variance is added as noise to the latents, which gives it the correlation of speckle, and is then
skewed like speckle in dB. None of it was measured: pixels are further from the original than without it, statistics are
nearer (``docs/decisions/0013-speckle-restoration.md``).

Noise is a function of the plane's key, the channel and the absolute place of the latent. It does not depend on windows,
chunks, order or threads. Its expected power is 1, so that mean powers stay those of plain decoding.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.kernels.compile import FIRST_USE

RESTORATIONS = ("speckle",)
"""Values of the argument ``restore`` of ``decode``."""
POINT_CLASSES = 3
"""Classes of points that differ in their missing variance: 0, +-1 and all others."""
USUAL_HOMOGENEOUS_VARIANCES_DB2 = (
    0.0, 27.2, 15.8, 8.21, 3.73, 1.34, 0.475, 0.202,
    27.2, 20.1, 12.0, 6.58, 3.04, 1.15, 0.411, 0.184,
    15.8, 12.0, 8.04, 4.4, 2.04, 0.843, 0.313, 0.149,
    8.21, 6.58, 4.4, 2.41, 1.16, 0.488, 0.209, 0.113,
    3.73, 3.04, 2.04, 1.16, 0.584, 0.272, 0.13, 0.0799,
    1.34, 1.15, 0.843, 0.488, 0.272, 0.14, 0.0799, 0.0578,
    0.475, 0.411, 0.313, 0.209, 0.13, 0.0799, 0.0505, 0.0376,
    0.202, 0.184, 0.149, 0.113, 0.0799, 0.0578, 0.0376, 0.0291,
)  # fmt: skip
"""Variances of latents in homogeneous areas, for scenes whose metadata have none: medians over the training chips, see
:mod:`xsarcomp.codec.speckle_spectrum`."""

Places = tuple[NDArray[np.intp], NDArray[np.bool_]]
"""Absolute places on an axis of the latent grid, and where the axis is reversed because the scene is mirrored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeckleLaw:
    """Variance of latents that decoding loses, as a function of step, frequency and point.

    Constants were fitted to training chips of 10 m by :mod:`xsarcomp.models.refiner.speckle_law`. They are no part of a
    model file, so that they serve models that users train too.
    """

    coarsest: tuple[float, float] = (0.118, 0.1)
    """Largest missing variance of a point 0 in squared steps, in channels without trellis and with trellis."""
    knee: float = 3.0
    """Sharpness of the transition from ``coarsest`` to the variance of the latents, where that is smaller."""
    others: tuple[tuple[float, float], tuple[float, float]] = ((0.063, 0.076), (0.066, 0.095))
    """Missing variance of points +-1 and of all others in squared steps, without trellis and with trellis."""
    steps_db: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    """Steps in dB between which ``shares`` is interpolated on a logarithmic scale."""
    shares: tuple[tuple[tuple[float, ...], ...], ...] = (
        ((0.2, 0.2, 0.3, 0.78, 0.78), (0.55, 0.6, 0.9, 0.82, 0.78)),
        ((0.3, 0.3, 0.35, 0.88, 0.88), (0.9, 0.9, 1.08, 0.9, 0.88)),
    )
    """Share of the missing variance that is added at these steps, for low and for high frequencies, without network and with
    network. It was fitted to the equivalent number of looks. Low frequencies already have variance from the texture gain, and
    without a network the few latents that are not zero stand out more."""
    middle: float = 4.0
    """Sum of vertical and horizontal frequency in the middle of the transition from low to high frequencies."""

    def missing_variances(
        self, step_db: float, has_trellis: NDArray[np.bool_], homogeneous_db2: NDArray[np.float64], *, has_network: bool
    ) -> NDArray[np.float32]:
        """Compute the variance to add to latents.

        Parameters
        ----------
        step_db : float
            Quantization step in dB.
        has_trellis : ndarray of bool, shape (latent=64,)
            Channels with trellis.
        homogeneous_db2 : ndarray of float64, shape (latent=64,), dB2
            Variances of latents in homogeneous areas, see :func:`xsarcomp.codec.speckle_spectrum.homogeneous_variances`.
        has_network : bool
            Whether the model has a network.

        Returns
        -------
        ndarray of float32, shape (latent=64, POINT_CLASSES), dB2 times 64 for the lowest channel
        """
        by_trellis = has_trellis.astype(int)
        coarsest = np.array(self.coarsest)[by_trellis] * step_db**2
        missing = np.empty((lapped.CHANNELS, POINT_CLASSES))
        missing[:, 0] = (
            homogeneous_db2 * coarsest / (homogeneous_db2**self.knee + coarsest**self.knee) ** (1 / self.knee)
        )
        missing[:, 1:] = np.array(self.others)[by_trellis] * step_db**2
        missing[0] = step_db**2 / 12  # levels are far from zero and rounded to the nearest
        low, high = (np.interp(np.log(step_db), np.log(self.steps_db), shares) for shares in self.shares[has_network])
        frequency = np.add.outer(np.arange(lapped.BLOCK), np.arange(lapped.BLOCK)).ravel()
        share = low + (high - low) / (1 + np.exp(self.middle - frequency))
        return (missing * share[:, None]).astype(np.float32)


LAW = SpeckleLaw()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Speckle:
    """Speckle to synthesize in some planes."""

    keys: NDArray[np.uint64]
    """Seeds of the noise, different for each plane, shape (plane,)."""
    homogeneous_db2: NDArray[np.float64]
    """Variances of latents in homogeneous areas, shape (latent=64,), dB2."""
    law: SpeckleLaw = LAW
    """Variance that is missing."""
    scales: NDArray[np.float32] | None = None
    """Factors of that variance, shape (plane,), see :mod:`xsarcomp.codec.speckle_scale`; None for 1."""
    scales_step_db: float = 1.0
    """Step at which the factors were found."""

    def __getitem__(self, planes: slice) -> "Speckle":
        return replace(self, keys=self.keys[planes], scales=None if self.scales is None else self.scales[planes])

    def scales_at(self, step_db: float) -> NDArray[np.float32]:
        """Factors at a step, shape (plane,): they fade to 1 at half and at twice the step at which they were found."""
        if self.scales is None:
            return np.ones(len(self.keys), np.float32)
        weight = max(0.0, 1 - abs(math.log2(step_db / self.scales_step_db)))
        return np.asarray(self.scales, np.float32) ** np.float32(weight)


def synthesize_with_speckle(
    symbols: NDArray[np.int32],
    coder: LappedCoder,
    step_db: float,
    speckle: Speckle,
    rows: Places,
    columns: Places,
) -> NDArray[np.float32]:
    """Decode symbols to their signal with synthetic speckle: the signal of :meth:`LappedCoder.synthesize`, and noise.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        With ``coder.latent_reach`` latents around.
    coder : LappedCoder
        Of the model that encoded.
    step_db : float
        Quantization step in dB.
    speckle : Speckle
        Speckle of these planes.
    rows, columns : pair of (absolute place, is_reversed)
        Places of all latents of ``symbols`` in the scene, see :func:`xsarcomp.tiling.reflect_indices`.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
        y = 8 * (y_latent - 2 * latent_reach), likewise x.
    """
    points = coder.points(symbols, step_db)
    latents = coder.reconstruct_with_texture(points, step_db)
    return synthesize_latents_with_speckle(points, latents, coder, step_db, speckle, rows, columns)


def synthesize_latents_with_speckle(
    points: NDArray[np.int32],
    latents: NDArray[np.float32],
    coder: LappedCoder,
    step_db: float,
    speckle: Speckle,
    rows: Places,
    columns: Places,
) -> NDArray[np.float32]:
    """Synthesize latents with synthetic speckle: :func:`synthesize_with_speckle` after the network.

    Parameters
    ----------
    points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        See :meth:`LappedCoder.points`.
    latents : ndarray of float32, dB
        See :meth:`LappedCoder.reconstruct_with_texture`; they stay as they are.
    coder, step_db, speckle, rows, columns
        As for :func:`synthesize_with_speckle`.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import speckle as speckle_kernels

    margin = coder.latent_reach - 1  # latents that only the network reads
    inside = (slice(margin, points.shape[2] - margin), slice(margin, points.shape[3] - margin))
    noise = np.empty(latents.shape, np.float32)
    variances = np.empty((len(latents), *latents.shape[2:]), np.float32)
    places = [part[cut] for axis, cut in zip((rows, columns), inside, strict=True) for part in axis]
    speckle_kernels.draw(np.ascontiguousarray(speckle.keys), *places, noise)
    has_network = coder.card.network is not None
    missing = speckle.law.missing_variances(
        step_db, coder.channels_with_trellis(step_db), speckle.homogeneous_db2, has_network=has_network
    )
    gained = np.float32(1 - coder.texture_gain(step_db) ** -2)
    inner = np.ascontiguousarray(points[:, :, *inside])
    speckle_kernels.scale(inner, latents, missing, speckle.scales_at(step_db), gained, noise, variances)
    signal = np.ascontiguousarray(lapped.synthesize(latents, coder.basis))
    basis = coder.basis / lapped.BASIS_STEPS
    taps = np.stack([basis[:, 0], (basis**2).sum(axis=1)]).astype(np.float32)
    lowest, noise = np.ascontiguousarray(latents[:, 0]), np.ascontiguousarray(lapped.synthesize(noise, coder.basis))
    speckle_kernels.add_skewed(lowest, taps, variances, noise, signal)
    return signal
