"""Compiled inner loops of the contexts and of the choice of symbols.

Importing it compiles everything here, or reads it from the cache; :mod:`xsarcomp.codec.kernels.compile` says how to. Kernels that call
each other stand in this one file, because the cache notices changes of the file of a kernel and of no other.

Magnitudes are kept as uint8, shape (channel=64, plane, padded), where ``padded`` is a plane of (y_latent + 2) rows of
``stride`` = x_latent + 2 places, row after row, whose outermost places repeat their neighbors. The sum for all places of
a plane is then one loop without edges. The places between two rows get sums too, which nobody reads.

Sums and bins are integers: they decide probabilities. Only the encoder's choice computes in floating point.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import DIRECT_TOKENS
from xsarcomp.codec.kernels.compile import compiled, read_only, scalar, written

LAST_PRICE = DIRECT_TOKENS - 1
"""Largest magnitude with a token of its own; the choice takes larger ones to cost as much."""


@compiled(read_only("int32", 3), scalar("boolean"), scalar("int64"), written("uint8", 2))
def remember(symbols, is_lowest, clip, padded):
    """Magnitudes of a channel's symbols, (plane, y, x), into ``padded``; of the lowest channel the local variation."""
    planes, height, width = symbols.shape
    stride = width + 2
    for plane in range(planes):
        values = symbols[plane]
        for y in range(height):
            row = padded[plane, (y + 1) * stride + 1 : (y + 2) * stride - 1]
            here = values[y]
            if is_lowest:
                above, below = values[max(y - 1, 0)], values[min(y + 1, height - 1)]
                for x in range(width):
                    left, right = here[max(x - 1, 0)], here[min(x + 1, width - 1)]
                    variation = abs(here[x] - above[x]) + abs(here[x] - below[x])
                    variation += abs(here[x] - left) + abs(here[x] - right)
                    row[x] = min(variation >> 1, clip)
            else:
                for x in range(width):
                    row[x] = min(abs(here[x]), clip)
            padded[plane, (y + 1) * stride] = row[0]
            padded[plane, (y + 2) * stride - 1] = row[width - 1]
        for x in range(stride):
            padded[plane, x] = padded[plane, stride + x]
            padded[plane, (height + 1) * stride + x] = padded[plane, height * stride + x]


@compiled(
    read_only("uint8", 3),
    scalar("int64"),
    scalar("int64"),
    read_only("int16", 1),
    read_only("uint8", 1),
    read_only("int16", 1),
    written("int32", 1),
)
def add_terms(known, plane, stride, channels, kinds, weights, sums):
    """Context sums of one plane, padded like the magnitudes; what stands on the padding is of no use."""
    for i in range(sums.size):
        sums[i] = 0
    count = sums.size - 2 * stride - 2
    inside = sums[stride + 1 : stride + 1 + count]
    for term in range(channels.size):
        if channels[term] < 0:
            continue
        weight = np.int32(weights[term])
        source = known[channels[term], plane]
        if kinds[term] == 0:
            middle = source[stride + 1 :]
            for i in range(count):
                inside[i] += weight * np.int32(middle[i])
            continue
        # the four neighbors, named for the direct ones: above, left, right, below
        reach = 0 if kinds[term] == 1 else 1
        first, last = source[1 - reach :], source[2 * stride + 1 + reach :]
        second, third = (source[stride:], source[stride + 2 :]) if reach == 0 else (source[2:], source[2 * stride :])
        for i in range(count):
            inside[i] += weight * (np.int32(first[i]) + np.int32(second[i]) + np.int32(third[i]) + np.int32(last[i]))


@compiled(read_only("int32", 1), read_only("int32", 1), written("uint8", 1))
def count_thresholds(sums, thresholds, bins):
    """Bins of context sums: how many thresholds are at most the sum."""
    for i in range(sums.size):
        bins[i] = 0
    for threshold in thresholds:
        for i in range(sums.size):
            bins[i] += sums[i] >= threshold


@compiled(
    read_only("uint8", 3),
    read_only("int16", 1),
    read_only("uint8", 1),
    read_only("int16", 1),
    read_only("int32", 1),
    written("uint8", 3),
)
def context_bins(known, channels, kinds, weights, thresholds, bins):
    """Context bins of a channel, (plane, y, x)."""
    planes, height, width = bins.shape
    stride = width + 2
    sums = np.empty(known.shape[2], np.int32)
    for plane in range(planes):
        add_terms(known, plane, stride, channels, kinds, weights, sums)
        for y in range(height):
            count_thresholds(sums[(y + 1) * stride + 1 : (y + 2) * stride - 1], thresholds, bins[plane, y])


@compiled(scalar("int64"), scalar("int64"), scalar("int64"), result="int64")
def neighbor(position, offset, size):
    """Position of a neighbor on an axis; beyond the edge the opposite one stands in, and else the place itself."""
    if 0 <= position + offset < size:
        return position + offset
    return position - offset if 0 <= position - offset < size else position


@compiled(
    read_only("int32", 4),
    scalar("int64"),
    scalar("int64"),
    scalar("int64"),
    scalar("boolean"),
    read_only("int32", 1),
    written("int32", 3),
    written("uint8", 3),
)
def predict_lowest(values, spacing, first_row, first_column, is_diagonal, thresholds, predicted, bins):
    """Predictions and context bins of one pass over channel 0 of ``values``, from four neighbors at ``spacing``."""
    _, _, height, width = values.shape
    planes, rows, columns = predicted.shape
    spread = np.empty(columns, np.int32)
    for plane in range(planes):
        known = values[plane, 0]
        for i in range(rows):
            y = first_row + 2 * spacing * i
            up, down = neighbor(y, -spacing, height), neighbor(y, spacing, height)
            for j in range(columns):
                x = first_column + 2 * spacing * j
                left, right = neighbor(x, -spacing, width), neighbor(x, spacing, width)
                if is_diagonal:
                    a, b, c, d = known[up, left], known[down, right], known[up, right], known[down, left]
                else:
                    a, b, c, d = known[up, x], known[down, x], known[y, left], known[y, right]
                    # a grid of one row or column has no neighbors across: those along it stand in
                    if height <= spacing:
                        a, b = c, d
                    elif width <= spacing:
                        c, d = a, b
                predicted[plane, i, j] = (a + b + c + d + 2) >> 2
                spread[j] = max(max(a, b), max(c, d)) - min(min(a, b), min(c, d))
            count_thresholds(spread, thresholds, bins[plane, i])


@compiled(read_only("float64", 4), read_only("float64", 1), scalar("float64"), written("int32", 4))
def round_to_zero(latents, spacings, rounding, points):
    """Integers of latents in units of their channel's spacing, with a widened zone around zero; (plane, latent, y, x)."""
    planes, channels, height, _ = latents.shape
    for plane in range(planes):
        for channel in range(channels):
            spacing = spacings[channel]
            for y in range(height):
                row, found = latents[plane, channel, y], points[plane, channel, y]
                for x in range(row.size):
                    scaled = row[x] / spacing
                    magnitude = np.int32(np.floor(abs(scaled) + rounding))
                    found[x] = -magnitude if scaled < 0 else magnitude


@compiled(read_only("float32", 2), scalar("float32"), written("float32", 1))
def weigh(code_length, lagrangian, prices):
    """What the bits of each bin and magnitude cost, with one for the sign; float32 like the code lengths."""
    width = LAST_PRICE + 1
    for context_bin in range(code_length.shape[0]):
        for magnitude in range(width):
            bits = code_length[context_bin, magnitude] + np.float32(magnitude > 0)
            prices[context_bin * width + magnitude] = lagrangian * bits


@compiled(read_only("float64", 1), scalar("float64"), written("float64", 1), written("int32", 1), result="int32")
def round_to_nearest(latents, step, magnitudes, nearest):
    """Magnitudes in units of a step, and the nearest integers; returns the largest of these."""
    largest = np.int32(0)
    for x in range(latents.size):
        magnitude = abs(latents[x] / step)
        magnitudes[x] = magnitude
        nearest[x] = np.int32(np.floor(magnitude + 0.5))
        largest = max(largest, nearest[x])
    return largest


@compiled(
    read_only("uint8", 1),
    read_only("int32", 1),
    read_only("float32", 1),
    read_only("float64", 1),
    written("float32", 2),
    written("float64", 2),
)
def look_up(bins, nearest, prices, points, price, point):
    """Prices of zero, the integer below the nearest and the nearest, and the shifts of the last two."""
    last, last_point = np.int32(LAST_PRICE), np.int32(points.size - 1)
    for x in range(bins.size):
        below = max(np.int32(nearest[x] - 1), np.int32(0))
        # unsigned indices spare the look for negative ones
        first = np.uint32(bins[x]) * np.uint32(LAST_PRICE + 1)
        price[0, x] = prices[first]
        price[1, x] = prices[first + np.uint32(min(below, last))]
        price[2, x] = prices[first + np.uint32(min(nearest[x], last))]
        point[0, x] = points[np.uint32(min(below, last_point))]
        point[1, x] = points[np.uint32(min(nearest[x], last_point))]


@compiled(
    read_only("float64", 1),
    read_only("float64", 1),
    read_only("int32", 1),
    read_only("float32", 2),
    read_only("float64", 2),
    written("int32", 1),
)
def decide(latents, magnitudes, nearest, price, point, symbols):
    """The candidate with the least cost, the smaller if two cost the same.

    Products with 0 or 1 stand for branches. Which candidate wins is close to random: a processor would guess wrong every
    other time (17 ns a symbol), and without branches several symbols are decided together (1 ns).
    """
    for x in range(latents.size):
        magnitude, above = magnitudes[x], nearest[x]
        below = max(np.int32(above - 1), np.int32(0))
        cost_zero = magnitude * magnitude + price[0, x]
        distance = magnitude - (below - point[0, x])
        cost_below = distance * distance + price[1, x]
        distance = magnitude - (above - point[1, x])
        cost_above = distance * distance + price[2, x]
        # where it is zero, the one below costs the same as zero, and not less
        choice = np.int32(cost_below < cost_zero) * below
        is_above = np.int32(cost_above < min(cost_below, cost_zero))
        choice = np.int32(choice + is_above * (above - choice))
        # 0.5 - 2**-54 plus 0.5 is 1 in float64, but has no other candidate than zero
        choice = np.int32(choice * np.int32(magnitude >= 0.5))
        symbols[x] = choice * np.int32(1 - 2 * np.int32(latents[x] < 0))


@compiled(
    read_only("float64", 4),
    scalar("float64"),
    read_only("int64", 1),
    read_only("uint8", 3),
    read_only("int16", 2),
    read_only("uint8", 2),
    read_only("int16", 2),
    read_only("int32", 2),
    read_only("float32", 3),
    read_only("float32", 2),
    scalar("float32"),
    written("int32", 4),
)
def choose(latents, step, wanted, known, channels, kinds, weights, thresholds, code_length, shifts, lagrangian, chosen):
    """Symbols of the ``wanted`` channels, (plane, latent=64, y, x); see :func:`xsarcomp.codec.coder.choose_points`."""
    planes, _, height, width = latents.shape
    stride = width + 2
    sums, bins = np.empty(known.shape[2], np.int32), np.empty(width, np.uint8)
    magnitudes, nearest = np.empty(width, np.float64), np.empty(width, np.int32)
    price, point = np.empty((3, width), np.float32), np.empty((2, width), np.float64)
    prices = np.empty(code_length.shape[1] * (LAST_PRICE + 1), np.float32)
    points = np.zeros(shifts.shape[1] + 1, np.float64)
    for plane in range(planes):
        for channel in wanted:
            is_prepared = False
            for y in range(height):
                row, symbols = latents[plane, channel, y], chosen[plane, channel, y]
                largest = round_to_nearest(row, step, magnitudes, nearest)
                if largest == 0:  # zero is the only candidate: most of the high frequencies
                    for x in range(width):
                        symbols[x] = 0
                    continue
                if not is_prepared:
                    add_terms(known, plane, stride, channels[channel], kinds[channel], weights[channel], sums)
                    weigh(code_length[channel], lagrangian, prices)
                    for i in range(shifts.shape[1]):
                        points[i + 1] = shifts[channel, i]
                    is_prepared = True
                row_sums = sums[(y + 1) * stride + 1 : (y + 2) * stride - 1]
                count_thresholds(row_sums, thresholds[channel], bins)
                look_up(bins, nearest, prices, points, price, point)
                decide(row, magnitudes, nearest, price, point, symbols)
