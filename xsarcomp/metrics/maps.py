"""Effects of compression on the maps that users make: open water, and change between two dates.

The maps are made with the simplest methods in use, a threshold after averaging over a few pixels. Original and restored
scenes are treated alike; parameters that are estimated from data are estimated from the original only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from xsarcomp.errors import DimensionError, RadiometryError

WATER_AVERAGE_PIXELS = 3
"""Side of the window over which power is averaged before the water threshold."""
CHANGE_AVERAGE_PIXELS = 5
"""Side of the window over which power is averaged before the log-ratio."""
CHANGE_THRESHOLD_DB = 3.0
"""Change of the averaged power that counts, in dB: a factor of 2."""

_ROUNDING_DB = 1e-6  # spread that averaging leaves in constant power


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterAgreement:
    """Agreement of the water maps of original and restored; fractions are of the valid pixels."""

    threshold_db: float
    """Averaged backscatter below it is water, dB."""
    intersection_over_union: float
    """Agreement of both maps, 0..1; NaN where neither shows water."""
    original_water_fraction: float
    """Share of water in the original, 0..1."""
    restored_water_fraction: float
    """Share of water in the restored scene, 0..1."""
    original_reference_iou: float
    """Intersection over union of the original map with the given mask, 0..1; NaN without a mask."""
    restored_reference_iou: float
    """Intersection over union of the restored map with the given mask; its difference to the original's is the loss."""
    valid_pixels: int
    """Valid pixels."""
    original_water_pixels: int
    """Pixels of water in the original."""
    intersection_pixels: int
    """Pixels of water in both."""
    union_pixels: int
    """Pixels of water in one or in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAgreement:
    """Agreement of the change maps of original and restored."""

    intersection_over_union: float
    """Agreement of both maps, 0..1; NaN where neither shows a change."""
    changed_pixels: int
    """Changed pixels of the original pair."""
    unchanged_pixels: int
    """Valid pixels of the original pair that have not changed."""
    false_alarm_pixels: int
    """Pixels that changed in the restored pair only."""
    missed_pixels: int
    """Pixels that changed in the original pair only."""

    @property
    def false_alarm_rate(self) -> float:
        """False alarms over unchanged pixels, 0..1; NaN where all has changed."""
        return self.false_alarm_pixels / self.unchanged_pixels if self.unchanged_pixels else math.nan

    @property
    def miss_rate(self) -> float:
        """Missed over changed pixels, 0..1; NaN where nothing has changed."""
        return self.missed_pixels / self.changed_pixels if self.changed_pixels else math.nan


def compare_water_maps(
    original_power: NDArray[np.floating],
    restored_power: NDArray[np.floating],
    valid: NDArray[np.bool_],
    *,
    threshold_db: float | None = None,
    reference: ArrayLike | None = None,
) -> WaterAgreement:
    """Compare the water maps of original and restored, and both with a mask drawn by hand.

    Power is averaged over the valid pixels of 3 x 3; averages below the threshold are water. VV suits this best.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    threshold_db : float, optional
        Threshold in dB, the same for both. The default is Otsu's on the averaged original in dB, which finds water
        only where a good part of the scene is water. -17 dB is usual for VV.
    reference : array_like of int, shape (y, x), optional
        Mask drawn by hand: 1 water, 0 land, anything else unknown and left out of the comparison with it.

    Returns
    -------
    WaterAgreement

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.
    RadiometryError
        If no threshold is given and there are fewer than two different valid values to estimate one.

    References
    ----------
    Otsu (1979), "A threshold selection method from gray-level histograms", IEEE Trans. Systems, Man, and
    Cybernetics 9(1).
    """
    is_valid = _checked_mask(valid, original_power, restored_power, *(() if reference is None else (reference,)))
    original_db = local_mean_db(original_power, is_valid, WATER_AVERAGE_PIXELS)
    restored_db = local_mean_db(restored_power, is_valid, WATER_AVERAGE_PIXELS)
    threshold = _otsu_threshold(original_db[is_valid]) if threshold_db is None else float(threshold_db)
    before, after = is_valid & (original_db < threshold), is_valid & (restored_db < threshold)
    mask = np.full(is_valid.shape, -1) if reference is None else np.asarray(reference)
    known, reference_water = is_valid & np.isin(mask, (0, 1)), is_valid & (mask == 1)
    valid_pixels, original_water_pixels = int(np.count_nonzero(is_valid)), int(np.count_nonzero(before))
    restored_water_pixels = int(np.count_nonzero(after))
    return WaterAgreement(
        threshold_db=threshold,
        intersection_over_union=intersection_over_union(before, after),
        original_water_fraction=original_water_pixels / valid_pixels if valid_pixels else math.nan,
        restored_water_fraction=restored_water_pixels / valid_pixels if valid_pixels else math.nan,
        original_reference_iou=intersection_over_union(before & known, reference_water),
        restored_reference_iou=intersection_over_union(after & known, reference_water),
        valid_pixels=valid_pixels,
        original_water_pixels=original_water_pixels,
        intersection_pixels=int(np.count_nonzero(before & after)),
        union_pixels=int(np.count_nonzero(before | after)),
    )


def compare_change_maps(
    original_powers: Sequence[NDArray[np.floating]],
    restored_powers: Sequence[NDArray[np.floating]],
    valid: NDArray[np.bool_],
    *,
    threshold_db: float = CHANGE_THRESHOLD_DB,
) -> ChangeAgreement:
    """Compare the change between two dates in the original with the change in the restored scenes.

    Power is averaged over the valid pixels of 5 x 5; where the log-ratio of the two dates exceeds the threshold in
    either sense, the pixel has changed.

    Parameters
    ----------
    original_powers, restored_powers : sequence of two ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2) of the first and the second date, positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in all four.
    threshold_db : float
        Change that counts, in dB, above 0.

    Returns
    -------
    ChangeAgreement

    Raises
    ------
    DimensionError
        If there are not two dates on each side, or the shapes differ or are not two-dimensional.
    RadiometryError
        If the threshold is not above 0.

    References
    ----------
    Rignot and van Zyl (1993), "Change detection techniques for ERS-1 SAR data", IEEE Trans. Geoscience and Remote
    Sensing 31(4).
    """
    if len(original_powers) != 2 or len(restored_powers) != 2:
        raise DimensionError(
            f"found {len(original_powers)} and {len(restored_powers)} dates, expected two on each side. "
            "Select the dates to compare."
        )
    if not threshold_db > 0:
        raise RadiometryError(f"found threshold_db={threshold_db}, expected a change above 0 dB, for example 3.")
    is_valid = _checked_mask(valid, *original_powers, *restored_powers)
    before, after = (_changed(powers, is_valid, threshold_db) for powers in (original_powers, restored_powers))
    return ChangeAgreement(
        intersection_over_union=intersection_over_union(before, after),
        changed_pixels=int(np.count_nonzero(before)),
        unchanged_pixels=int(np.count_nonzero(is_valid & ~before)),
        false_alarm_pixels=int(np.count_nonzero(after & ~before)),
        missed_pixels=int(np.count_nonzero(before & ~after)),
    )


def intersection_over_union(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Compute the agreement of two maps (Jaccard index).

    Parameters
    ----------
    first, second : ndarray of bool, same shape
        Maps.

    Returns
    -------
    float
        Pixels in both over pixels in either, 0..1; NaN where both are empty.
    """
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else math.nan


def local_mean_db(power: NDArray[np.floating], valid: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Average power over the valid pixels of the window around each pixel, and convert the mean to decibels.

    Parameters
    ----------
    power : ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that count.
    size : int
        Side of the window in pixels, odd.

    Returns
    -------
    ndarray of float64, shape (y, x)
        dB; NaN where the pixel itself is invalid.
    """
    share = ndimage.uniform_filter(np.asarray(valid, dtype=np.float64), size, mode="constant")
    total = ndimage.uniform_filter(np.where(valid, power, 0.0), size, mode="constant", output=np.float64)
    # running sums leave rounding errors, which a strong target can make larger than the sea beside it
    lowest = np.min(power, where=valid, initial=np.inf)
    mean = np.divide(total, share, out=np.ones(share.shape), where=valid)
    return np.where(valid, 10.0 * np.log10(np.maximum(mean, lowest)), np.nan)


def _otsu_threshold(values_db: NDArray[np.float64]) -> float:
    """Estimate the threshold between water and land in dB."""
    if values_db.size < 2 or np.ptp(values_db) < _ROUNDING_DB:
        raise RadiometryError(
            "found fewer than two different valid values, expected water and land to estimate a threshold. "
            "Pass threshold_db=-17.0 or another one."
        )
    return float(threshold_otsu(values_db))


def _changed(
    powers: Sequence[NDArray[np.floating]], valid: NDArray[np.bool_], threshold_db: float
) -> NDArray[np.bool_]:
    """Map the pixels that changed between two dates."""
    first, second = (local_mean_db(power, valid, CHANGE_AVERAGE_PIXELS) for power in powers)
    return valid & (np.abs(np.where(valid, second - first, 0.0)) > threshold_db)


def _checked_mask(valid: ArrayLike, *planes: ArrayLike) -> NDArray[np.bool_]:
    """Convert the mask to bool, after checking that all planes have its shape (y, x)."""
    is_valid = np.asarray(valid, dtype=bool)
    shapes = [np.shape(plane) for plane in planes]
    if is_valid.ndim != 2 or any(shape != is_valid.shape for shape in shapes):
        raise DimensionError(
            f"found shapes {shapes} and {is_valid.shape} (valid), expected equal ones (y, x). "
            "Pass one polarization at a time, all on the same grid."
        )
    return is_valid
