"""Kernels of the residual coder; Python side: :mod:`xsarcomp.codec.residual_coding`.

``docs/format.md``, section 3.9, is the normative text. Each bit has a *context*, and each context a *chance* that the bit is
0, in units of 2**-24. The chance moves towards each bit that is coded: it is the mean of all bits at first, then of about the
last 512.

Rows are handed around with one more value on each side, which is 0: ``place`` 1 is the first column of the plane. ``chances``
and ``seen`` (the number of bits so far) have shape (context,). ``state`` and ``words`` are those of the range coder
(:mod:`xsarcomp.codec.kernels.range_coder`). After a change of its ``narrow``, delete the cached machine code of this file.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.kernels.compile import ReadOnly1D, ReadOnly3D, Writable1D, Writable3D, compiled
from xsarcomp.codec.kernels.range_coder import IMPOSSIBLE_WORDS, LOW, PROBABILITY_BITS, WIDTH, WORD, narrow

UNARY = 14
"""Largest number of unary bits of a magnitude; the rest above it is coded as an exponent and a remainder."""
EXPONENTS = 21
"""Number of exponents that a rest may have, 0 to 20."""
ACTIVITY_EDGES = (1, 2, 3, 4, 5, 7, 10, 15, 23, 36, 61)
"""Smallest activity of each class but the first, which begins at 0."""
ACTIVITIES = len(ACTIVITY_EDGES) + 1
SIGN_CONTEXT = ACTIVITIES
UNARY_CONTEXT = SIGN_CONTEXT + 5
EXPONENT_CONTEXT = UNARY_CONTEXT + ACTIVITIES * UNARY
CONTEXTS = EXPONENT_CONTEXT + EXPONENTS
"""Number of contexts: zero or not by activity, then signs, unary bits by activity, and exponents, from the constants above."""
MOST_BITS = 2 + UNARY + 2 * EXPONENTS
"""Largest number of bits of a value."""
EVEN_CHANCE = 2 ** (PROBABILITY_BITS - 1)
SMALLEST_CHANCE = 512
RATES = (2**17 // (2 * np.arange(512) + 3)).astype(np.int64)
"""Share of the distance that a chance moves towards a bit, in units of 2**-16, by the number of bits seen so far."""
_CLASSES = np.searchsorted(ACTIVITY_EDGES, np.arange(ACTIVITY_EDGES[-1] + 1), side="right").astype(np.int64)
_LAST_ACTIVITY = np.int64(_CLASSES.size - 1)
_WORD_BITS, _SMALLEST_WIDTH = np.uint64(32), np.uint64(2**32)


@compiled
def activity_class(above: ReadOnly1D[np.int32], row: ReadOnly1D[np.int32], place: int) -> int:
    """Class of the activity of a place: magnitudes on the left and above twice, above left and above right once."""
    activity = 2 * (abs(np.int64(row[place - 1])) + abs(np.int64(above[place])))
    activity += abs(np.int64(above[place - 1])) + abs(np.int64(above[place + 1]))
    return _CLASSES[min(activity, _LAST_ACTIVITY)]


@compiled
def sign_context(above: ReadOnly1D[np.int32], row: ReadOnly1D[np.int32], place: int) -> int:
    """Context of a sign: the sum of the signs of the values on the left and above."""
    left, top = row[place - 1], above[place]
    return SIGN_CONTEXT + 2 + (left > 0) - (left < 0) + (top > 0) - (top < 0)


@compiled
def learn(chances: Writable1D[np.int64], seen: Writable1D[np.int64], context: int, bit: int) -> None:
    """Move the chance of a context towards a bit."""
    chance, rate = chances[context], RATES[seen[context]]
    if bit:
        chances[context] = max(chance + (-chance * rate >> 16), SMALLEST_CHANCE)
    else:
        chances[context] = min(
            chance + ((2**PROBABILITY_BITS - chance) * rate >> 16), 2**PROBABILITY_BITS - SMALLEST_CHANCE
        )
    seen[context] += seen[context] < RATES.size - 1


@compiled
def emit(
    context: int,
    bit: int,
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
    starts: Writable1D[np.uint32],
    widths: Writable1D[np.uint32],
    count: int,
) -> int:
    """Append the interval of a bit as entry number ``count``, and learn from the bit; return the number of entries."""
    chance = chances[context]
    starts[count] = np.uint32(chance if bit else 0)
    widths[count] = np.uint32(2**PROBABILITY_BITS - chance if bit else chance)
    learn(chances, seen, context, bit)
    return count + 1


@compiled
def model_row(
    above: ReadOnly1D[np.int32],
    row: ReadOnly1D[np.int32],
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
    starts: Writable1D[np.uint32],
    widths: Writable1D[np.uint32],
) -> int:
    """List the intervals of the bits of a row, in units of 2**-24; return the number of bits."""
    count = 0
    for place in range(1, row.size - 1):
        value = np.int64(row[place])
        magnitude, activity = abs(value), activity_class(above, row, place)
        count = emit(activity, np.int64(magnitude > 0), chances, seen, starts, widths, count)
        if magnitude == 0:
            continue
        count = emit(sign_context(above, row, place), np.int64(value < 0), chances, seen, starts, widths, count)
        for i in range(min(magnitude, np.int64(UNARY))):
            goes_on = np.int64(magnitude > i + 1)
            count = emit(UNARY_CONTEXT + activity * UNARY + i, goes_on, chances, seen, starts, widths, count)
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


@compiled
def encode_rows(
    values: ReadOnly3D[np.int32],
    first: int,
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
    state: Writable1D[np.uint64],
    words: Writable1D[np.uint32],
) -> int:
    """Encode the rows of planes, (plane, y, x), from number ``first`` on while ``words`` has room; return the next one."""
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


@compiled
def decode_bit(chance: int, state: Writable1D[np.uint64], words: ReadOnly1D[np.uint32]) -> int:
    """Decode a bit that is 0 with a known chance; negative for words that no encoder writes."""
    low, width = state[LOW], state[WIDTH]
    scale = width >> np.uint64(PROBABILITY_BITS)
    border = scale * np.uint64(chance)
    bit = 0
    if low < border:  # with a branch: most bits can be guessed
        width = border
    else:
        whole = scale << np.uint64(PROBABILITY_BITS)
        if low >= whole:
            return IMPOSSIBLE_WORDS
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


@compiled
def decode_and_learn(
    context: int,
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
) -> int:
    """Decode a bit of a context, which learns from it; negative for words that no encoder writes."""
    bit = decode_bit(chances[context], state, words)
    if bit >= 0:
        learn(chances, seen, context, bit)
    return bit


@compiled
def decode_rest(
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
) -> np.int64:
    """Decode the rest of a magnitude above ``UNARY``; negative for words that no encoder writes."""
    exponent = 0
    while True:
        bit = decode_and_learn(EXPONENT_CONTEXT + exponent, chances, seen, state, words)
        if bit <= 0:
            break
        exponent += 1
        if exponent >= EXPONENTS:
            return np.int64(IMPOSSIBLE_WORDS)
    rest = np.int64(1)
    for _ in range(exponent):
        if bit < 0:
            break
        bit = decode_bit(EVEN_CHANCE, state, words)
        rest = 2 * rest + max(bit, 0)
    return rest if bit >= 0 else np.int64(IMPOSSIBLE_WORDS)


@compiled
def decode_nonzero(
    activity: int,
    sign: int,
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
) -> np.int64:
    """Decode a value that is known not to be zero; 0 for words that no encoder writes.

    ``activity`` is a class of :func:`activity_class`, ``sign`` a context of :func:`sign_context`.
    """
    is_negative = decode_and_learn(sign, chances, seen, state, words)
    bit, magnitude = np.int64(1), np.int64(0)
    while bit > 0 and magnitude < UNARY:
        bit = decode_and_learn(UNARY_CONTEXT + activity * UNARY + magnitude, chances, seen, state, words)
        magnitude += 1
    if bit > 0:
        bit = decode_rest(state, words, chances, seen)
        magnitude += bit
    if is_negative < 0 or bit < 0 or magnitude >= LARGEST_MAGNITUDE:
        return np.int64(0)
    return -magnitude if is_negative else magnitude


@compiled
def decode_planes(
    chances: Writable1D[np.int64],
    seen: Writable1D[np.int64],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    values: Writable3D[np.int32],
) -> np.int64:
    """Decode planes, (plane, y, x), the inverse of :func:`encode_rows`; return 0, or a negative number for damaged data."""
    planes, height, size = values.shape
    above, row = np.zeros(size + 2, np.int32), np.zeros(size + 2, np.int32)
    low, width = state[LOW], state[WIDTH]
    for index in range(planes * height):
        above[:] = row
        if index % height == 0:
            above[:] = 0
        row[:] = 0
        for place in range(1, size + 1):
            activity = activity_class(above, row, place)
            # decode_bit written out for the bit "not zero": most values are zero, and a call would take three times as long
            scale = width >> np.uint64(PROBABILITY_BITS)
            border = scale * np.uint64(chances[activity])
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
            learn(chances, seen, activity, np.int64(not is_zero))
            if not is_zero:
                state[LOW], state[WIDTH] = low, width
                value = decode_nonzero(activity, sign_context(above, row, place), chances, seen, state, words)
                low, width = state[LOW], state[WIDTH]
                if value == 0:
                    return np.int64(IMPOSSIBLE_WORDS)
                row[place] = value
        values[index // height, index % height] = row[1 : size + 1]
    state[LOW], state[WIDTH] = low, width
    return np.int64(0)
