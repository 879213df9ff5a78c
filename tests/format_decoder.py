"""Parts of a decoder written from ``docs/format.md`` alone, in Python integers: slow, and an oracle for the tests."""


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
