"""Kernels of the context model, and of the encoder's choice of each symbol in channels without trellis.

Python side: :mod:`xsarcomp.codec.contexts` and :mod:`xsarcomp.codec.coder`.

Magnitudes are kept as uint8, shape (channel=64, plane, padded). A padded plane has (y_latent + 2) rows of
``stride`` = x_latent + 2 places, row after row; its outermost places repeat their neighbors. A context sum for all places is
then one loop without edges. The padding between two rows gets sums too, which are never read.

Context sums and bins are integers, because they decide probabilities. Only the encoder's choice uses floating point.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import DIRECT_TOKENS
from xsarcomp.codec.kernels.compile import (
    ReadOnly1D,
    ReadOnly2D,
    ReadOnly3D,
    ReadOnly4D,
    Writable1D,
    Writable2D,
    Writable3D,
    Writable4D,
    compiled,
)

LAST_PRICE = DIRECT_TOKENS - 1
"""Largest magnitude with a token and thus a price of its own; the encoder takes larger ones to cost as much."""


@compiled
def remember(symbols: ReadOnly3D[np.int32], is_lowest: bool, clip: int, padded: Writable2D[np.uint8]) -> None:
    """Store the magnitudes that contexts read of one channel, limited to ``clip``.

    ``symbols`` have shape (plane, y, x), ``padded`` has shape (plane, padded). Of the lowest channel contexts read the local
    variation: half the sum of absolute differences to the four direct neighbors.
    """
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


@compiled
def add_terms(
    known: ReadOnly3D[np.uint8],
    plane: int,
    stride: int,
    channels: ReadOnly1D[np.int16],
    kinds: ReadOnly1D[np.uint8],
    weights: ReadOnly1D[np.int16],
    sums: Writable1D[np.int32],
) -> None:
    """Compute the context sums of one plane, padded like the magnitudes; sums on the padding are meaningless.

    A term is a channel of ``known`` magnitudes, the kind of its places (0: the same place, 1: its four direct neighbors,
    2: its four diagonal neighbors) and a weight. A negative channel marks a term that is not used.
    """
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
        # the four neighbors in memory order; direct ones are above, left, right, below
        reach = 0 if kinds[term] == 1 else 1
        first, last = source[1 - reach :], source[2 * stride + 1 + reach :]
        second, third = (source[stride:], source[stride + 2 :]) if reach == 0 else (source[2:], source[2 * stride :])
        for i in range(count):
            inside[i] += weight * (np.int32(first[i]) + np.int32(second[i]) + np.int32(third[i]) + np.int32(last[i]))


@compiled
def count_thresholds(sums: ReadOnly1D[np.int32], thresholds: ReadOnly1D[np.int32], bins: Writable1D[np.uint8]) -> None:
    """Compute the context bin of each sum: the number of thresholds that are at most the sum."""
    for i in range(sums.size):
        bins[i] = 0
    for threshold in thresholds:
        for i in range(sums.size):
            bins[i] += sums[i] >= threshold


@compiled
def context_bins(
    known: ReadOnly3D[np.uint8],
    channels: ReadOnly1D[np.int16],
    kinds: ReadOnly1D[np.uint8],
    weights: ReadOnly1D[np.int16],
    thresholds: ReadOnly1D[np.int32],
    bins: Writable3D[np.uint8],
) -> None:
    """Compute the context bins of a channel, shape (plane, y, x), from ``known`` magnitudes; see :func:`add_terms`."""
    planes, height, width = bins.shape
    stride = width + 2
    sums = np.empty(known.shape[2], np.int32)
    for plane in range(planes):
        add_terms(known, plane, stride, channels, kinds, weights, sums)
        for y in range(height):
            count_thresholds(sums[(y + 1) * stride + 1 : (y + 2) * stride - 1], thresholds, bins[plane, y])


@compiled
def neighbor(position: int, offset: int, size: int) -> int:
    """Position of a neighbor on an axis; beyond the edge that of the opposite neighbor, or the position itself."""
    if 0 <= position + offset < size:
        return position + offset
    return position - offset if 0 <= position - offset < size else position


@compiled
def predict_lowest(
    values: ReadOnly4D[np.int32],
    spacing: int,
    first_row: int,
    first_column: int,
    is_diagonal: bool,
    thresholds: ReadOnly1D[np.int32],
    predicted: Writable3D[np.int32],
    bins: Writable3D[np.uint8],
) -> None:
    """Predict one coarse-to-fine pass over channel 0 of ``values`` from four neighbors at a distance of ``spacing``.

    ``values`` have shape (plane, channel, y, x); the places of the pass are ``first_row`` and ``first_column`` and every
    2 * spacing from there. The context bin of a place counts the thresholds up to the spread of its four neighbors.
    """
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
                    # a grid of one row or column has no neighbors across: those along it count twice
                    if height <= spacing:
                        a, b = c, d
                    elif width <= spacing:
                        c, d = a, b
                predicted[plane, i, j] = (a + b + c + d + 2) >> 2
                spread[j] = max(max(a, b), max(c, d)) - min(min(a, b), min(c, d))
            count_thresholds(spread, thresholds, bins[plane, i])


@compiled
def round_to_zero(
    latents: ReadOnly4D[np.float64], spacings: ReadOnly1D[np.float64], rounding: float, points: Writable4D[np.int32]
) -> None:
    """Quantize latents, shape (plane, latent, y, x), in units of their channel's spacing, with a deadzone around zero.

    ``rounding`` is added to a magnitude before its fraction is dropped: 0.5 rounds to the nearest integer, less widens the
    deadzone.
    """
    planes, channels, height, _ = latents.shape
    for plane in range(planes):
        for channel in range(channels):
            spacing = spacings[channel]
            for y in range(height):
                row, quantized = latents[plane, channel, y], points[plane, channel, y]
                for x in range(row.size):
                    scaled = row[x] / spacing
                    magnitude = np.int32(np.floor(abs(scaled) + rounding))
                    quantized[x] = -magnitude if scaled < 0 else magnitude


@compiled
def weigh(code_length: ReadOnly2D[np.float32], lagrangian: np.float32, prices: Writable1D[np.float32]) -> None:
    """Compute the price of each context bin and magnitude: the Lagrange multiplier times its bits, sign included.

    ``code_length`` has shape (bin, magnitude), bits; ``prices`` has shape (bin * magnitude,), squared steps. Float32 like
    the code lengths.
    """
    width = LAST_PRICE + 1
    for context_bin in range(code_length.shape[0]):
        for magnitude in range(width):
            bits = code_length[context_bin, magnitude] + np.float32(magnitude > 0)
            prices[context_bin * width + magnitude] = lagrangian * bits


@compiled
def round_to_nearest(
    latents: ReadOnly1D[np.float64], step: float, magnitudes: Writable1D[np.float64], nearest: Writable1D[np.int32]
) -> np.int32:
    """Compute magnitudes in units of a step, and the nearest integers; return the largest of these."""
    largest = np.int32(0)
    for x in range(latents.size):
        magnitude = abs(latents[x] / step)
        magnitudes[x] = magnitude
        nearest[x] = np.int32(np.floor(magnitude + 0.5))
        largest = max(largest, nearest[x])
    return largest


@compiled
def look_up(
    bins: ReadOnly1D[np.uint8],
    nearest: ReadOnly1D[np.int32],
    prices: ReadOnly1D[np.float32],
    shifts: ReadOnly1D[np.float64],
    candidate_prices: Writable2D[np.float32],
    candidate_shifts: Writable2D[np.float64],
) -> None:
    """Look up prices and shifts of the candidates for each symbol.

    Candidates are zero, the integer below the nearest, and the nearest. ``candidate_prices`` has shape (candidate=3, x);
    ``candidate_shifts``, of the last two, shape (candidate=2, x).
    """
    last, last_shift = np.int32(LAST_PRICE), np.int32(shifts.size - 1)
    for x in range(bins.size):
        below = max(np.int32(nearest[x] - 1), np.int32(0))
        # unsigned indices: compiled code need not check for negative ones
        first = np.uint32(bins[x]) * np.uint32(LAST_PRICE + 1)
        candidate_prices[0, x] = prices[first]
        candidate_prices[1, x] = prices[first + np.uint32(min(below, last))]
        candidate_prices[2, x] = prices[first + np.uint32(min(nearest[x], last))]
        candidate_shifts[0, x] = shifts[np.uint32(min(below, last_shift))]
        candidate_shifts[1, x] = shifts[np.uint32(min(nearest[x], last_shift))]


@compiled
def decide(
    latents: ReadOnly1D[np.float64],
    magnitudes: ReadOnly1D[np.float64],
    nearest: ReadOnly1D[np.int32],
    prices: ReadOnly2D[np.float32],
    shifts: ReadOnly2D[np.float64],
    symbols: Writable1D[np.int32],
) -> None:
    """Choose the candidate with the least cost, the smaller one of two that cost the same; see :func:`look_up`.

    Products with 0 or 1 stand for branches. It is close to random which candidate wins: a processor would guess wrong every
    other time (17 ns a symbol). Without branches several symbols are decided together (1 ns).
    """
    for x in range(latents.size):
        magnitude, above = magnitudes[x], nearest[x]
        below = max(np.int32(above - 1), np.int32(0))
        cost_zero = magnitude * magnitude + prices[0, x]
        distance = magnitude - (below - shifts[0, x])
        cost_below = distance * distance + prices[1, x]
        distance = magnitude - (above - shifts[1, x])
        cost_above = distance * distance + prices[2, x]
        # where the one below is zero it costs the same as zero, and not less
        choice = np.int32(cost_below < cost_zero) * below
        is_above = np.int32(cost_above < min(cost_below, cost_zero))
        choice = np.int32(choice + is_above * (above - choice))
        # 0.5 - 2**-54 plus 0.5 is 1 in float64, but has no other candidate than zero
        choice = np.int32(choice * np.int32(magnitude >= 0.5))
        symbols[x] = choice * np.int32(1 - 2 * np.int32(latents[x] < 0))


@compiled
def choose(
    latents: ReadOnly4D[np.float64],
    step: float,
    wanted: ReadOnly1D[np.int64],
    known: ReadOnly3D[np.uint8],
    channels: ReadOnly2D[np.int16],
    kinds: ReadOnly2D[np.uint8],
    weights: ReadOnly2D[np.int16],
    thresholds: ReadOnly2D[np.int32],
    code_length: ReadOnly3D[np.float32],
    shifts: ReadOnly2D[np.float32],
    lagrangian: np.float32,
    chosen: Writable4D[np.int32],
) -> None:
    """Choose the symbols of the ``wanted`` channels, shape (plane, latent=64, y, x), with the least error and bits.

    :func:`xsarcomp.codec.choice.choose_points` describes the choice. Context terms, ``thresholds``, ``code_length`` and
    ``shifts`` have the channel as first axis; see :func:`add_terms` and :func:`weigh`.
    """
    planes, _, height, width = latents.shape
    stride = width + 2
    sums, bins = np.empty(known.shape[2], np.int32), np.empty(width, np.uint8)
    magnitudes, nearest = np.empty(width, np.float64), np.empty(width, np.int32)
    candidate_prices, candidate_shifts = np.empty((3, width), np.float32), np.empty((2, width), np.float64)
    prices = np.empty(code_length.shape[1] * (LAST_PRICE + 1), np.float32)
    channel_shifts = np.zeros(shifts.shape[1] + 1, np.float64)  # by magnitude: that of zero is 0
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
                        channel_shifts[i + 1] = shifts[channel, i]
                    is_prepared = True
                row_sums = sums[(y + 1) * stride + 1 : (y + 2) * stride - 1]
                count_thresholds(row_sums, thresholds[channel], bins)
                look_up(bins, nearest, prices, channel_shifts, candidate_prices, candidate_shifts)
                decide(row, magnitudes, nearest, candidate_prices, candidate_shifts, symbols)
