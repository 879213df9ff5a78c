"""Compiled inner loops between symbols and latents: reconstruction points, and what lies between the network's products.

Importing it compiles everything here, or reads it from the cache; :mod:`xsarcomp.codec.kernels.compile` says how to. Each operation in
floating point is rounded on its own and none is fused with another: ``docs/format.md``, sections 6.1 and 6.3, asks for the
bits. Activations have shape (y, x, channel), points and latents (latent=64, y, x).
"""

import numpy as np

from xsarcomp.codec.kernels.compile import compiled, read_only, scalar, written

_LARGEST = np.float32(127)  # level of an activation


@compiled(read_only("int32", 4), read_only("float64", 2), read_only("float64", 1), written("float32", 4))
def dequantize(points, shifts, spacings, latents):
    """Latents of points, (plane, latent=64, y, x).

    ``shifts`` are those towards zero by channel and magnitude, of which the last serves all larger ones.
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


@compiled(
    read_only("int32", 3), read_only("int8", 2), read_only("boolean", 1), scalar("float64"), scalar("float64"),
    written("int8", 3),
)  # fmt: skip
def input_levels(points, listed, trellised, step, unit, levels):
    """What the network sees of points; ``listed`` are the levels of points from one end to the other, without trellis
    and with it."""
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


@compiled(scalar("float32"), result="int8")
def level(value):
    """Level of a value in units: the nearest integer, of two the even one, limited."""
    return np.int8(min(max(np.rint(value), -_LARGEST), _LARGEST))


@compiled(
    read_only("int32", 3), read_only("float32", 1), read_only("float32", 1), scalar("float32"),
    written("float32", 3), written("int8", 3),
)  # fmt: skip
def first_features(sums, factor, addend, inverse, features, levels):
    """Features from the sums of the first layer, and their levels for the next."""
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            for channel in range(sums.shape[2]):
                value = np.float32(sums[y, x, channel]) * factor[channel] + addend[channel]
                features[y, x, channel] = value
                levels[y, x, channel] = level(value * inverse)


@compiled(read_only("int32", 3), read_only("float32", 1), read_only("float32", 1), written("int8", 3))
def hidden_levels(sums, factor, addend, levels):
    """Levels of what is positive of a layer."""
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            for channel in range(sums.shape[2]):
                value = np.float32(sums[y, x, channel]) * factor[channel] + addend[channel]
                levels[y, x, channel] = level(max(value, np.float32(0)))


@compiled(
    read_only("int32", 3), read_only("float32", 1), read_only("float32", 1), read_only("float32", 3), scalar("float32"),
    scalar("float32"), written("float32", 3), written("int8", 3),
)  # fmt: skip
def next_features(sums, factor, addend, around, smallest, inverse, features, levels):
    """Features of a block: those before it, cut by one on each side, plus its sums; and their levels for the next."""
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            for channel in range(sums.shape[2]):
                value = np.float32(sums[y, x, channel]) * factor[channel] + addend[channel]
                value = around[y + 1, x + 1, channel] + value
                features[y, x, channel] = value
                levels[y, x, channel] = level(max(value, smallest) * inverse)


@compiled(
    written("float32", 3), read_only("float64", 3), read_only("float64", 3), scalar("float64"), scalar("int64"),
    scalar("int64"), scalar("int64"),
)  # fmt: skip
def lift(signal, factors, powers, level, edge, top, left):
    """Multiply powers by 1 + factor P^2 / (P^2 + power^2) of their tile, in place; signal in dB above ``level``."""
    planes, height, width = signal.shape
    to_exponent, to_decibel = np.log(10.0) / 10, 10 / np.log(10.0)
    for plane in range(planes):
        for y in range(height):
            row = signal[plane, y]
            for x in range(width):
                factor = factors[plane, (y + top) // edge, (x + left) // edge]
                if factor != 0:
                    below = powers[plane, (y + top) // edge, (x + left) // edge] / np.exp(
                        (row[x] + level) * to_exponent
                    )
                    row[x] += np.float32(np.log1p(factor / (1 + below * below)) * to_decibel)
