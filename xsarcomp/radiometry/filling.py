"""Filling of invalid pixels of the signal from their neighbors, the same in every window and on every machine."""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import DimensionError
from xsarcomp.radiometry.pixel_classes import VALID

SIGNAL_STEPS_PER_DB = 512
"""Fixed-point resolution of the signal: sums of such values are exact in float64, in any order, on every machine."""

FILL_REACH = 32
"""Pixels around a pixel that can influence its filled value, rounded up to whole 16 x 16 blocks."""

FILL_BLOCK = 16
"""Side in pixels of the largest blocks whose means fill invalid pixels."""

_STRIP_ROWS = 4 * FILL_BLOCK  # rows filled together: bounds the memory, and most of a scene has nothing to fill


def round_to_signal_steps(decibel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round values in dB to multiples of 1/512 dB, which the transform handles without rounding errors."""
    return np.rint(decibel * SIGNAL_STEPS_PER_DB) / SIGNAL_STEPS_PER_DB


def fill_invalid(
    signal: NDArray[np.float64], classes: NDArray[np.uint8], *, origin: tuple[int, int] = (0, 0)
) -> NDArray[np.float64]:
    """Fill invalid pixels with the mean of the valid pixels near them, for any chunking with the same values.

    The blocks are aligned to absolute multiples of 16 pixels. An invalid pixel takes the mean of the valid pixels of
    its 2 x 2 block; if there are none, of its 4 x 4, 8 x 8 or 16 x 16 block; then the mean of the means of the eight
    blocks around; then 0. Means are rounded to 1/512 dB, and sums of such values are exact. A pixel therefore gets the
    same value in every window that holds ``FILL_REACH`` pixels around it and starts at a multiple of 16. Pixels outside
    the array count as invalid.

    Parameters
    ----------
    signal : ndarray of float64, shape (..., y, x), dB above the offset
        Result of :func:`~xsarcomp.radiometry.decibel.to_signal`.
    classes : ndarray of uint8, same shape
        Result of :func:`~xsarcomp.radiometry.pixel_classes.classify`.
    origin : (int, int)
        Absolute row and column of the first pixel; multiples of 16.

    Returns
    -------
    ndarray of float64, same shape
        ``signal`` itself if nothing is invalid, else a filled copy.

    Raises
    ------
    DimensionError
        If ``origin`` is no multiple of 16, or the shapes differ or have no y and x.
    """
    signal, valid = np.asarray(signal), np.asarray(classes) == VALID
    if any(position % FILL_BLOCK for position in origin):
        raise DimensionError(f"found origin {origin}, expected multiples of {FILL_BLOCK}: start the window at one.")
    if signal.shape != valid.shape or signal.ndim < 2:
        raise DimensionError(
            f"found shapes {signal.shape} (signal) and {valid.shape} (classes), expected two equal ones (..., y, x)."
        )
    if valid.all():
        return signal
    filled = np.array(signal, order="C")
    for top in range(0, signal.shape[-2], _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, signal.shape[-2])
        columns = _columns_to_fill(valid[..., top:bottom, :])
        if columns is None:
            continue
        left, right = columns
        # the blocks around have a part in the values of these
        first_row, first_column = max(0, top - FILL_BLOCK), max(0, left - FILL_BLOCK)
        window = np.s_[..., first_row : bottom + FILL_BLOCK, first_column : right + FILL_BLOCK]
        inside = np.s_[..., top - first_row : bottom - first_row, left - first_column : right - first_column]
        filled[..., top:bottom, left:right] = _fill_window(signal[window], valid[window])[inside]
    return filled


def _columns_to_fill(valid: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return start and stop column of the blocks that hold all invalid pixels; None if there are none."""
    columns = np.flatnonzero(~valid.reshape(-1, valid.shape[-1]).all(axis=0))
    if not columns.size:
        return None
    first, last = columns[0] // FILL_BLOCK, columns[-1] // FILL_BLOCK
    return int(first) * FILL_BLOCK, min((int(last) + 1) * FILL_BLOCK, valid.shape[-1])


def _fill_window(signal: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fill a window that begins at a multiple of 16, as if nothing were around it."""
    values, counts = _split_blocks(np.where(valid, signal, 0.0)), _split_blocks(valid.astype(np.float64))
    means, block_sums, block_counts = _pyramid_means(values, counts)
    block_means = _rounded_mean(block_sums, block_counts)
    around = _mean_of_neighbors(block_means, block_counts > 0)
    filled = np.where(block_counts[..., None, None] > 0, means, around[..., None, None])
    return _join_blocks(np.where(counts > 0, values, filled), signal.shape)


def _split_blocks(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut (..., y, x) into (..., block row, block column, 16, 16), padded with zeros at the far edges."""
    *leading, rows, columns = array.shape
    padding = [(0, 0)] * len(leading) + [(0, -rows % FILL_BLOCK), (0, -columns % FILL_BLOCK)]
    padded = np.pad(array, padding)
    split = padded.reshape(
        *leading, padded.shape[-2] // FILL_BLOCK, FILL_BLOCK, padded.shape[-1] // FILL_BLOCK, FILL_BLOCK
    )
    return split.swapaxes(-3, -2)


def _join_blocks(blocks: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Put blocks together and cut the padding off; the inverse of :func:`_split_blocks`."""
    block_rows, block_columns = blocks.shape[-4:-2]
    padded = blocks.swapaxes(-3, -2).reshape(*shape[:-2], block_rows * FILL_BLOCK, block_columns * FILL_BLOCK)
    return np.ascontiguousarray(padded[..., : shape[-2], : shape[-1]])


def _rounded_mean(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute means in steps of 1/512 dB; 0 where the count is 0."""
    return round_to_signal_steps(sums / np.maximum(counts, 1.0))


def _pyramid_means(
    values: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute the mean of the smallest block with a valid pixel around each pixel, 2 x 2 to 16 x 16.

    Additions are explicit: a reduction would choose its order by the shape of the array.

    Returns
    -------
    means : ndarray of float64, same shape
    sums, counts : ndarray of float64, shape (..., block row, block column)
        Sum and number of the valid pixels of each 16 x 16 block.
    """
    means, has_smaller = np.zeros(values.shape), np.zeros(values.shape, dtype=bool)
    size = 1
    while size < FILL_BLOCK:
        size *= 2
        values, counts = (
            (level[..., 0::2, 0::2] + level[..., 0::2, 1::2]) + (level[..., 1::2, 0::2] + level[..., 1::2, 1::2])
            for level in (values, counts)
        )
        level_means = _rounded_mean(values, counts).repeat(size, axis=-2).repeat(size, axis=-1)
        has_mean = (counts > 0).repeat(size, axis=-2).repeat(size, axis=-1)
        np.copyto(means, level_means, where=has_mean & ~has_smaller)
        has_smaller |= has_mean
    return means, values[..., 0, 0], counts[..., 0, 0]


def _mean_of_neighbors(block_means: NDArray[np.float64], has_mean: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average the known means of the eight blocks around each block; 0 where none is known."""
    rows, columns = block_means.shape[-2:]
    frame = [(0, 0)] * (block_means.ndim - 2) + [(1, 1), (1, 1)]
    known = np.pad(has_mean.astype(np.float64), frame)
    means = np.pad(np.where(has_mean, block_means, 0.0), frame)
    sums, counts = np.zeros(block_means.shape), np.zeros(block_means.shape)
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        window = (..., slice(row, row + rows), slice(column, column + columns))
        sums += means[window]
        counts += known[window]
    return _rounded_mean(sums, counts)
