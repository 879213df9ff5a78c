"""Figures of many planes together, as sums that add up.

Errors are pooled over all valid pixels. The ENL ratio is the median over planes; other figures of texture are means over
planes, weighted with their valid pixels. Of planes larger than a piece (`plane_pair.PIECE_PIXELS`), pieces count instead.
"""

import math
from dataclasses import dataclass, field, fields

import numpy as np

from xsarcomp.metrics import distribution, fidelity, speckle, structure
from xsarcomp.metrics.point_targets import compare_point_targets

# Percentiles are read from a histogram, because the errors of a long stack do not fit in memory. Its bins
# have a constant relative width of 0.1 %, from below the rounding of float32 to above any possible error.
_LOWEST_EXPONENT, _HIGHEST_EXPONENT, _BINS_PER_DECADE = -7, 4, 2500
_BINS = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) * _BINS_PER_DECADE

_WINDOW_PERCENTILE = 95.0
_TEXTURE_LAGS = (1, 8)


class Sums:
    """What both kinds of figures share: sums of two parts of a scene add up field by field."""

    __slots__ = ()

    def __add__(self, other):
        parts = {}
        for each in fields(self):
            mine, others = getattr(self, each.name), getattr(other, each.name)
            parts[each.name] = max(mine, others) if each.name == "largest_error" else mine + others
        return type(self)(**parts)


@dataclass(slots=True)
class ErrorSums(Sums):
    """Errors, bias, looks and edges of the planes seen so far."""

    pixels: int = 0
    valid_pixels: int = 0
    mask_mismatch_pixels: int = 0
    squared_error: float = 0.0
    largest_error: float = 0.0
    original_power: float = 0.0
    restored_power: float = 0.0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, dtype=np.int64))
    enl_ratios: tuple = ()
    edges: tuple = ()

    @classmethod
    def of(cls, pair):
        """Measure one plane.

        Parameters
        ----------
        pair : PlanePair

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
            histogram=_error_histogram(errors),
            enl_ratios=(speckle.enl_ratio(pair.original_power, pair.restored_power, valid),),
            edges=((fidelity.edge_preservation(pair.original_db, pair.restored_db, valid), count),),
        )

    @property
    def rmse_db(self):
        """Root mean square error in dB; NaN without a valid pixel."""
        return math.sqrt(self.squared_error / self.valid_pixels) if self.valid_pixels else math.nan

    def figures(self):
        """Return the figures as plain numbers, see `xsarcomp.evaluation.compare.compare_arrays`."""
        return {
            "rmse_db": self.rmse_db,
            "bias_db": self._bias_db(),
            "max_error_db": self.largest_error if self.valid_pixels else math.nan,
            "p99_error_db": self._percentile_error_db(0.99),
            "psnr_db": fidelity.psnr_from_rmse(self.rmse_db),
            "enl_ratio": _median(self.enl_ratios),
            "edge_preservation": _weighted_mean(self.edges),
            "valid_pixels": self.valid_pixels,
            "pixels": self.pixels,
            "mask_mismatch_pixels": self.mask_mismatch_pixels,
        }

    def _bias_db(self):
        if not self.valid_pixels:
            return math.nan
        return 10.0 * math.log10(self.restored_power / self.original_power)

    def _percentile_error_db(self, fraction):
        if not self.valid_pixels:
            return math.nan
        position = int(np.searchsorted(np.cumsum(self.histogram), fraction * self.valid_pixels))
        if position == 0:  # the lowest bin also holds the exact copies
            return min(self.largest_error, 10.0**_LOWEST_EXPONENT)
        center = 10.0 ** (_LOWEST_EXPONENT + (position + 0.5) / _BINS_PER_DECADE)
        return min(self.largest_error, center)


@dataclass(slots=True)
class TextureSums(Sums):
    """Structure, texture, distribution and point targets of the planes seen so far."""

    planes: tuple = ()
    """For each plane its figures and its number of valid pixels."""
    window_biases_db: tuple = ()
    """For each plane the biases of its complete windows: ndarray of float64, shape (window,)."""
    target_errors_db: tuple = ()
    """Absolute errors of the peaks of point targets."""
    target_shifts: tuple = ()
    """Their shifts in pixels."""

    @classmethod
    def of(cls, pair):
        """Measure one plane.

        Parameters
        ----------
        pair : PlanePair

        Returns
        -------
        TextureSums
        """
        valid = pair.valid
        count = int(np.count_nonzero(valid))
        if not count:
            return cls(planes=((dict.fromkeys(_TEXTURE_KEYS, math.nan), 0),))
        powers = pair.original_power, pair.restored_power, valid
        biases = distribution.window_biases_db(*powers)
        targets = compare_point_targets(*powers)
        return cls(
            planes=((_texture_figures(pair), count),),
            window_biases_db=(np.abs(biases[np.isfinite(biases)]),),
            target_errors_db=tuple(np.abs(targets.error_db).tolist()),
            target_shifts=tuple(np.hypot(targets.shift_y, targets.shift_x).tolist()),
        )

    def figures(self):
        """Return the figures as plain numbers, see `xsarcomp.evaluation.compare.compare_arrays`."""
        biases = np.concatenate([np.empty(0), *self.window_biases_db])
        return {
            **{key: _weighted_mean([(plane[key], count) for plane, count in self.planes]) for key in _TEXTURE_KEYS},
            "window_bias_p95_db": float(np.percentile(biases, _WINDOW_PERCENTILE)) if biases.size else math.nan,
            "point_target_error_db": float(np.mean(self.target_errors_db)) if self.target_errors_db else math.nan,
            "point_target_shift_pixels": float(np.mean(self.target_shifts)) if self.target_shifts else math.nan,
            "point_targets": len(self.target_shifts),
        }


_TEXTURE_KEYS = (
    "ssim",
    "ms_ssim",
    "epd_roa_y",
    "epd_roa_x",
    "ks_distance",
    *(f"semivariogram_ratio_{lag}" for lag in _TEXTURE_LAGS),
    "ratio_mean",
    "ratio_variance",
    "ratio_correlation_y",
    "ratio_correlation_x",
)


def _texture_figures(pair):
    powers = pair.original_power, pair.restored_power, pair.valid
    decibels = pair.original_db, pair.restored_db, pair.valid
    ratio = speckle.ratio_image_statistics(*powers)
    variograms = [structure.semivariogram_ratio(*decibels, axis=axis, lags=_TEXTURE_LAGS) for axis in (0, 1)]
    values = (
        fidelity.structural_similarity(*decibels),
        structure.multiscale_structural_similarity(*decibels),
        structure.ratio_edge_preservation(*powers, axis=0),
        structure.ratio_edge_preservation(*powers, axis=1),
        distribution.kolmogorov_smirnov_distance(*decibels),
        *(float(value) for value in np.mean(variograms, axis=0)),
        ratio.mean,
        ratio.variance,
        ratio.correlation_y,
        ratio.correlation_x,
    )
    return dict(zip(_TEXTURE_KEYS, values, strict=True))


def _error_histogram(errors):
    exponents = np.log10(np.maximum(errors, 10.0**_LOWEST_EXPONENT))
    bins = ((exponents - _LOWEST_EXPONENT) * _BINS_PER_DECADE).astype(np.int64)
    return np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)


def _median(values):
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def _weighted_mean(values_and_weights):
    known = [(value, weight) for value, weight in values_and_weights if not math.isnan(value)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if known else math.nan
