"""Compiled inner loops of the residual coder; :mod:`xsarcomp.codec.residual_coding` imports it inside functions.

``docs/format.md``, section 3.9, is the normative text. Each bit has a *context*, and each context a chance that the bit is
0, in units of 2**-24, which moves towards each bit that was coded: the mean of all at first, then of about the last 512.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.kernels.compile import compiled, read_only, scalar, written
from xsarcomp.codec.kernels.range_coder import IMPOSSIBLE_WORDS, LOW, PROBABILITY_BITS, WIDTH, WORD, narrow

UNARY = 14
"""Magnitudes that are coded bit by bit; what is above is coded as an exponent and a remainder."""
EXPONENTS = 21
ACTIVITY_EDGES = (1, 2, 3, 4, 5, 7, 10, 15, 23, 36, 61)
"""Where classes of activity begin, but for the first, which begins at 0."""
ACTIVITIES = len(ACTIVITY_EDGES) + 1
SIGN_CONTEXT = ACTIVITIES
UNARY_CONTEXT = SIGN_CONTEXT + 5
EXPONENT_CONTEXT = UNARY_CONTEXT + ACTIVITIES * UNARY
CONTEXTS = EXPONENT_CONTEXT + EXPONENTS
MOST_BITS = 2 + UNARY + 2 * EXPONENTS
"""Bits of a value at most."""
EVEN_CHANCE = 2 ** (PROBABILITY_BITS - 1)
SMALLEST_CHANCE = 512
RATES = (2**17 // (2 * np.arange(512) + 3)).astype(np.int64)
"""How far a chance moves towards a bit, in units of 2**-16, by the number of bits that its context has seen."""
_CLASSES = np.searchsorted(ACTIVITY_EDGES, np.arange(ACTIVITY_EDGES[-1] + 1), side="right").astype(np.int64)
_WORD_BITS, _SMALLEST_WIDTH = np.uint64(32), np.uint64(2**32)
_CHANCES, _SEEN, _STATE, _ROW = written("int64", 1), written("int64", 1), written("uint64", 1), read_only("int32", 1)


@compiled(_ROW, _ROW, scalar("int64"), result="int64")
def activity_class(above, row, place):
    """Class of the magnitudes around a place that are known; rows begin and end with one value beyond the plane."""
    activity = 2 * (abs(np.int64(row[place - 1])) + abs(np.int64(above[place])))
    activity += abs(np.int64(above[place - 1])) + abs(np.int64(above[place + 1]))
    return _CLASSES[min(activity, _CLASSES.size - 1)]


@compiled(_ROW, _ROW, scalar("int64"), result="int64")
def sign_context(above, row, place):
    """Context of a sign: how many of the values on the left and above are positive, less those that are negative."""
    left, top = row[place - 1], above[place]
    return SIGN_CONTEXT + 2 + (left > 0) - (left < 0) + (top > 0) - (top < 0)


@compiled(_CHANCES, _SEEN, scalar("int64"), scalar("int64"))
def learn(chances, seen, context, bit):
    """Move the chance of a context towards a bit."""
    chance, rate = chances[context], RATES[seen[context]]
    if bit:
        chances[context] = max(chance + (-chance * rate >> 16), SMALLEST_CHANCE)
    else:
        chances[context] = min(
            chance + ((2**PROBABILITY_BITS - chance) * rate >> 16), 2**PROBABILITY_BITS - SMALLEST_CHANCE
        )
    seen[context] += seen[context] < RATES.size - 1


@compiled(
    scalar("int64"), scalar("int64"), _CHANCES, _SEEN,
    written("uint32", 1), written("uint32", 1), scalar("int64"), result="int64",
)  # fmt: skip
def emit(context, bit, chances, seen, starts, widths, count):
    """Note the interval of a bit; returns how many are noted."""
    chance = chances[context]
    starts[count] = np.uint32(chance if bit else 0)
    widths[count] = np.uint32(2**PROBABILITY_BITS - chance if bit else chance)
    learn(chances, seen, context, bit)
    return count + 1


@compiled(_ROW, _ROW, _CHANCES, _SEEN, written("uint32", 1), written("uint32", 1), result="int64")
def model_row(above, row, chances, seen, starts, widths):
    """Intervals of the bits of a row; returns how many bits there are."""
    count = 0
    for place in range(1, row.size - 1):
        value = np.int64(row[place])
        magnitude, kind = abs(value), activity_class(above, row, place)
        count = emit(kind, np.int64(magnitude > 0), chances, seen, starts, widths, count)
        if magnitude == 0:
            continue
        count = emit(sign_context(above, row, place), np.int64(value < 0), chances, seen, starts, widths, count)
        for i in range(min(magnitude, UNARY)):
            goes_on = np.int64(magnitude > i + 1)
            count = emit(UNARY_CONTEXT + kind * UNARY + i, goes_on, chances, seen, starts, widths, count)
        if magnitude <= UNARY:
            continue
        rest, exponent = magnitude - UNARY, 0
        while rest >> (exponent + 1):
            count = emit(EXPONENT_CONTEXT + exponent, 1, chances, seen, starts, widths, count)
            exponent += 1
        count = emit(EXPONENT_CONTEXT + exponent, 0, chances, seen, starts, widths, count)
        for bit in range(exponent - 1, -1, -1):
            starts[count] = np.uint32(EVEN_CHANCE * (rest >> bit & 1))
            widths[count] = np.uint32(EVEN_CHANCE)
            count += 1
    return count


@compiled(
    read_only("int32", 3), scalar("int64"), _CHANCES, _SEEN, _STATE, written("uint32", 1), result="int64"
)  # fmt: skip
def encode_rows(values, first, chances, seen, state, words):
    """Encode rows of planes from the ``first`` of all on, as long as there is room; returns the next row."""
    planes, height, width = values.shape
    above, row = np.zeros(width + 2, np.int32), np.zeros(width + 2, np.int32)
    starts, widths = np.empty(width * MOST_BITS, np.uint32), np.empty(width * MOST_BITS, np.uint32)
    for index in range(first, planes * height):
        plane, y = index // height, index % height
        if y > 0:
            above[1 : width + 1] = values[plane, y - 1]
        else:
            above[:] = 0
        row[1 : width + 1] = values[plane, y]
        if words.size - np.int64(state[WORD]) < width * MOST_BITS:
            return index
        count = model_row(above, row, chances, seen, starts, widths)
        narrow(starts[:count], widths[:count], state, words)
    return planes * height


@compiled(scalar("int64"), _STATE, read_only("uint32", 1), result="int64")
def decode_bit(chance, state, words):
    """A bit whose chance to be 0 is known, or a negative number for words that no encoder writes."""
    low, width = state[LOW], state[WIDTH]
    scale = width >> np.uint64(PROBABILITY_BITS)
    border = scale * np.uint64(chance)
    bit = 0
    if low < border:  # with a branch: most bits can be guessed
        width = border
    else:
        whole = scale << np.uint64(PROBABILITY_BITS)
        if low >= whole:
            return np.int64(IMPOSSIBLE_WORDS)
        low -= border
        width = whole - border
        bit = 1
    if width < _SMALLEST_WIDTH:
        word = np.int64(state[WORD])
        low = low << _WORD_BITS | np.uint64(words[word] if word < words.size else 0)
        width <<= _WORD_BITS
        state[WORD] = np.uint64(word + 1)
    state[LOW], state[WIDTH] = low, width
    return bit


@compiled(scalar("int64"), _CHANCES, _SEEN, _STATE, read_only("uint32", 1), result="int64")
def take(context, chances, seen, state, words):
    """A bit of a context, which learns from it."""
    bit = decode_bit(chances[context], state, words)
    if bit >= 0:
        learn(chances, seen, context, bit)
    return bit


@compiled(_STATE, read_only("uint32", 1), _CHANCES, _SEEN, result="int64")
def decode_rest(state, words, chances, seen):
    """What a magnitude has above ``UNARY``, or a negative number for words that no encoder writes."""
    exponent = 0
    while True:
        bit = take(EXPONENT_CONTEXT + exponent, chances, seen, state, words)
        if bit <= 0:
            break
        exponent += 1
        if exponent >= EXPONENTS:
            return np.int64(IMPOSSIBLE_WORDS)
    rest = np.int64(1)
    for _ in range(exponent):
        if bit < 0:
            break
        bit = decode_bit(np.int64(EVEN_CHANCE), state, words)
        rest = 2 * rest + max(bit, 0)
    return rest if bit >= 0 else np.int64(IMPOSSIBLE_WORDS)


@compiled(
    scalar("int64"), scalar("int64"), _CHANCES, _SEEN, _STATE, read_only("uint32", 1), result="int64"
)  # fmt: skip
def decode_nonzero(kind, sign_kind, chances, seen, state, words):
    """A value that is known not to be zero; 0 for words that no encoder writes."""
    is_negative = take(sign_kind, chances, seen, state, words)
    bit, magnitude = np.int64(1), np.int64(0)
    while bit > 0 and magnitude < UNARY:
        bit = take(UNARY_CONTEXT + kind * UNARY + magnitude, chances, seen, state, words)
        magnitude += 1
    if bit > 0:
        bit = decode_rest(state, words, chances, seen)
        magnitude += bit
    if is_negative < 0 or bit < 0 or magnitude >= LARGEST_MAGNITUDE:
        return np.int64(0)
    return -magnitude if is_negative else magnitude


@compiled(_CHANCES, _SEEN, _STATE, read_only("uint32", 1), written("int32", 3), result="int64")
def decode_planes(chances, seen, state, words, values):
    """Decode planes; the inverse of :func:`encode_rows`. Returns 0, or a negative number for damaged data."""
    planes, height, size = values.shape
    above, row = np.zeros(size + 2, np.int32), np.zeros(size + 2, np.int32)
    low, width = state[LOW], state[WIDTH]
    for index in range(planes * height):
        above[:] = row
        if index % height == 0:
            above[:] = 0
        row[:] = 0
        for place in range(1, size + 1):
            kind = activity_class(above, row, place)
            # whether it is zero, as in decode_bit: most values are, and a call would take three times as long
            scale = width >> np.uint64(PROBABILITY_BITS)
            border = scale * np.uint64(chances[kind])
            is_zero = low < border
            if is_zero:
                width = border
            else:
                whole = scale << np.uint64(PROBABILITY_BITS)
                if low >= whole:
                    return np.int64(IMPOSSIBLE_WORDS)
                low -= border
                width = whole - border
            if width < _SMALLEST_WIDTH:
                word = np.int64(state[WORD])
                low = low << _WORD_BITS | np.uint64(words[word] if word < words.size else 0)
                width <<= _WORD_BITS
                state[WORD] = np.uint64(word + 1)
            learn(chances, seen, kind, np.int64(not is_zero))
            if not is_zero:
                state[LOW], state[WIDTH] = low, width
                value = decode_nonzero(kind, sign_context(above, row, place), chances, seen, state, words)
                low, width = state[LOW], state[WIDTH]
                if value == 0:
                    return np.int64(IMPOSSIBLE_WORDS)
                row[place] = value
        values[index // height, index % height] = row[1 : size + 1]
    state[LOW], state[WIDTH] = low, width
    return np.int64(0)
