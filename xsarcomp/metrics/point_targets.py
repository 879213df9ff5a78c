"""Effects of compression on point targets: ships, buildings, corner reflectors.

A codec that clips or smooths loses them first, and a mean over all pixels does not show it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.feature import peak_local_max

from xsarcomp.metrics.arguments import checked_pair

MAX_TARGETS = 25
"""Largest number of targets that are compared, brightest first."""

MIN_CONTRAST_DB = 10.0
"""Least height of a peak above the median of the scene; speckle of 4.4 looks reaches about 6 dB."""

SEARCH_RADIUS_PIXELS = 3
"""Largest distance of the restored peak from the original one, along y and x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTargets:
    """The brightest targets of a scene before and after compression, in arrays of shape (target,), brightest first."""

    rows: NDArray[np.int64]
    """Row of the peak in the original."""
    columns: NDArray[np.int64]
    """Column of the peak in the original."""
    peak_db: NDArray[np.float64]
    """Backscatter of the peak in the original, dB."""
    error_db: NDArray[np.float64]
    """Restored peak minus original peak, dB; negative where a target lost brightness."""
    shift_y: NDArray[np.int64]
    """Row of the restored peak minus row of the original one, pixels."""
    shift_x: NDArray[np.int64]
    """Column of the restored peak minus column of the original one, pixels."""

    @property
    def mean_error_db(self) -> float:
        """Mean absolute error of the peaks in dB, at least 0; NaN without a target."""
        return float(np.abs(self.error_db).mean()) if self.error_db.size else math.nan

    @property
    def mean_shift_pixels(self) -> float:
        """Mean distance of the peaks in pixels, at least 0; NaN without a target."""
        return float(np.hypot(self.shift_y, self.shift_x).mean()) if self.rows.size else math.nan


def compare_point_targets(
    original_power: NDArray[np.floating],
    restored_power: NDArray[np.floating],
    valid: NDArray[np.bool_],
    *,
    count: int = MAX_TARGETS,
    contrast_db: float = MIN_CONTRAST_DB,
) -> PointTargets:
    """Find the brightest targets of the original, and compare their peaks with the restored scene.

    A target is a local maximum of the original that is at least ``contrast_db`` above the median of the valid pixels
    and at least 4 pixels away from any brighter one. The restored peak is the largest value within 3 pixels of it.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    count : int
        Number of targets at most.
    contrast_db : float
        Least height above the median, in dB.

    Returns
    -------
    PointTargets
        Without entries where no peak is high enough.

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.

    References
    ----------
    Peak and position are two of the measures of an impulse response in Cumming and Wong (2005), *Digital Processing
    of Synthetic Aperture Radar Data*, section 2.8; here on the bright targets that a scene happens to have.
    """
    original, restored, is_valid = checked_pair(original_power, restored_power, valid, planes=True)
    before, after = np.where(is_valid, original, 0.0), np.where(is_valid, restored, 0.0)
    if is_valid.any():
        least = float(np.median(before[is_valid])) * 10.0 ** (contrast_db / 10.0)
        peaks = peak_local_max(
            before, min_distance=SEARCH_RADIUS_PIXELS, threshold_abs=least, num_peaks=count, exclude_border=False
        )
    else:
        peaks = np.empty((0, 2), dtype=np.int64)
    restored_peaks = np.array(
        [_brightest_nearby(after, int(row), int(column)) for row, column in peaks], dtype=np.int64
    ).reshape(-1, 2)
    peak_db, restored_db = (
        10.0 * np.log10(plane[positions[:, 0], positions[:, 1]])
        for plane, positions in ((before, peaks), (after, restored_peaks))
    )
    return PointTargets(
        rows=peaks[:, 0],
        columns=peaks[:, 1],
        peak_db=peak_db,
        error_db=restored_db - peak_db,
        shift_y=restored_peaks[:, 0] - peaks[:, 0],
        shift_x=restored_peaks[:, 1] - peaks[:, 1],
    )


def _brightest_nearby(power: NDArray[np.float64], row: int, column: int) -> tuple[int, int]:
    """Locate the largest value in the window around a pixel; the pixel itself where others are not larger."""
    top, left = max(row - SEARCH_RADIUS_PIXELS, 0), max(column - SEARCH_RADIUS_PIXELS, 0)
    window = power[top : row + SEARCH_RADIUS_PIXELS + 1, left : column + SEARCH_RADIUS_PIXELS + 1]
    if power[row, column] == window.max():
        return row, column
    offset = np.unravel_index(np.argmax(window), window.shape)
    return top + int(offset[0]), left + int(offset[1])
