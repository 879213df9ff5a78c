"""Kernels that add synthetic speckle to decoded backscatter; Python side: :mod:`xsarcomp.codec.speckle`.

Random numbers are integers computed only from positions, so they are the same on every machine, in every window and in any
order.
"""

import numpy as np

from xsarcomp.codec.kernels.compile import (
    ReadOnly1D,
    ReadOnly2D,
    ReadOnly3D,
    ReadOnly4D,
    Writable1D,
    Writable3D,
    Writable4D,
    compiled,
)
from xsarcomp.codec.lapped import BLOCK, OVERLAP

_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_QUARTER = np.uint64(0xFFFF)
_MEAN = np.int64(2 * 65535)
_TO_UNIT = np.float32(1 / np.sqrt((65536.0**2 - 1) / 3))
"""One over the standard deviation of the sum of four numbers, each uniform from 0 to 65535."""
LEAST_SHARE = np.float32(0.3)
"""Smallest share of a missing variance that is added, however much the texture gain has added already."""
_NEPER_DB = np.float32(10 / np.log(10.0))  # decibels of a factor e in power
_BRIGHTER = np.float32(4 / 3)


@compiled
def scattered(counter: np.uint64) -> np.uint64:
    """Mix the bits of a counter, one to one (splitmix64: Steele, Lea and Flood 2014, OOPSLA)."""
    counter = (counter ^ (counter >> np.uint64(30))) * _FIRST_FACTOR
    counter = (counter ^ (counter >> np.uint64(27))) * _SECOND_FACTOR
    return counter ^ (counter >> np.uint64(31))


@compiled
def draw(
    keys: ReadOnly1D[np.uint64],
    rows: ReadOnly1D[np.int64],
    rows_reversed: ReadOnly1D[np.bool_],
    columns: ReadOnly1D[np.int64],
    columns_reversed: ReadOnly1D[np.bool_],
    numbers: Writable4D[np.float32],
) -> None:
    """Draw random numbers of latents, (plane, latent=64, y, x): mean 0, variance 1, nearly normal, within 3.5.

    ``rows`` and ``columns`` are absolute positions on the grid of latents. Where an axis is reversed, odd frequencies change
    their sign, as latents of a mirrored scene do.
    """
    planes, channels, height, width = numbers.shape
    for plane in range(planes):
        for channel in range(channels):
            of_channel = scattered(keys[plane] + np.uint64(channel + 1) * _STRIDE)
            is_odd_y, is_odd_x = (channel >> 3) & 1 == 1, channel & 1 == 1
            for y in range(height):
                of_row = scattered(of_channel + np.uint64(rows[y] + 1) * _STRIDE)
                row_sign = np.float32(-1 if is_odd_y and rows_reversed[y] else 1)
                row = numbers[plane, channel, y]
                for x in range(width):
                    bits = scattered(of_row + np.uint64(columns[x] + 1) * _STRIDE)
                    total = bits & _QUARTER
                    total += (bits >> np.uint64(16)) & _QUARTER
                    total += (bits >> np.uint64(32)) & _QUARTER
                    total += bits >> np.uint64(48)
                    sign = -row_sign if is_odd_x and columns_reversed[x] else row_sign
                    row[x] = sign * np.float32(np.int64(total) - _MEAN) * _TO_UNIT


@compiled
def scale(
    points: ReadOnly4D[np.int32],
    latents: ReadOnly4D[np.float32],
    missing: ReadOnly2D[np.float32],
    scales: ReadOnly1D[np.float32],
    gained: np.float32,
    noise: Writable4D[np.float32],
    variances: Writable3D[np.float32],
) -> None:
    """Scale ``noise`` of variance 1, (plane, latent=64, y, x), to the variances that decoded latents lack, in place.

    ``variances``, (plane, y, x), receives their mean over the latents of a block, which is that of its pixels.

    ``missing`` has a row for each channel: the variances of points 0, of points 1 and -1, and of all others. ``scales``, shape
    (plane,), are factors of these. ``gained`` is the
    share of a squared latent that the texture gain has added to it.
    """
    planes, channels, height, width = points.shape
    variances[:] = np.float32(0)
    for plane in range(planes):
        for channel in range(channels):
            zero, one, more = missing[channel, 0], missing[channel, 1], missing[channel, 2]
            zero, one, more = zero * scales[plane], one * scales[plane], more * scales[plane]
            for y in range(height):
                point, latent = points[plane, channel, y], latents[plane, channel, y]
                row, variance = noise[plane, channel, y], variances[plane, y]
                for x in range(width):
                    magnitude = abs(point[x])
                    whole = zero if magnitude == 0 else (one if magnitude == 1 else more)
                    left = whole if channel == 0 else max(whole - gained * latent[x] * latent[x], LEAST_SHARE * whole)
                    variance[x] += left / np.float32(64)
                    row[x] *= np.sqrt(left)


@compiled
def spread_row(
    values: ReadOnly2D[np.float32], taps: ReadOnly1D[np.float32], y: int, pixels: Writable1D[np.float32]
) -> None:
    """Interpolate one row of pixels between the centers of blocks, from one value a block, (y_latent, x_latent).

    ``taps``, shape (16,), are the weights of a value at the pixels of its block and the halves of the two beside it.
    """
    row, tap = y // BLOCK, y % BLOCK
    early, late = taps[tap], taps[BLOCK + tap]
    left = late * values[row, 0] + early * values[row + 1, 0]
    for x in range(values.shape[1] - 1):  # late taps of one block and early taps of the next
        right = late * values[row, x + 1] + early * values[row + 1, x + 1]
        for i in range(BLOCK):
            pixels[x * BLOCK + i] = taps[BLOCK + i] * left + taps[i] * right
        left = right


@compiled
def add_skewed(
    lowest: ReadOnly3D[np.float32],
    taps: ReadOnly2D[np.float32],
    variances: ReadOnly3D[np.float32],
    noise: ReadOnly3D[np.float32],
    signal: Writable3D[np.float32],
) -> None:
    """Add noise to a signal, skewed as speckle in dB is, without a change of the expected power; (plane, y, x), dB.

    With n = noise in nepers of power and s its variance, n - n^2 / 6 has the skewness of the logarithm of a gamma
    distribution. Its expected power is exp(s / (2 d)) / sqrt(d) with d = 1 + s / 3; its logarithm is subtracted. Where the
    decoded signal is brighter than its surroundings the noise is less, where it is darker more, because detail and noise are
    skewed together. The surroundings are the signal of the lowest channel only.

    ``lowest`` and ``variances`` have shape (plane, y_latent, x_latent), ``taps`` has shape (2, 16): the weights of both at
    pixels. Weights of variances are sums of the squared basis over the frequencies. The variances that the frequencies have
    at single pixels differ from that by up to 15 %, and the expected power by 0.01 dB, up and down within each block.
    """
    planes, height, width = signal.shape
    third, half, sixth = np.float32(1 / 3), np.float32(0.5), np.float32(1 / 6)
    to_neper = np.float32(1) / _NEPER_DB
    surroundings = np.empty((lowest.shape[2] - 1) * BLOCK, np.float32)
    variance = np.empty(surroundings.size, np.float32)
    for plane in range(planes):
        for y in range(height):
            spread_row(lowest[plane], taps[0], y + OVERLAP, surroundings)
            spread_row(variances[plane], taps[1], y + OVERLAP, variance)
            for x in range(width):
                detail = signal[plane, y, x] - surroundings[x + OVERLAP]
                share = np.float32(1) - third * to_neper * detail
                share = min(max(share, np.float32(0)), _BRIGHTER)
                neper = share * to_neper * noise[plane, y, x]
                spread = share * to_neper * share * to_neper * variance[x + OVERLAP]
                excess = third * spread
                # the logarithm of 1 + excess as a quotient: logarithms differ in their last bit between machines
                quotient = np.float32(6) + np.float32(6) * excess + excess * excess
                logarithm = excess * (np.float32(6) + np.float32(3) * excess) / quotient
                mean = half * (spread / (np.float32(1) + excess) - logarithm)
                signal[plane, y, x] += _NEPER_DB * (neper - sixth * neper * neper - mean)
