"""Kernels of the sign contexts; Python side: :mod:`xsarcomp.codec.signs`.

Signed values are kept as int32, shape (channel=64, padded): all planes of y_latent + 2 rows of x_latent + 2 places, row after
row, whose outermost places repeat their neighbors. All arithmetic is in integers, because it decides probabilities.

Two kinds of positions occur. An index is a position in the list of coded values of a channel; ``places`` gives for each
index its place in a padded channel.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import SIGN_CLASSES
from xsarcomp.codec.kernels.compile import ReadOnly1D, ReadOnly2D, Writable1D, Writable3D, compiled


@compiled
def predict(
    known: ReadOnly2D[np.int32],
    offsets: ReadOnly2D[np.int64],
    factors: ReadOnly2D[np.int32],
    clip: np.int32,
    places: ReadOnly1D[np.int64],
    channels: ReadOnly1D[np.int16],
    kinds: ReadOnly1D[np.uint8],
    weights: ReadOnly1D[np.int16],
    sums: Writable1D[np.int32],
) -> None:
    """Compute weighted sums of features at ``places`` of the padded channels.

    A feature is a sum of up to four ``known`` values around a place, limited to ``clip``; its kind gives ``offsets`` and
    ``factors`` of these taps, shape (kind, tap=4). A term is a channel, a kind and a weight; a negative channel marks a term
    that is not used.
    """
    sums[:] = 0
    for term in range(channels.size):
        if channels[term] < 0:
            continue
        source, weight = known[channels[term]], np.int32(weights[term])
        offset, factor = offsets[kinds[term]], factors[kinds[term]]
        count = np.count_nonzero(factor)
        # unsigned indices: compiled code need not check for negative ones
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


@compiled
def select(
    phase: ReadOnly1D[np.int64],
    places: ReadOnly1D[np.int64],
    values: ReadOnly1D[np.int32],
    index: Writable1D[np.int64],
    chosen: Writable1D[np.int64],
) -> int:
    """List the indices of a phase whose value is not zero, and their places; return their number.

    ``index`` and ``chosen`` need room for one entry more than that.
    """
    count = 0
    for i in phase:
        index[count], chosen[count] = i, places[i]
        count += values[i] != 0
    return count


@compiled
def look_up(
    sums: ReadOnly1D[np.int32],
    index: ReadOnly1D[np.int64],
    values: ReadOnly1D[np.int32],
    thresholds: ReadOnly1D[np.int32],
    frequencies: ReadOnly2D[np.uint16],
    predicted: Writable1D[np.bool_],
    agreements: Writable1D[np.uint16],
) -> None:
    """Predict the signs of the values at ``index``: True for minus, and how often of 65536 that is right.

    ``frequencies`` has shape (class of magnitude, bin).
    """
    bins = np.zeros(sums.size, np.uint8)
    for threshold in thresholds:  # threshold by threshold, so that the inner loop is vectorized
        for i in range(sums.size):
            bins[i] += threshold <= abs(sums[i])
    for i in range(sums.size):
        predicted[i] = sums[i] < 0
        agreements[i] = frequencies[min(abs(values[index[i]]), SIGN_CLASSES) - 1, bins[i]]


@compiled
def contexts(
    known: ReadOnly2D[np.int32],
    offsets: ReadOnly2D[np.int64],
    factors: ReadOnly2D[np.int32],
    clip: np.int32,
    phase: ReadOnly1D[np.int64],
    places: ReadOnly1D[np.int64],
    values: ReadOnly1D[np.int32],
    channels: ReadOnly1D[np.int16],
    kinds: ReadOnly1D[np.uint8],
    weights: ReadOnly1D[np.int16],
    thresholds: ReadOnly1D[np.int32],
    frequencies: ReadOnly2D[np.uint16],
    index: Writable1D[np.int64],
    predicted: Writable1D[np.bool_],
    agreements: Writable1D[np.uint16],
) -> int:
    """Predict all signs of a phase: :func:`select`, :func:`predict` and :func:`look_up`; return their number."""
    chosen = np.empty(index.size, np.int64)
    count = select(phase, places, values, index, chosen)
    sums = np.empty(count, np.int32)
    predict(known, offsets, factors, clip, chosen[:count], channels, kinds, weights, sums)
    look_up(sums, index, values, thresholds, frequencies, predicted, agreements)
    return count


@compiled
def remember(
    index: ReadOnly1D[np.int64],
    places: ReadOnly1D[np.int64],
    values: ReadOnly1D[np.int32],
    clip: np.int32,
    padded: Writable3D[np.int32],
) -> None:
    """Store the values at ``index``, limited to ``clip``, in a padded channel, (plane, y + 2, x + 2), and renew its edge."""
    flat = padded.reshape(-1)
    for i in index:
        flat[places[i]] = min(max(values[i], np.int32(-clip)), clip)
    planes, height, width = padded.shape
    for plane in range(planes):
        for y in range(1, height - 1):
            padded[plane, y, 0], padded[plane, y, width - 1] = padded[plane, y, 1], padded[plane, y, width - 2]
        # whole rows, after the columns, so that the corners follow
        for x in range(width):
            padded[plane, 0, x], padded[plane, height - 1, x] = padded[plane, 1, x], padded[plane, height - 2, x]
