"""Kernels of the range coder; Python side: :mod:`xsarcomp.codec.range_coder`.

``docs/format.md``, section 3.5, is the normative text. A range coder keeps an interval of 64-bit integers. Each token or sign
narrows it to a part as wide as its probability; whenever the interval is narrower than 2**32, its upper 32 bits are fixed and
become a word of the stream. The bits that need no probability (remainders of large magnitudes, some signs) are *bypass bits*
in a second sequence.

The *state* of a coder between two calls is an array of four uint64. An encoder keeps the lower end and the width of its
interval, and the numbers of words and of bits written; a decoder the distance of the words from the lower end, the width, and
the numbers of words and of bits read. Loops keep the first two in registers.

Signed and unsigned integers of 64 bits would meet in float64. Where ``uint64`` is written out, it keeps them apart.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import DIRECT_TOKENS, LARGEST_MAGNITUDE, TOKEN_BITS, TOKEN_START, TOKENS
from xsarcomp.codec.kernels.compile import ReadOnly1D, ReadOnly2D, Writable1D, compiled

IMPOSSIBLE_WORDS, MISSING_BITS = -1, -2
"""Status that kernels of the decoder return for damaged data; 0 if all is well."""
PROBABILITY_BITS = 24
LOW, WIDTH, WORD, BIT = range(4)
"""Indices of a state."""
_EXTRA_BITS = PROBABILITY_BITS - 16  # tables have probabilities in units of 2**-16
_GLANCE_BITS = 6  # upper bits of a quantile that say where the search for its token begins
_WORD_BITS = np.uint64(32)
_SMALLEST_WIDTH = np.uint64(2**32)
_FULL_WORD = np.uint32(2**32 - 1)


@compiled
def add_one(words: Writable1D[np.uint32], count: int) -> None:
    """Carry: add one to the number that the first ``count`` words form. It never is the largest already."""
    place = count - 1
    while words[place] == _FULL_WORD:
        words[place] = 0
        place -= 1
    words[place] += np.uint32(1)


@compiled
def narrow(
    starts: ReadOnly1D[np.uint32],
    widths: ReadOnly1D[np.uint32],
    state: Writable1D[np.uint64],
    words: Writable1D[np.uint32],
) -> None:
    """Narrow the interval to one part after the other; starts and widths of the parts are in units of 2**-24 of it."""
    low, width, count = state[LOW], state[WIDTH], np.int64(state[WORD])
    for i in range(starts.size):
        scale = width >> np.uint64(PROBABILITY_BITS)
        moved = low + scale * np.uint64(starts[i])
        width = scale * np.uint64(widths[i])
        if moved < low:  # beyond 2**64
            add_one(words, count)
        low = moved
        if width < _SMALLEST_WIDTH:
            words[count] = np.uint32(low >> _WORD_BITS)
            count += 1
            low <<= _WORD_BITS
            width <<= _WORD_BITS
    state[LOW], state[WIDTH], state[WORD] = low, width, np.uint64(count)


@compiled
def first_places(bins: ReadOnly1D[np.uint8], places: Writable1D[np.int64]) -> None:
    """Compute the first place of each bin in a list that is sorted by bins; one place more holds the end."""
    # two histograms: where one bin follows itself, a count need not wait for the one before
    second = np.zeros(places.size, np.int64)
    places[:] = 0
    for i in range(1, bins.size, 2):
        places[bins[i - 1]] += 1
        second[bins[i]] += 1
    if bins.size % 2:
        places[bins[bins.size - 1]] += 1
    total = 0
    for context_bin in range(places.size):
        count = places[context_bin] + second[context_bin]
        places[context_bin] = total
        total += count


@compiled
def tokenize(values: ReadOnly1D[np.int32], tokens: Writable1D[np.uint8]) -> np.int64:
    """Compute the tokens of integers; return the largest magnitude.

    Tokens are wrong if the format does not hold that magnitude.
    """
    largest = np.int64(0)
    for i in range(values.size):
        magnitude = abs(np.int64(values[i]))
        tokens[i] = min(magnitude, np.int64(DIRECT_TOKENS - 1))
        largest = max(largest, magnitude)
    if DIRECT_TOKENS <= largest < LARGEST_MAGNITUDE:
        for i in range(values.size):
            magnitude = abs(np.int64(values[i]))
            while TOKEN_START[tokens[i] + 1] <= magnitude:
                tokens[i] += 1
    return largest


@compiled
def write_bits(
    values: ReadOnly1D[np.int32],
    tokens: ReadOnly1D[np.uint8],
    has_signs: bool,
    state: Writable1D[np.uint64],
    bits: Writable1D[np.uint8],
) -> None:
    """Write the bypass bits of a pass: the signs in list order if it has them here, then remainders token by token."""
    count, last = np.int64(state[BIT]), 0
    for i in range(values.size):
        last = max(last, tokens[i])
        if has_signs:
            bits[count] = values[i] < 0
            count += tokens[i] > 0
    for token in range(DIRECT_TOKENS, last + 1):
        for i in range(values.size):
            if tokens[i] == token:
                remainder = abs(np.int64(values[i])) - TOKEN_START[token]
                for bit in range(TOKEN_BITS[token]):
                    bits[count] = remainder >> bit & 1
                    count += 1
    state[BIT] = np.uint64(count)


@compiled
def encode_pass(
    values: ReadOnly1D[np.int32],
    bins: ReadOnly1D[np.uint8],
    frequencies: ReadOnly2D[np.uint16],
    has_signs: bool,
    state: Writable1D[np.uint64],
    words: Writable1D[np.uint32],
    bits: Writable1D[np.uint8],
) -> int:
    """Encode integers, sorted by context bin; return the largest magnitude.

    Nothing is encoded if the format does not hold that magnitude. ``frequencies`` has shape (bin, token).
    """
    tokens = np.empty(values.size, np.uint8)
    largest = tokenize(values, tokens)
    if largest >= LARGEST_MAGNITUDE:
        return largest
    cumulative = np.zeros((len(frequencies), TOKENS + 1), np.uint32)
    for context_bin in range(len(frequencies)):
        for token in range(TOKENS):
            share = np.uint32(frequencies[context_bin, token]) << np.uint32(_EXTRA_BITS)
            cumulative[context_bin, token + 1] = cumulative[context_bin, token] + share
    places = np.empty(len(frequencies) + 1, np.int64)
    first_places(bins, places)
    starts, widths = np.empty(values.size, np.uint32), np.empty(values.size, np.uint32)
    for i in range(values.size):
        bin_index, token_index = np.uint64(bins[i]), np.uint64(tokens[i])
        place = places[bin_index]
        places[bin_index] = place + 1
        starts[place] = cumulative[bin_index, token_index]
        widths[place] = np.uint32(frequencies[bin_index, token_index]) << np.uint32(_EXTRA_BITS)
    narrow(starts, widths, state, words)
    if has_signs or largest >= DIRECT_TOKENS:
        write_bits(values, tokens, has_signs, state, bits)
    return largest


@compiled
def agreement_share(agreement: np.uint16) -> np.uint32:
    """Probability, in units of 2**-24, that a sign is the predicted one; ``agreement`` is in units of 2**-16.

    It is one less above one half, as the Bernoulli model of constriction rounds; ``docs/format.md``, section 3.4.1.
    """
    return (np.uint32(agreement) << np.uint32(_EXTRA_BITS)) - np.uint32(agreement > 2**15)


@compiled
def encode_signs(
    values: ReadOnly1D[np.int32],
    index: ReadOnly1D[np.int64],
    predicted: ReadOnly1D[np.bool_],
    agreements: ReadOnly1D[np.uint16],
    state: Writable1D[np.uint64],
    words: Writable1D[np.uint32],
) -> None:
    """Encode for each value at ``index`` whether its sign differs from the predicted one."""
    starts, widths = np.empty(index.size, np.uint32), np.empty(index.size, np.uint32)
    for i in range(index.size):
        share = agreement_share(agreements[i])
        is_surprise = np.uint32((values[index[i]] < 0) != predicted[i])
        # without branches: a processor cannot guess the sign
        starts[i] = is_surprise * share
        widths[i] = share + is_surprise * (np.uint32(2**PROBABILITY_BITS) - share - share)
    narrow(starts, widths, state, words)


@compiled
def decode_run(
    row: ReadOnly1D[np.uint16],
    places: ReadOnly1D[np.int64],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    tokens: Writable1D[np.uint8],
) -> int:
    """Decode the tokens of one context bin, whose table is ``row``, to ``places`` of a list; return the status."""
    cumulative = np.zeros(TOKENS + 1, np.uint64)
    for entry in range(TOKENS):
        cumulative[entry + 1] = cumulative[entry] + np.uint64(row[entry])
    begin = np.empty(1 << _GLANCE_BITS, np.uint8)
    entry = 0
    for glance in range(begin.size):
        while cumulative[entry + 1] <= np.uint64(glance << (16 - _GLANCE_BITS)):
            entry += 1
        begin[glance] = entry
    low, width, word = state[LOW], state[WIDTH], np.int64(state[WORD])
    for place in places:
        scale = (width >> np.uint64(PROBABILITY_BITS)) << np.uint64(_EXTRA_BITS)
        token = np.uint64(0)
        if low < scale * cumulative[1]:  # most tokens are zero, and a division takes as long as all the rest
            width = scale * cumulative[1]
        else:
            quantile = low // scale
            if quantile >= np.uint64(2**16):
                return IMPOSSIBLE_WORDS
            token = np.uint64(begin[quantile >> np.uint64(16 - _GLANCE_BITS)])
            while cumulative[token + np.uint64(1)] <= quantile:
                token += np.uint64(1)
            low -= scale * cumulative[token]
            width = scale * np.uint64(row[token])
        tokens[place] = token
        if width < _SMALLEST_WIDTH:
            low = low << _WORD_BITS | np.uint64(words[word] if word < words.size else 0)
            width <<= _WORD_BITS
            word += 1
    state[LOW], state[WIDTH], state[WORD] = low, width, np.uint64(word)
    return 0


@compiled
def read_bits(
    tokens: ReadOnly1D[np.uint8],
    has_signs: bool,
    state: Writable1D[np.uint64],
    bits: ReadOnly1D[np.uint8],
    values: Writable1D[np.int32],
) -> int:
    """Make integers of their tokens and bypass bits, the inverse of :func:`write_bits`; return the status."""
    count, last, signs = np.int64(state[BIT]), 0, np.int64(state[BIT])
    for i in range(tokens.size):
        values[i] = TOKEN_START[tokens[i]]
        last = max(last, tokens[i])
        count += has_signs and tokens[i] > 0
    for token in range(DIRECT_TOKENS, last + 1):
        for i in range(tokens.size):
            if tokens[i] == token:
                if count + TOKEN_BITS[token] > bits.size:
                    return MISSING_BITS
                for bit in range(TOKEN_BITS[token]):
                    values[i] += np.int32(bits[count + bit]) << np.int32(bit)
                count += TOKEN_BITS[token]
    if count > bits.size:
        return MISSING_BITS
    state[BIT] = np.uint64(count)
    if has_signs:
        for i in range(tokens.size):
            if tokens[i] > 0:
                values[i] *= np.int32(1 - 2 * np.int32(bits[signs]))
                signs += 1
    return 0


@compiled
def decode_pass(
    bins: ReadOnly1D[np.uint8],
    frequencies: ReadOnly2D[np.uint16],
    has_signs: bool,
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    bits: ReadOnly1D[np.uint8],
    values: Writable1D[np.int32],
) -> int:
    """Decode integers, or magnitudes if their signs are coded elsewhere; return the status.

    The inverse of :func:`encode_pass`.
    """
    places = np.empty(len(frequencies) + 1, np.int64)
    first_places(bins, places)
    order = np.empty(bins.size, np.int64)
    for i in range(bins.size):
        bin_index = np.uint64(bins[i])
        order[places[bin_index]] = i
        places[bin_index] += 1
    tokens = np.empty(bins.size, np.uint8)
    start = 0
    for context_bin in range(len(frequencies)):
        stop = places[context_bin]  # each list has been filled up to the beginning of the next
        if start < stop:
            status = decode_run(frequencies[context_bin], order[start:stop], state, words, tokens)
            if status:
                return status
        start = stop
    return read_bits(tokens, has_signs, state, bits, values)


@compiled
def decode_signs(
    index: ReadOnly1D[np.int64],
    predicted: ReadOnly1D[np.bool_],
    agreements: ReadOnly1D[np.uint16],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    values: Writable1D[np.int32],
) -> int:
    """Give the magnitudes at ``index`` their signs, the inverse of :func:`encode_signs`; return the status."""
    low, width, word = state[LOW], state[WIDTH], np.int64(state[WORD])
    for i in range(index.size):
        scale = width >> np.uint64(PROBABILITY_BITS)
        whole = scale << np.uint64(PROBABILITY_BITS)
        if low >= whole:
            return IMPOSSIBLE_WORDS
        border = scale * np.uint64(agreement_share(agreements[i]))
        # without branches: a processor cannot guess the sign
        is_surprise = np.uint64(low >= border)
        low -= is_surprise * border
        width = border + is_surprise * (whole - border - border)
        values[index[i]] *= np.int32(1) - np.int32(2) * np.int32(predicted[i] != np.bool_(is_surprise))
        if width < _SMALLEST_WIDTH:
            low = low << _WORD_BITS | np.uint64(words[word] if word < words.size else 0)
            width <<= _WORD_BITS
            word += 1
    state[LOW], state[WIDTH], state[WORD] = low, width, np.uint64(word)
    return 0
