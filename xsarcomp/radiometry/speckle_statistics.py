"""Speckle statistics of flat windows: looks, correlation, distinct values and level of planes in dB.

Planes are cut into windows of 12 x 12 pixels. The tenth of them that varies least shows speckle rather than landscape,
and speckle identifies a product: its number of looks, its sampling, and if it was filtered, averaged over dates, resampled
or quantized. Semivariances at short lags measure it, because the landscape adds least to those.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

WINDOW_PIXELS = 12
"""Side of the windows in pixels."""
MIN_WINDOWS = 200
"""Windows that the statistics need: 170 x 170 pixels without a gap."""
MAX_WINDOWS = 4096
"""Largest number of windows of a plane that are used; of more, so many are taken, spread evenly."""
FLAT_SHARE = 0.1
"""Share of the windows that counts as flat."""
LAG_PIXELS = 3
"""Speckle of 10 m products is nearly uncorrelated at this distance, and the landscape has changed little."""
NOISE_FLOOR_DB = -22.0
"""Windows with a lower mean are left out: they show the noise of the instrument, which is specified to lie below this level."""
COMMON_SHARPNESS, SHARPNESS_EXPONENT = 0.1, 0.35
"""Sharpness, and exponent, to which the number of looks is reduced. Smoothing trades sharpness for looks: over the training
planes of the shipped models the logarithm of the looks falls by 0.35 of the logarithm of the sharpness. Looks at common
sharpness therefore differ by averaging only."""

LOOKS, COMMON_LOOKS, CORRELATION_Y, CORRELATION_X, DISTINCT, LEVEL = STATISTICS = (
    "looks", "looks_at_common_sharpness", "correlation_y", "correlation_x", "distinct_values", "level_db",
)  # fmt: skip
"""Names of the statistics, which are keys in the JSON files of models. The last has a range for each polarization."""

_DECIBEL_VARIANCE = (10.0 / math.log(10.0)) ** 2  # dB^2; variance of gamma speckle in dB, times looks, about


def cut_windows(decibel: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Cut planes into windows, and leave out those with an invalid pixel.

    Parameters
    ----------
    decibel : ndarray of float, shape (plane, y, x), dB
        sigma0 or gamma0.
    valid : ndarray of bool, same shape

    Returns
    -------
    ndarray of float32, shape (window, y=12, x=12), dB
    """
    planes, rows, columns = decibel.shape[0], *(size // WINDOW_PIXELS for size in decibel.shape[1:])
    split = (planes, rows, WINDOW_PIXELS, columns, WINDOW_PIXELS)
    whole = np.s_[:, : rows * WINDOW_PIXELS, : columns * WINDOW_PIXELS]
    windows, is_valid = (
        values[whole].reshape(split).swapaxes(2, 3).reshape(-1, WINDOW_PIXELS, WINDOW_PIXELS)
        for values in (decibel, valid)
    )
    return windows[is_valid.all((1, 2))].astype(np.float32)


def flat_window_statistics(windows: NDArray[np.float32]) -> dict[str, float]:
    """Compute the statistics of the windows of a plane.

    Parameters
    ----------
    windows : ndarray of float32, shape (window, y=12, x=12), dB
        Without an invalid pixel.

    Returns
    -------
    dict of str to float
        Empty with less than ``MIN_WINDOWS`` windows. Otherwise ``level_db``, the median. If ``MIN_WINDOWS`` are neither
        dark nor constant, and show speckle, also

        - ``looks``: number of looks whose speckle has the semivariance of the flat windows at 3 pixels;
        - ``looks_at_common_sharpness``;
        - ``correlation_y``, ``correlation_x``: 1 - semivariance at 1 pixel / semivariance at 3 pixels;
        - ``distinct_values``: share of distinct values, 0 to 1.
    """
    if len(windows) < MIN_WINDOWS:
        return {}
    windows = _thin_out(windows)
    statistics = {LEVEL: float(np.median(windows))}
    windows = windows[_is_bright(windows) & (np.ptp(windows, axis=(1, 2)) > 0)]
    if len(windows) < MIN_WINDOWS:
        return statistics
    windows, far = _flattest(windows)
    if far.min() <= 0:  # lines, not speckle
        return statistics
    looks = _looks_from_variance(float(far.mean()))
    detail = (windows[:, 1:, 1:] - windows[:, :-1, 1:] - windows[:, 1:, :-1] + windows[:, :-1, :-1]) / 2
    sharpness = float((detail**2).mean() / far.mean())
    near = [_semivariances(windows, 1, axis).mean() for axis in (1, 2)]
    return statistics | {
        LOOKS: looks,
        COMMON_LOOKS: float(looks * (sharpness / COMMON_SHARPNESS) ** SHARPNESS_EXPONENT),
        CORRELATION_Y: float(1 - near[0] / far[0]),
        CORRELATION_X: float(1 - near[1] / far[1]),
        DISTINCT: _distinct_share(windows),
    }


def plane_statistics(
    planes: Iterable[tuple[str | None, NDArray[np.float32]]],
) -> list[tuple[str | None, dict[str, float]]]:
    """Compute statistics plane by plane; small planes of one polarization are pooled.

    Parameters
    ----------
    planes : iterable of (polarization or None, windows)
        Windows as :func:`cut_windows` gives them.

    Returns
    -------
    list of (polarization or None, dict of str to float)
        Results of :func:`flat_window_statistics` that are not empty.
    """
    results: list[tuple[str | None, dict[str, float]]] = []
    waiting: dict[str | None, list[NDArray[np.float32]]] = {}
    for polarization, windows in planes:
        pool = [*waiting.get(polarization, ()), _thin_out(windows)]
        if sum(int(np.count_nonzero(_is_bright(part))) for part in pool) < MIN_WINDOWS:
            waiting[polarization] = pool
            continue
        waiting.pop(polarization, None)
        results.append((polarization, flat_window_statistics(np.concatenate(pool))))
    results += [(polarization, flat_window_statistics(np.concatenate(pool))) for polarization, pool in waiting.items()]
    return [(polarization, statistics) for polarization, statistics in results if statistics]


def _flattest(windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Select the flat windows, and return them with their mean semivariances at 3 pixels, along y and along x."""
    semivariances = np.stack([_semivariances(windows, LAG_PIXELS, axis) for axis in (1, 2)])
    count = math.ceil(FLAT_SHARE * len(windows))
    flat = np.argpartition(semivariances.sum(0), count - 1)[:count]
    return windows[flat], semivariances[:, flat].mean(1)


def _looks_from_variance(variance_db: float) -> float:
    """Solve for the number of looks L of gamma speckle with a variance in dB^2.

    The variance of the logarithm is 1/L + 1/(2 L^2), up to terms of higher order.
    """
    variance = variance_db / _DECIBEL_VARIANCE
    return (1 + math.sqrt(1 + 2 * variance)) / (2 * variance)


def _semivariances(windows: NDArray[np.float32], lag: int, axis: int) -> NDArray[np.float64]:
    """Compute half the mean squared difference of pixels a lag apart along an axis, for each window."""
    first, second = (windows[:, :-lag], windows[:, lag:]) if axis == 1 else (windows[:, :, :-lag], windows[:, :, lag:])
    return ((second - first) ** 2).mean((1, 2), dtype=np.float64) / 2


def _distinct_share(windows: NDArray[np.float32]) -> float:
    """Compute the share of distinct values among the pixels that do not repeat their neighbor along one axis.

    A grid of degrees repeats pixels along x away from the equator, which is no quantization. The axis with the larger
    share counts.
    """
    shares = []
    for axis in (1, 2):
        repeated = np.zeros(windows.shape, bool)
        repeated[(slice(None),) * axis + (slice(1, None),)] = np.diff(windows, axis=axis) == 0
        ordered = np.sort(np.where(repeated, np.float32(np.inf), windows).reshape(len(windows), -1), axis=1)
        distinct = (ordered[:, 1:] > ordered[:, :-1]).sum() + len(windows) - repeated.any((1, 2)).sum()
        shares.append(distinct / np.count_nonzero(~repeated))
    return float(max(shares))


def _thin_out(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take at most ``MAX_WINDOWS`` of the windows, spread evenly."""
    if len(windows) <= MAX_WINDOWS:
        return windows
    return windows[np.linspace(0, len(windows) - 1, MAX_WINDOWS).astype(np.int64)]


def _is_bright(windows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the windows above the noise floor of the instrument."""
    return windows.mean((1, 2)) > NOISE_FLOOR_DB
