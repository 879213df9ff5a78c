"""Kernels of mean levels: sums over tiles in the encoder, and the decoder's gain; see :mod:`xsarcomp.codec.mean_levels`.

Tiles are ``edge`` values wide, and every array begins at a tile.
"""

import numpy as np

from xsarcomp.codec.kernels.compile import ReadOnly1D, ReadOnly3D, ReadOnly4D, Writable3D, Writable4D, compiled


@compiled
def add_powers(
    values: ReadOnly3D[np.float64],
    exponent: int,
    classes: ReadOnly3D[np.uint8],
    edge: int,
    sums: Writable4D[np.float64],
) -> None:
    """Add the number of valid pixels (class 0) of each tile, and their powers, to (plane, 2, tile row, tile column).

    ``values`` have shape (plane, y, x). ``exponent`` is 1 if they are power, 2 if they are amplitude, 0 if decibels.
    """
    planes, height, width = values.shape
    to_exponent = np.log(10.0) / 10
    for plane in range(planes):
        for y in range(height):
            row, known = values[plane, y], classes[plane, y]
            for tile in range(sums.shape[3]):
                count, total = 0.0, 0.0
                for x in range(tile * edge, min((tile + 1) * edge, width)):
                    if known[x] == 0:
                        count += 1
                        if exponent == 0:
                            total += np.exp(row[x] * to_exponent)
                        else:
                            total += row[x] if exponent == 1 else row[x] * row[x]
                sums[plane, 0, y // edge, tile] += count
                sums[plane, 1, y // edge, tile] += total


@compiled
def add_latents(
    points: ReadOnly4D[np.int32], spacings: ReadOnly1D[np.float64], edge: int, sums: Writable4D[np.float64]
) -> None:
    """Add the number of blocks of each tile, their lowest latents and the squares of all latents to (plane, 3, row, column).

    ``points`` have shape (plane, latent=64, y, x), ``spacings`` (latent=64,).
    """
    planes, channels, height, width = points.shape
    for plane in range(planes):
        for channel in range(channels):
            spacing = spacings[channel]
            for y in range(height):
                row = points[plane, channel, y]
                for tile in range(sums.shape[3]):
                    first, last = tile * edge, min((tile + 1) * edge, width)
                    total, squares = 0.0, 0.0
                    for x in range(first, last):
                        value = row[x] * spacing
                        total += value
                        squares += value * value
                    if channel == 0:
                        sums[plane, 0, y // edge, tile] += last - first
                        sums[plane, 1, y // edge, tile] += total
                    sums[plane, 2, y // edge, tile] += squares


@compiled
def set_means(
    signal: Writable3D[np.float32],
    classes: ReadOnly3D[np.uint8],
    targets: ReadOnly3D[np.float64],
    level_db: float,
    edge: int,
) -> None:
    """Multiply powers P by 1 - w + G w, w = P^2 / (P^2 + M^2), so that the mean over the valid pixels of each tile is M, in place.

    ``signal`` has shape (plane, y, x), dB above ``level_db``; ``targets`` are 10 log10 M, shape (plane, tile row, tile
    column), NaN where a tile is left as it is. ``docs/format.md``, section 6.7.
    """
    planes, height, width = signal.shape
    to_exponent, to_decibel = np.log(10.0) / 10, 10 / np.log(10.0)
    ratios = np.empty((edge, edge), np.float64)
    for plane in range(planes):
        for top in range(0, height, edge):
            for left in range(0, width, edge):
                target = targets[plane, top // edge, left // edge]
                bottom, right = min(top + edge, height), min(left + edge, width)
                missing, weighted = 0.0, 0.0  # what the weighted powers must sum up to, and what they do
                for y in range(top, bottom):
                    row, known, ratio = signal[plane, y], classes[plane, y], ratios[y - top]
                    for x in range(left, right):
                        value = np.exp((row[x] + (level_db - target)) * to_exponent)  # power over M
                        ratio[x - left] = value
                        if known[x] == 0:
                            missing += 1 - value / (1 + value * value)
                            weighted += value / (1 + 1 / (value * value))
                gain = missing / weighted
                if not (np.isfinite(gain) and gain > 0):
                    continue
                for y in range(top, bottom):
                    row, ratio = signal[plane, y], ratios[y - top]
                    for x in range(left, right):
                        square = ratio[x - left] * ratio[x - left]
                        row[x] += np.float32(np.log(1 / (1 + square) + gain / (1 + 1 / square)) * to_decibel)
