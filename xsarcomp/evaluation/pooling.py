"""Metrics of many planes together, as sums that add up piece by piece.

Errors are pooled over all valid pixels. The ENL ratio is the median over planes; other metrics of texture and structure
are means over planes, weighted by their valid pixels. Of planes larger than a piece (``plane_pair.PIECE_PIXELS``), pieces
count instead of planes.
"""

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from xsarcomp.evaluation.plane_pair import PlanePair
from xsarcomp.metrics import distribution, fidelity, speckle, structure
from xsarcomp.metrics.point_targets import compare_point_targets

# Percentiles are read from a histogram, because the errors of a long stack do not fit in memory. Its bins
# have a constant relative width of 0.1 %, from below the rounding of float32 to above any possible error.
_LOWEST_EXPONENT, _HIGHEST_EXPONENT, _BINS_PER_DECADE = -7, 4, 2500
_BINS = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) * _BINS_PER_DECADE

_WINDOW_PERCENTILE = 95.0
_TEXTURE_LAGS = (1, 8)


@dataclass(frozen=True, slots=True)
class Sums:
    """Base of sums over parts of a scene, which add up field by field.

    Numbers are added and tuples joined, unless the metadata of a field name another function of two values as "combine".
    """

    def __add__(self, other: Self) -> Self:
        totals = {}
        for each in fields(self):
            combine = each.metadata.get("combine", operator.add)
            totals[each.name] = combine(getattr(self, each.name), getattr(other, each.name))
        return type(self)(**totals)


@dataclass(frozen=True, slots=True)
class ErrorSums(Sums):
    """Sums for errors, bias, looks and edges."""

    pixels: int = 0
    """All pixels, valid or not."""
    valid_pixels: int = 0
    """Pixels that are valid in both scenes."""
    mask_mismatch_pixels: int = 0
    """Pixels that are valid in only one of the scenes."""
    squared_error: float = 0.0
    """Sum of the squared errors, dB squared."""
    largest_error: float = field(default=0.0, metadata={"combine": max})
    """Largest absolute error, dB."""
    original_power: float = 0.0
    """Sum of the power of the original (linear, m2 m-2)."""
    restored_power: float = 0.0
    """Sum of the power of the restored scene."""
    error_histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, dtype=np.int64))
    """Counts of absolute errors in bins of equal relative width, shape (bin,)."""
    enl_ratios: tuple[float, ...] = ()
    """ENL ratio of each plane."""
    edge_preservations: tuple[tuple[float, int], ...] = ()
    """Edge preservation of each plane, and its valid pixels."""

    @classmethod
    def from_pair(cls, pair: PlanePair) -> Self:
        """Measure one plane or piece.

        Parameters
        ----------
        pair : PlanePair
            Without valid pixels, only pixels and mask are counted.

        Returns
        -------
        ErrorSums
        """
        valid = pair.valid
        count = int(np.count_nonzero(valid))
        mismatch = int(np.count_nonzero(pair.original_valid ^ pair.restored_valid))
        if not count:
            return cls(pixels=valid.size, mask_mismatch_pixels=mismatch)
        errors = np.abs(pair.restored_db[valid] - pair.original_db[valid])
        return cls(
            pixels=valid.size,
            valid_pixels=count,
            mask_mismatch_pixels=mismatch,
            squared_error=float(np.sum(errors**2)),
            largest_error=float(errors.max()),
            original_power=float(pair.original_power[valid].sum()),
            restored_power=float(pair.restored_power[valid].sum()),
            error_histogram=_error_histogram(errors),
            enl_ratios=(speckle.enl_ratio(pair.original_power, pair.restored_power, valid),),
            edge_preservations=((fidelity.edge_preservation(pair.original_db, pair.restored_db, valid), count),),
        )

    @property
    def rmse_db(self) -> float:
        """Root mean square error in dB; NaN without a valid pixel."""
        return math.sqrt(self.squared_error / self.valid_pixels) if self.valid_pixels else math.nan

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of everything that was added.

        Returns
        -------
        dict of str to float or int
            Errors, ``enl_ratio``, ``edge_preservation`` and counts, see
            :func:`xsarcomp.evaluation.compare.compare_array_errors`.
        """
        return {
            "rmse_db": self.rmse_db,
            "bias_db": self._bias_db(),
            "max_error_db": self.largest_error if self.valid_pixels else math.nan,
            "p99_error_db": self._percentile_error_db(0.99),
            "psnr_db": fidelity.psnr_from_rmse(self.rmse_db),
            "enl_ratio": _median(self.enl_ratios),
            "edge_preservation": _weighted_mean(self.edge_preservations),
            "valid_pixels": self.valid_pixels,
            "pixels": self.pixels,
            "mask_mismatch_pixels": self.mask_mismatch_pixels,
        }

    def _bias_db(self) -> float:
        if not self.valid_pixels:
            return math.nan
        return 10.0 * math.log10(self.restored_power / self.original_power)

    def _percentile_error_db(self, fraction: float) -> float:
        if not self.valid_pixels:
            return math.nan
        position = int(np.searchsorted(np.cumsum(self.error_histogram), fraction * self.valid_pixels))
        if position == 0:  # the lowest bin also holds errors of zero
            return min(self.largest_error, 10.0**_LOWEST_EXPONENT)
        center = 10.0 ** (_LOWEST_EXPONENT + (position + 0.5) / _BINS_PER_DECADE)
        return min(self.largest_error, center)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneTexture:
    """Texture and structure of one plane or piece; each field but ``valid_pixels`` is a metric of the same name.

    :mod:`xsarcomp.evaluation.glossary` explains the metrics. NaN where a metric is undefined.
    """

    valid_pixels: int
    """Weight in the mean over planes."""
    ssim: float = math.nan
    ms_ssim: float = math.nan
    epd_roa_y: float = math.nan
    epd_roa_x: float = math.nan
    ks_distance: float = math.nan
    semivariogram_ratio_1: float = math.nan
    semivariogram_ratio_8: float = math.nan
    ratio_mean: float = math.nan
    ratio_variance: float = math.nan
    ratio_correlation_y: float = math.nan
    ratio_correlation_x: float = math.nan


_TEXTURE_METRICS = tuple(each.name for each in fields(PlaneTexture) if each.name != "valid_pixels")


@dataclass(frozen=True, slots=True)
class TextureSums(Sums):
    """Sums for structure, texture, distribution and point targets."""

    planes: tuple[PlaneTexture, ...] = ()
    """Metrics of each plane."""
    window_biases_db: tuple[NDArray[np.float64], ...] = ()
    """Absolute biases of the complete windows of each plane, dB: shape (window,)."""
    target_errors_db: tuple[float, ...] = ()
    """Absolute errors of the peaks of point targets, dB."""
    target_shifts: tuple[float, ...] = ()
    """Shifts of these peaks, pixels."""

    @classmethod
    def from_pair(cls, pair: PlanePair) -> Self:
        """Measure one plane or piece.

        Parameters
        ----------
        pair : PlanePair

        Returns
        -------
        TextureSums
        """
        valid = pair.valid
        if not valid.any():
            return cls(planes=(PlaneTexture(valid_pixels=0),))
        biases = distribution.window_biases_db(pair.original_power, pair.restored_power, valid)
        targets = compare_point_targets(pair.original_power, pair.restored_power, valid)
        return cls(
            planes=(_plane_texture(pair),),
            window_biases_db=(np.abs(biases[np.isfinite(biases)]),),
            target_errors_db=tuple(np.abs(targets.error_db).tolist()),
            target_shifts=tuple(np.hypot(targets.shift_y, targets.shift_x).tolist()),
        )

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of everything that was added.

        Returns
        -------
        dict of str to float or int
            Speckle, texture, structure and point targets, see :func:`xsarcomp.evaluation.compare.compare_arrays`.
        """
        biases = np.concatenate([np.empty(0), *self.window_biases_db])
        return {
            **{
                key: _weighted_mean((getattr(plane, key), plane.valid_pixels) for plane in self.planes)
                for key in _TEXTURE_METRICS
            },
            "window_bias_p95_db": float(np.percentile(biases, _WINDOW_PERCENTILE)) if biases.size else math.nan,
            "point_target_error_db": float(np.mean(self.target_errors_db)) if self.target_errors_db else math.nan,
            "point_target_shift_pixels": float(np.mean(self.target_shifts)) if self.target_shifts else math.nan,
            "point_targets": len(self.target_shifts),
        }


def _plane_texture(pair: PlanePair) -> PlaneTexture:
    powers = pair.original_power, pair.restored_power, pair.valid
    decibels = pair.original_db, pair.restored_db, pair.valid
    ratio = speckle.ratio_image_statistics(*powers)
    variograms = [structure.semivariogram_ratio(*decibels, axis=axis, lags=_TEXTURE_LAGS) for axis in (0, 1)]
    variogram_1, variogram_8 = np.mean(variograms, axis=0)
    return PlaneTexture(
        valid_pixels=int(np.count_nonzero(pair.valid)),
        ssim=fidelity.structural_similarity(*decibels),
        ms_ssim=structure.multiscale_structural_similarity(*decibels),
        epd_roa_y=structure.ratio_edge_preservation(*powers, axis=0),
        epd_roa_x=structure.ratio_edge_preservation(*powers, axis=1),
        ks_distance=distribution.kolmogorov_smirnov_distance(*decibels),
        semivariogram_ratio_1=float(variogram_1),
        semivariogram_ratio_8=float(variogram_8),
        ratio_mean=ratio.mean,
        ratio_variance=ratio.variance,
        ratio_correlation_y=ratio.correlation_y,
        ratio_correlation_x=ratio.correlation_x,
    )


def _error_histogram(errors: NDArray[np.float64]) -> NDArray[np.int64]:
    exponents = np.log10(np.maximum(errors, 10.0**_LOWEST_EXPONENT))
    bins = ((exponents - _LOWEST_EXPONENT) * _BINS_PER_DECADE).astype(np.int64)
    return np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def _weighted_mean(values_and_weights: Iterable[tuple[float, int]]) -> float:
    known = [(value, weight) for value, weight in values_and_weights if not math.isnan(value)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if known else math.nan
