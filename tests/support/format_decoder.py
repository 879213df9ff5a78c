"""Parts of a decoder written from ``docs/format.md`` alone, in Python integers: slow, and an oracle for the tests."""

import itertools

import numpy as np


class RangeDecoderFromTheFormat:
    """The queue of constriction: 32-bit words, 64-bit state, 24-bit probabilities."""

    def __init__(self, words):
        self.words = iter([int(word) for word in words])
        self.lower, self.range, self.point = 0, 2**64 - 1, 0
        for _ in range(2):
            self.point = self.point << 32 | next(self.words, 0)

    def decode(self, weights):
        """Next token, of those with given weights of 2**24."""
        scale = self.range >> 24
        quantile = (self.point - self.lower) % 2**64 // scale
        token, cumulative = 0, 0
        while cumulative + weights[token] <= quantile:
            cumulative += weights[token]
            token += 1
        self.lower = (self.lower + scale * cumulative) % 2**64
        self.range = scale * weights[token]
        if self.range < 2**32:
            self.lower, self.range = (self.lower << 32) % 2**64, self.range << 32
            self.point = (self.point << 32) % 2**64 | next(self.words, 0)
        return token


def sign_weights(agreement):
    """Weights of 2**24 of the bits 0 (as predicted) and 1, from a frequency of 65536."""
    first = 256 * agreement - (1 if agreement > 32768 else 0)
    return [first, 2**24 - first]


def sign_feature(value, kind):
    """Feature of section 3.4.1; ``value`` gives V at a distance of rows and columns."""
    here, left, right, up, down = value(0, 0), value(0, -1), value(0, 1), value(-1, 0), value(1, 0)
    return (
        here,
        left + right,
        up + down,
        right - left,
        down - up,
        value(-1, -1) + value(1, 1) - value(1, -1) - value(-1, 1),
        left + right - 2 * here,
        up + down - 2 * here,
    )[kind]


def sign_prediction(symbols, tables, anchor, channel, place):
    """Sum t of section 3.4.1 at (plane, row, column)."""
    plane, row, column = place
    phase, total = (row + column) % 2, 0
    height, width = symbols.shape[2:]
    for term in range(8):
        at = (anchor, channel, phase, term)
        source, kind = int(tables.sign_term_channels[at]), int(tables.sign_term_kinds[at])
        if source < 0:
            continue

        def value(rows, columns, source=source):
            i, j = min(max(row + rows, 0), height - 1), min(max(column + columns, 0), width - 1)
            if source == channel and (i + j) % 2:
                return 0
            found = int(symbols[plane, source, i, j])
            return found if source == 0 else min(max(found, -255), 255)

        feature = min(max(sign_feature(value, kind), -1020), 1020)
        total += int(tables.sign_term_weights[at]) * feature
    return total


def signs_from_the_format(symbols, tables, anchor, channel):
    """Weights and bit of each sign of a channel in coding order."""
    planes, _, height, width = symbols.shape
    places = [(p, i, j) for p in range(planes) for i in range(height) for j in range(width)]
    for phase in (0, 1):
        for place in places:
            symbol = int(symbols[place[0], channel, place[1], place[2]])
            if not symbol or (place[1] + place[2]) % 2 != phase:
                continue
            total = sign_prediction(symbols, tables, anchor, channel, place)
            context_bin = sum(int(edge) <= abs(total) for edge in tables.sign_thresholds[anchor, channel, phase])
            row = tables.sign_frequencies[anchor, channel, phase, min(abs(symbol), 3) - 1]
            yield sign_weights(int(row[context_bin])), int((symbol < 0) != (total < 0))


def points_from_the_format(symbols, trellised):
    """Points and quantizers of section 3.8, one symbol at a time; the quantizer is 0 in channels without trellis."""
    points, quantizers = symbols.copy(), np.zeros(symbols.shape, int)
    order = sorted(range(64), key=lambda channel: (channel // 8 + channel % 8, channel))
    planes, _, height, width = symbols.shape
    for place in itertools.product(range(planes), range(height), range(width)):
        z = b = c = 0
        for channel in order:
            if trellised[channel]:
                at = (place[0], channel, *place[1:])
                k = int(symbols[at])
                points[at] = 0 if k == 0 else (2 * abs(k) - z) * (1 if k > 0 else -1)
                quantizers[at] = z
                z, b, c = z ^ b, c ^ abs(k) % 2, z
    return points, quantizers


def feature(points, channel, kind, place):
    """Feature of section 3.4 at (plane, row, column)."""
    plane, row, column = place
    height, width = points.shape[2:]

    def value(i, j):
        return int(points[plane, channel, min(max(i, 0), height - 1), min(max(j, 0), width - 1)])

    def magnitude(i, j):
        i, j = min(max(i, 0), height - 1), min(max(j, 0), width - 1)
        if channel:
            return min(255, abs(value(i, j)))
        around = (value(i - 1, j), value(i + 1, j), value(i, j - 1), value(i, j + 1))
        return min(255, sum(abs(value(i, j) - each) for each in around) >> 1)

    direct, diagonal = ((-1, 0), (1, 0), (0, -1), (0, 1)), ((-1, -1), (-1, 1), (1, -1), (1, 1))
    steps = (((0, 0),), direct, diagonal)[kind]
    return sum(magnitude(row + i, column + j) for i, j in steps)


def bin_from_the_format(points, quantizers, tables, anchor, channel, place):
    """Context bin of section 3.4 of a channel but the lowest, at (plane, row, column)."""
    arrays = (tables.term_channels, tables.term_kinds, tables.term_weights)
    terms = zip(*(array[anchor, channel].tolist() for array in arrays), strict=True)
    total = sum(weight * feature(points, source, kind, place) for source, kind, weight in terms if source >= 0)
    thresholds = tables.thresholds[anchor, channel].tolist()
    reached = sum(threshold <= total for threshold in thresholds)
    return reached + (len(thresholds) + 1) * int(quantizers[place[0], channel, place[1], place[2]])


def restored_from_the_format(point, shifts, spacing):
    """Latent of section 6.1 from a point, the shifts of its channel, and the spacing in dB as float32."""
    if point == 0:
        return np.float32(0)
    shift = float(shifts[min(abs(point), 6) - 1])
    return np.float32((point - (shift if point > 0 else -shift)) * float(spacing))


def integers_from_the_format(words, shape):
    """Planes of integers of section 3.9 from words of the range coder, in integers of Python."""
    decoder = RangeDecoderFromTheFormat(words)
    chances, counts = {}, {}

    def bit(*context):
        chance, count = chances.get(context, 2**23), counts.get(context, 0)
        found = decoder.decode([chance, 2**24 - chance])
        rate = 2**17 // (2 * count + 3)
        moved = chance + (((2**24 if found == 0 else 0) - chance) * rate >> 16)
        chances[context], counts[context] = min(max(moved, 512), 2**24 - 512), min(count + 1, 511)
        return found

    def integer(known, plane, row, column):
        def at(i, j):
            return known.get((plane, row + i, column + j), 0)

        left, above = at(0, -1), at(-1, 0)
        activity = 2 * abs(left) + 2 * abs(above) + abs(at(-1, -1)) + abs(at(-1, 1))
        kind = sum(edge <= activity for edge in (1, 2, 3, 4, 5, 7, 10, 15, 23, 36, 61))
        if not bit("zero", kind):
            return 0
        sign = -1 if bit("sign", sum((v > 0) - (v < 0) for v in (left, above))) else 1
        for i in range(1, 15):
            if not bit("more", kind, i):
                return sign * i
        exponent = 0
        while bit("exponent", exponent):
            exponent += 1
        rest = 1
        for _ in range(exponent):
            rest = 2 * rest + decoder.decode([2**23, 2**23])
        return sign * (14 + rest)

    known = {}
    for place in itertools.product(*(range(size) for size in shape)):
        known[place] = integer(known, *place)
    return np.array([known[place] for place in itertools.product(*map(range, shape))], np.int32).reshape(shape)
