"""What compression does to point targets: ships, buildings, corner reflectors.

A codec that clips or smooths loses them first, and a mean over all pixels does not show it.
"""

import math
from dataclasses import dataclass

import numpy as np
from skimage.feature import peak_local_max

from xsarcomp.errors import DimensionError

TARGETS = 25
"""Number of targets that are looked at, brightest first."""

CONTRAST_DB = 10.0
"""How far a peak must stand above the median of the scene; speckle of 4.4 looks alone reaches about 6 dB."""

SEARCH_PIXELS = 3
"""How far from the original peak the restored one is looked for, along y and x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTargets:
    """The brightest targets of a scene before and after, in arrays of shape (target,), brightest first."""

    rows: np.ndarray
    """Row of the peak in the original: int64."""
    columns: np.ndarray
    """Column of the peak in the original: int64."""
    peak_db: np.ndarray
    """Backscatter of the peak in the original: float64, dB."""
    error_db: np.ndarray
    """Restored peak minus original peak: float64, dB; negative where a target lost brightness."""
    shift_y: np.ndarray
    """Row of the restored peak minus row of the original one: int64, pixels."""
    shift_x: np.ndarray
    """The same for columns."""

    @property
    def mean_error_db(self):
        """Mean absolute error of the peaks in dB, at least 0; NaN without a target."""
        return float(np.abs(self.error_db).mean()) if self.error_db.size else math.nan

    @property
    def mean_shift_pixels(self):
        """Mean distance of the peaks in pixels, at least 0; NaN without a target."""
        return float(np.hypot(self.shift_y, self.shift_x).mean()) if self.rows.size else math.nan


def point_targets(original_power, restored_power, valid, *, count=TARGETS, contrast_db=CONTRAST_DB):
    """Find the brightest targets of the original, and what became of them.

    A target is a local maximum of the original that is at least `contrast_db` above the median of the valid pixels
    and at least 4 pixels away from any brighter one. The restored peak is the largest value within 3 pixels of it.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    count : int
        Number of targets at most.
    contrast_db : float
        Least height above the median, in dB.

    Returns
    -------
    PointTargets
        Without entries where nothing stands out.

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.

    References
    ----------
    Peak and position are two of the measures of an impulse response in Cumming and Wong (2005), *Digital Processing
    of Synthetic Aperture Radar Data*, section 2.8; here on whatever bright targets a scene has.
    """
    original, restored = (np.asarray(power, dtype=np.float64) for power in (original_power, restored_power))
    valid = np.asarray(valid, dtype=bool)
    if original.ndim != 2 or not original.shape == restored.shape == valid.shape:
        raise DimensionError(
            f"found shapes {original.shape} (original), {restored.shape} (restored) and {valid.shape} (valid), expected "
            "three equal ones (y, x). Pass one polarization and date at a time."
        )
    before, after = np.where(valid, original, 0.0), np.where(valid, restored, 0.0)
    if valid.any():
        least = float(np.median(before[valid])) * 10.0 ** (contrast_db / 10.0)
        peaks = peak_local_max(
            before, min_distance=SEARCH_PIXELS, threshold_abs=least, num_peaks=count, exclude_border=False
        )
    else:
        peaks = np.empty((0, 2), dtype=np.int64)
    found = np.array([_brightest_nearby(after, *peak) for peak in peaks], dtype=np.int64).reshape(-1, 2)
    peak_db, restored_db = (
        10.0 * np.log10(plane[positions[:, 0], positions[:, 1]])
        for plane, positions in ((before, peaks), (after, found))
    )
    return PointTargets(
        rows=peaks[:, 0],
        columns=peaks[:, 1],
        peak_db=peak_db,
        error_db=restored_db - peak_db,
        shift_y=found[:, 0] - peaks[:, 0],
        shift_x=found[:, 1] - peaks[:, 1],
    )


def _brightest_nearby(power, row, column):
    """Position of the largest value in the window around a pixel; the pixel itself where others are no larger."""
    top, left = max(row - SEARCH_PIXELS, 0), max(column - SEARCH_PIXELS, 0)
    window = power[top : row + SEARCH_PIXELS + 1, left : column + SEARCH_PIXELS + 1]
    if power[row, column] == window.max():
        return row, column
    offset = np.unravel_index(np.argmax(window), window.shape)
    return top + int(offset[0]), left + int(offset[1])
