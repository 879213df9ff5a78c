"""What compression does to the maps that users make: open water, and change between two dates.

The maps are made with the simplest methods in use, a threshold after averaging over a few pixels. Original and
restored scenes are treated alike, and whatever is estimated from data is estimated on the original only.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from xsarcomp.errors import DimensionError, RadiometryError

WATER_AVERAGE_PIXELS = 3
"""Side of the window over which power is averaged before the water threshold."""
CHANGE_AVERAGE_PIXELS = 5
"""Side of the window over which power is averaged before the log-ratio."""
CHANGE_THRESHOLD_DB = 3.0
"""Change of the averaged power that counts, in dB: a factor of 2."""

_ROUNDING_DB = 1e-6  # what averaging leaves of constant power


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterAgreement:
    """How well water maps of original and restored agree; fractions are of the valid pixels."""

    threshold_db: float
    """Averaged backscatter below it is water, dB."""
    intersection_over_union: float
    """Agreement of both maps, 0..1; NaN where neither shows water."""
    original_fraction: float
    """Share of water in the original, 0..1."""
    restored_fraction: float
    """Share of water in the restored scene, 0..1."""
    original_to_reference: float
    """Intersection over union of the original map with the given mask, 0..1; NaN without a mask."""
    restored_to_reference: float
    """The same of the restored map: what matters is how much lower it is."""
    pixels: int
    """Valid pixels."""
    original_pixels: int
    """Water in the original."""
    both_pixels: int
    """Water in both."""
    either_pixels: int
    """Water in one or in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAgreement:
    """How well change maps of original and restored agree."""

    intersection_over_union: float
    """Agreement of both maps, 0..1; NaN where neither shows a change."""
    changed_pixels: int
    """Changed pixels of the original pair."""
    unchanged_pixels: int
    """Valid pixels of the original pair that have not changed."""
    added_pixels: int
    """False alarms: changed in the restored pair only."""
    lost_pixels: int
    """Misses: changed in the original pair only."""

    @property
    def false_alarm_rate(self):
        """Added over unchanged pixels, 0..1; NaN where all has changed."""
        return self.added_pixels / self.unchanged_pixels if self.unchanged_pixels else math.nan

    @property
    def miss_rate(self):
        """Lost over changed pixels, 0..1; NaN where nothing has changed."""
        return self.lost_pixels / self.changed_pixels if self.changed_pixels else math.nan


def water_agreement(original_power, restored_power, valid, *, threshold_db=None, reference=None):
    """Compare the water maps of original and restored, and both with a mask drawn by hand.

    Power is averaged over the valid pixels of 3 x 3; below the threshold is water. VV suits this best.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    threshold_db : float, optional
        Threshold in dB, the same for both; by default that of Otsu on the averaged original in dB, which
        finds water only where a good part of the scene is water. -17 dB is usual for VV.
    reference : ndarray of int, shape (y, x), optional
        Mask drawn by hand: 1 water, 0 land, anything else unknown and left out of the comparison with it.

    Returns
    -------
    WaterAgreement

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.
    RadiometryError
        If no threshold is given and fewer than two different valid values are there to find one.

    References
    ----------
    Otsu (1979), "A threshold selection method from gray-level histograms", IEEE Trans. Systems, Man, and
    Cybernetics 9(1).
    """
    valid = _checked(valid, original_power, restored_power, *(() if reference is None else (reference,)))
    original, restored = (averaged_db(power, valid, WATER_AVERAGE_PIXELS) for power in (original_power, restored_power))
    if threshold_db is None:
        values = original[valid]
        if values.size < 2 or np.ptp(values) < _ROUNDING_DB:
            raise RadiometryError(
                "found fewer than two different valid values, expected water and land to find a threshold. "
                "Pass threshold_db=-17.0 or another one."
            )
        threshold_db = float(threshold_otsu(values))
    before, after = (valid & (plane < threshold_db) for plane in (original, restored))
    count, water = int(np.count_nonzero(valid)), int(np.count_nonzero(before))
    known = np.zeros_like(valid) if reference is None else valid & np.isin(reference, (0, 1))
    drawn = known if reference is None else known & (np.asarray(reference) == 1)
    return WaterAgreement(
        threshold_db=float(threshold_db),
        intersection_over_union=intersection_over_union(before, after),
        original_fraction=water / count if count else math.nan,
        restored_fraction=int(np.count_nonzero(after)) / count if count else math.nan,
        original_to_reference=intersection_over_union(before & known, drawn),
        restored_to_reference=intersection_over_union(after & known, drawn),
        pixels=count,
        original_pixels=water,
        both_pixels=int(np.count_nonzero(before & after)),
        either_pixels=int(np.count_nonzero(before | after)),
    )


def change_agreement(original_powers, restored_powers, valid, *, threshold_db=CHANGE_THRESHOLD_DB):
    """Compare the change between two dates as seen in original and restored scenes.

    Power is averaged over the valid pixels of 5 x 5; where the log-ratio of the two dates exceeds the threshold in
    either sense, the pixel has changed.

    Parameters
    ----------
    original_powers, restored_powers : sequence of two ndarray of float, shape (y, x)
        Backscatter power (linear, m2 m-2) of the first and the second date, positive where valid.
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
    valid = _checked(valid, *original_powers, *restored_powers)
    before, after = (_changed(powers, valid, threshold_db) for powers in (original_powers, restored_powers))
    return ChangeAgreement(
        intersection_over_union=intersection_over_union(before, after),
        changed_pixels=int(np.count_nonzero(before)),
        unchanged_pixels=int(np.count_nonzero(valid & ~before)),
        added_pixels=int(np.count_nonzero(after & ~before)),
        lost_pixels=int(np.count_nonzero(before & ~after)),
    )


def intersection_over_union(first, second):
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


def averaged_db(power, valid, size):
    """Average power over the valid pixels of a window, and return it in decibel.

    Parameters
    ----------
    power : ndarray of float, shape (y, x)
        Backscatter power (linear, m2 m-2), positive where valid.
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


def _changed(powers, valid, threshold_db):
    first, second = (averaged_db(power, valid, CHANGE_AVERAGE_PIXELS) for power in powers)
    return valid & (np.abs(np.where(valid, second - first, 0.0)) > threshold_db)


def _checked(valid, *planes):
    valid = np.asarray(valid, dtype=bool)
    shapes = [np.shape(plane) for plane in planes]
    if valid.ndim != 2 or any(shape != valid.shape for shape in shapes):
        raise DimensionError(
            f"found shapes {shapes} and {valid.shape} (valid), expected equal ones (y, x). "
            "Pass one polarization at a time, all on the same grid."
        )
    return valid
