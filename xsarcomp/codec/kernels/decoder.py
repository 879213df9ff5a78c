"""Kernels of decoding: reconstruction of latents, per-element work between the network's convolutions, and tile gains.

Python side: :mod:`xsarcomp.codec.quantization`, :mod:`xsarcomp.codec.network.layers` and :mod:`xsarcomp.codec.tile_means`.

Each floating-point operation is rounded on its own and none is fused with another: ``docs/format.md``, sections 6.1 and 6.3,
defines the bits of the results. Activations have shape (y, x, channel), points and latents (latent=64, y, x). *Features* are
float32 activations, *levels* are activations quantized to int8.
"""

import numpy as np

from xsarcomp.codec.kernels.compile import (
    ReadOnly1D,
    ReadOnly2D,
    ReadOnly3D,
    ReadOnly4D,
    Writable3D,
    Writable4D,
    compiled,
)

_LARGEST = np.float32(127)  # largest magnitude of a level


@compiled
def dequantize(
    points: ReadOnly4D[np.int32],
    shifts: ReadOnly2D[np.float64],
    spacings: ReadOnly1D[np.float64],
    latents: Writable4D[np.float32],
) -> None:
    """Compute the latents that points stand for, (plane, latent=64, y, x).

    ``shifts`` towards zero have shape (latent=64, magnitude); the last magnitude serves all larger ones. ``spacings`` have
    shape (latent=64,).
    """
    planes, channels, height, width = points.shape
    last = np.int32(shifts.shape[1] - 1)
    for plane in range(planes):
        for channel in range(channels):
            for y in range(height):
                row, result = points[plane, channel, y], latents[plane, channel, y]
                for x in range(width):
                    shift = shifts[channel, np.uint32(min(abs(row[x]), last))]
                    result[x] = np.float32((row[x] - (-shift if row[x] < 0 else shift)) * spacings[channel])


@compiled
def input_levels(
    points: ReadOnly3D[np.int32],
    listed: ReadOnly2D[np.int8],
    trellised: ReadOnly1D[np.bool_],
    step: float,
    unit: float,
    levels: Writable3D[np.int8],
) -> None:
    """Compute the network's input, (y, x, feature=72), from points with one more row and column on each side.

    ``listed`` are the levels of points from the smallest to the largest, shape (has trellis, point). ``unit`` is the number
    of dB a level of the lowest channel.
    """
    height, width, _ = levels.shape
    last = np.int64(listed.shape[1] // 2)
    for y in range(height):
        for channel in range(1, len(points)):
            row, by_point = points[channel, y + 1], listed[np.int64(trellised[channel])]
            for x in range(width):
                levels[y, x, channel - 1] = by_point[np.uint64(min(max(np.int64(row[x + 1]), -last), last) + last)]
        above, here, below = points[0, y], points[0, y + 1], points[0, y + 2]
        for x in range(width):
            middle = np.int64(here[x + 1])
            around = (above[x + 1], below[x + 1], here[x], here[x + 2])
            for place in range(4):
                difference = min(max(np.int64(around[place]) - middle, -last), last)
                levels[y, x, 63 + place] = listed[0, np.uint64(difference + last)]
            levels[y, x, 67] = np.int8(min(max(np.rint(middle * step / unit), -127.0), 127.0))
            levels[y, x, 68:] = 0


@compiled
def level(value: np.float32) -> np.int8:
    """Round a value in units of a level to int8: to the nearest integer, of two the even one, limited to 127."""
    return np.int8(min(max(np.rint(value), -_LARGEST), _LARGEST))


@compiled
def entry_features(
    sums: ReadOnly3D[np.int32],
    factor: ReadOnly1D[np.float32],
    addend: ReadOnly1D[np.float32],
    inverse: np.float32,
    features: Writable3D[np.float32],
    levels: Writable3D[np.int8],
) -> None:
    """Scale the sums of the entry layer to features, and round these to levels for the next layer.

    ``factor`` and ``addend`` have shape (channel,); ``inverse`` is one over the unit of the levels.
    """
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            for channel in range(sums.shape[2]):
                value = np.float32(sums[y, x, channel]) * factor[channel] + addend[channel]
                features[y, x, channel] = value
                levels[y, x, channel] = level(value * inverse)


@compiled
def hidden_levels(
    sums: ReadOnly3D[np.int32],
    factor: ReadOnly1D[np.float32],
    addend: ReadOnly1D[np.float32],
    levels: Writable3D[np.int8],
) -> None:
    """Scale the sums of a block's 3x3 layer, apply the ReLU, and round to int8 levels."""
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            for channel in range(sums.shape[2]):
                value = np.float32(sums[y, x, channel]) * factor[channel] + addend[channel]
                levels[y, x, channel] = level(max(value, np.float32(0)))


@compiled
def block_features(
    sums: ReadOnly3D[np.int32],
    factor: ReadOnly1D[np.float32],
    addend: ReadOnly1D[np.float32],
    around: ReadOnly3D[np.float32],
    smallest: np.float32,
    inverse: np.float32,
    features: Writable3D[np.float32],
    levels: Writable3D[np.int8],
) -> None:
    """Add the scaled sums of a block's 1x1 layer to the block's input, and round to levels for the next layer.

    ``around`` is the input of the block, one row and column larger on each side. ``smallest`` limits the levels from below:
    0 is a ReLU, minus infinity none.
    """
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            for channel in range(sums.shape[2]):
                value = np.float32(sums[y, x, channel]) * factor[channel] + addend[channel]
                value = around[y + 1, x + 1, channel] + value
                features[y, x, channel] = value
                levels[y, x, channel] = level(max(value, smallest) * inverse)


@compiled
def lift(
    signal: Writable3D[np.float32],
    factors: ReadOnly3D[np.float64],
    powers: ReadOnly3D[np.float64],
    level_db: float,
    edge: int,
    top: int,
    left: int,
) -> None:
    """Multiply powers P by 1 + factor P^2 / (P^2 + P0^2) of their tile, in place; ``docs/format.md``, section 6.6.

    ``signal`` has shape (plane, y, x), dB above ``level_db``. ``factors`` and ``powers`` P0 have shape (plane, tile row, tile
    column); tiles are ``edge`` pixels wide, and the signal begins ``top`` and ``left`` pixels into the first of them.
    """
    planes, height, width = signal.shape
    to_exponent, to_decibel = np.log(10.0) / 10, 10 / np.log(10.0)
    for plane in range(planes):
        for y in range(height):
            row = signal[plane, y]
            for x in range(width):
                factor = factors[plane, (y + top) // edge, (x + left) // edge]
                if factor != 0:
                    below = powers[plane, (y + top) // edge, (x + left) // edge] / np.exp(
                        (row[x] + level_db) * to_exponent
                    )
                    row[x] += np.float32(np.log1p(factor / (1 + below * below)) * to_decibel)
