"""Compiled inner loops of the sign contexts; :mod:`xsarcomp.codec.signs` imports it inside functions.

Known values are kept as int32, shape (channel=64, padded), where ``padded`` are all planes of y_latent + 2 rows of
x_latent + 2 places, row after row, whose outermost places repeat their neighbors. Everything here is integer arithmetic.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import SIGN_CLASSES
from xsarcomp.codec.kernels.compile import compiled, read_only, scalar, written


@compiled(
    read_only("int32", 2),
    read_only("int64", 2),
    read_only("int32", 2),
    scalar("int32"),
    read_only("int64", 1),
    read_only("int16", 1),
    read_only("uint8", 1),
    read_only("int16", 1),
    written("int32", 1),
)
def predict(known, offsets, factors, clip, places, channels, kinds, weights, sums):
    """Weighted sums of features at ``places``; ``offsets`` and ``factors`` of the taps have shape (kind, tap=4)."""
    sums[:] = 0
    for term in range(channels.size):
        if channels[term] < 0:
            continue
        source, weight = known[channels[term]], np.int32(weights[term])
        offset, factor = offsets[kinds[term]], factors[kinds[term]]
        count = np.count_nonzero(factor)
        # unsigned indices spare the look for negative ones
        if count == 2:  # most terms
            for i in range(places.size):
                feature = factor[0] * source[np.uint64(places[i] + offset[0])]
                feature += factor[1] * source[np.uint64(places[i] + offset[1])]
                sums[i] += weight * min(max(feature, np.int32(-clip)), clip)
        else:
            for i in range(places.size):
                feature = np.int32(0)
                for tap in range(count):
                    feature += factor[tap] * source[np.uint64(places[i] + offset[tap])]
                sums[i] += weight * min(max(feature, np.int32(-clip)), clip)


@compiled(
    read_only("int64", 1),
    read_only("int64", 1),
    read_only("int32", 1),
    written("int64", 1),
    written("int64", 1),
    result="int64",
)
def select(phase, places, values, index, chosen):
    """Those of a phase whose value is not zero, into ``index``, and their padded places; returns how many."""
    count = 0
    for i in phase:
        index[count], chosen[count] = i, places[i]
        count += values[i] != 0
    return count


@compiled(
    read_only("int32", 1),
    read_only("int64", 1),
    read_only("int32", 1),
    read_only("int32", 1),
    read_only("uint16", 2),
    written("boolean", 1),
    written("uint16", 1),
)
def look_up(sums, index, values, thresholds, frequencies, predicted, agreements):
    """Whether a minus is predicted, and how often of 65536 rightly, of the signs of values at ``index``."""
    bins = np.zeros(sums.size, np.uint8)
    for threshold in thresholds:  # threshold by threshold: so the inner loop is vectorised
        for i in range(sums.size):
            bins[i] += threshold <= abs(sums[i])
    for i in range(sums.size):
        predicted[i] = sums[i] < 0
        agreements[i] = frequencies[min(abs(values[index[i]]), SIGN_CLASSES) - 1, bins[i]]


@compiled(
    read_only("int32", 2),
    read_only("int64", 2),
    read_only("int32", 2),
    scalar("int32"),
    read_only("int64", 1),
    read_only("int64", 1),
    read_only("int32", 1),
    read_only("int16", 1),
    read_only("uint8", 1),
    read_only("int16", 1),
    read_only("int32", 1),
    read_only("uint16", 2),
    written("int64", 1),
    written("boolean", 1),
    written("uint16", 1),
    result="int64",
)
def contexts(
    known, offsets, factors, clip, phase, places, values, channels, kinds, weights, thresholds, frequencies,
    index, predicted, agreements,
):  # fmt: skip
    """All of the above for the signs of a phase; returns how many there are."""
    chosen = np.empty(index.size, np.int64)
    count = select(phase, places, values, index, chosen)
    sums = np.empty(count, np.int32)
    predict(known, offsets, factors, clip, chosen[:count], channels, kinds, weights, sums)
    look_up(sums, index, values, thresholds, frequencies, predicted, agreements)
    return count


@compiled(read_only("int64", 1), read_only("int64", 1), read_only("int32", 1), scalar("int32"), written("int32", 3))
def remember(index, places, values, clip, padded):
    """Values at ``index`` into a padded channel, (plane, y + 2, x + 2), and the repetition around it."""
    flat = padded.reshape(-1)
    for i in index:
        flat[places[i]] = min(max(values[i], np.int32(-clip)), clip)
    planes, height, width = padded.shape
    for plane in range(planes):
        for y in range(1, height - 1):
            padded[plane, y, 0], padded[plane, y, width - 1] = padded[plane, y, 1], padded[plane, y, width - 2]
        # whole rows, after the columns: so the corners follow
        for x in range(width):
            padded[plane, 0, x], padded[plane, height - 1, x] = padded[plane, 1, x], padded[plane, height - 2, x]
