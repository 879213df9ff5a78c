"""Compiled inner loops of the range coder; :mod:`xsarcomp.codec.range_coder` imports it inside functions.

``docs/format.md``, section 3.5, is the normative text. What a coder remembers between two calls is an array of four uint64,
its *state*. An encoder has lower end and width of its interval, words and bits written; a decoder the distance of the words
from the lower end, the width, words and bits read. A loop keeps the first two in registers.

Signed and unsigned integers of 64 bits meet in float64: where ``uint64`` is written out, it keeps them apart.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import DIRECT_TOKENS, LARGEST_MAGNITUDE, TOKEN_BITS, TOKEN_START, TOKENS
from xsarcomp.codec.kernels.compile import compiled, read_only, scalar, written

IMPOSSIBLE_WORDS, MISSING_BITS = -1, -2
"""What the kernels of the decoder return for damaged data, and 0 else."""
PROBABILITY_BITS = 24
LOW, WIDTH, WORD, BIT = range(4)
"""Places in a state."""
_FINER = PROBABILITY_BITS - 16  # tables are in 2**-16
_GLANCE_BITS = 6  # of a quantile, which say where to begin looking for its token
_WORD = np.uint64(32)
_SMALLEST_WIDTH = np.uint64(2**32)
_FULL_WORD = np.uint32(2**32 - 1)
_STATE, _WORDS, _WRITTEN_WORDS = written("uint64", 1), read_only("uint32", 1), written("uint32", 1)


@compiled(_WRITTEN_WORDS, scalar("int64"))
def add_one(words, count):
    """Carry: add one to the number that the first words are. It never is the largest already."""
    place = count - 1
    while words[place] == _FULL_WORD:
        words[place] = 0
        place -= 1
    words[place] += np.uint32(1)


@compiled(_WORDS, _WORDS, _STATE, _WRITTEN_WORDS)
def narrow(starts, widths, state, words):
    """Encode what has these shares of 2**24, one after the other."""
    low, width, count = state[LOW], state[WIDTH], np.int64(state[WORD])
    for i in range(starts.size):
        scale = width >> np.uint64(PROBABILITY_BITS)
        moved = low + scale * np.uint64(starts[i])
        width = scale * np.uint64(widths[i])
        if moved < low:  # beyond 2**64
            add_one(words, count)
        low = moved
        if width < _SMALLEST_WIDTH:
            words[count] = np.uint32(low >> _WORD)
            count += 1
            low <<= _WORD
            width <<= _WORD
    state[LOW], state[WIDTH], state[WORD] = low, width, np.uint64(count)


@compiled(read_only("uint8", 1), written("int64", 1))
def first_places(bins, places):
    """Where the list of each bin begins if the lists stand one after the other; one place more holds the end."""
    # two histograms: where one bin follows itself, a count waits for the one before
    second = np.zeros(places.size, np.int64)
    places[:] = 0
    for i in range(1, bins.size, 2):
        places[bins[i - 1]] += 1
        second[bins[i]] += 1
    if bins.size % 2:
        places[bins[bins.size - 1]] += 1
    total = 0
    for context_bin in range(places.size):
        found = places[context_bin] + second[context_bin]
        places[context_bin] = total
        total += found


@compiled(read_only("int32", 1), written("uint8", 1), result="int64")
def tokenize(values, tokens):
    """Tokens of integers; returns the largest magnitude, and tokens are wrong if the format does not hold it."""
    largest = np.int64(0)
    for i in range(values.size):
        magnitude = abs(np.int64(values[i]))
        tokens[i] = min(magnitude, DIRECT_TOKENS - 1)
        largest = max(largest, magnitude)
    if DIRECT_TOKENS <= largest < LARGEST_MAGNITUDE:
        for i in range(values.size):
            magnitude = abs(np.int64(values[i]))
            while TOKEN_START[tokens[i] + 1] <= magnitude:
                tokens[i] += 1
    return largest


@compiled(read_only("int32", 1), read_only("uint8", 1), scalar("boolean"), _STATE, written("uint8", 1))
def write_bits(values, tokens, has_signs, state, bits):
    """Bypass bits of a pass: signs in list order if it has them here, then remainders token by token."""
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


@compiled(
    read_only("int32", 1),
    read_only("uint8", 1),
    read_only("uint16", 2),
    scalar("boolean"),
    _STATE,
    _WRITTEN_WORDS,
    written("uint8", 1),
    result="int64",
)
def encode_pass(values, bins, frequencies, has_signs, state, words, bits):
    """Encode integers, bin by bin; returns the largest magnitude, and nothing is coded if the format does not hold it."""
    tokens = np.empty(values.size, np.uint8)
    largest = tokenize(values, tokens)
    if largest >= LARGEST_MAGNITUDE:
        return largest
    cumulative = np.zeros((len(frequencies), TOKENS + 1), np.uint32)
    for context_bin in range(len(frequencies)):
        for token in range(TOKENS):
            share = np.uint32(frequencies[context_bin, token]) << np.uint32(_FINER)
            cumulative[context_bin, token + 1] = cumulative[context_bin, token] + share
    places = np.empty(len(frequencies) + 1, np.int64)
    first_places(bins, places)
    starts, widths = np.empty(values.size, np.uint32), np.empty(values.size, np.uint32)
    for i in range(values.size):
        context_bin, token = np.uint64(bins[i]), np.uint64(tokens[i])
        place = places[context_bin]
        places[context_bin] = place + 1
        starts[place] = cumulative[context_bin, token]
        widths[place] = np.uint32(frequencies[context_bin, token]) << np.uint32(_FINER)
    narrow(starts, widths, state, words)
    if has_signs or largest >= DIRECT_TOKENS:
        write_bits(values, tokens, has_signs, state, bits)
    return largest


@compiled(scalar("uint16"), result="uint32")
def agreement_share(agreement):
    """Share of 2**24 of the bit "the sign is the predicted one"."""
    return (np.uint32(agreement) << np.uint32(_FINER)) - np.uint32(agreement > 2**15)


@compiled(
    read_only("int32", 1),
    read_only("int64", 1),
    read_only("boolean", 1),
    read_only("uint16", 1),
    _STATE,
    _WRITTEN_WORDS,
)
def encode_signs(values, index, predicted, agreements, state, words):
    """Encode whether the signs of the values at ``index`` are other than predicted."""
    starts, widths = np.empty(index.size, np.uint32), np.empty(index.size, np.uint32)
    for i in range(index.size):
        share = agreement_share(agreements[i])
        is_surprise = np.uint32((values[index[i]] < 0) != predicted[i])
        # without branches: which sign it is cannot be guessed
        starts[i] = is_surprise * share
        widths[i] = share + is_surprise * (np.uint32(2**PROBABILITY_BITS) - share - share)
    narrow(starts, widths, state, words)


@compiled(read_only("uint16", 1), read_only("int64", 1), _STATE, _WORDS, written("uint8", 1), result="int64")
def decode_run(row, places, state, words, tokens):
    """Decode tokens of one table to ``places`` of a list."""
    cumulative = np.zeros(TOKENS + 1, np.uint64)
    for token in range(TOKENS):
        cumulative[token + 1] = cumulative[token] + np.uint64(row[token])
    begin = np.empty(1 << _GLANCE_BITS, np.uint8)
    token = 0
    for glance in range(begin.size):
        while cumulative[token + 1] <= np.uint64(glance << (16 - _GLANCE_BITS)):
            token += 1
        begin[glance] = token
    low, width, word = state[LOW], state[WIDTH], np.int64(state[WORD])
    for place in places:
        scale = (width >> np.uint64(PROBABILITY_BITS)) << np.uint64(_FINER)
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
            low = low << _WORD | np.uint64(words[word] if word < words.size else 0)
            width <<= _WORD
            word += 1
    state[LOW], state[WIDTH], state[WORD] = low, width, np.uint64(word)
    return 0


@compiled(read_only("uint8", 1), scalar("boolean"), _STATE, read_only("uint8", 1), written("int32", 1), result="int64")
def read_bits(tokens, has_signs, state, bits, values):
    """Integers from their tokens and bypass bits; the inverse of :func:`write_bits`."""
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


@compiled(
    read_only("uint8", 1),
    read_only("uint16", 2),
    scalar("boolean"),
    _STATE,
    _WORDS,
    read_only("uint8", 1),
    written("int32", 1),
    result="int64",
)
def decode_pass(bins, frequencies, has_signs, state, words, bits, values):
    """Decode integers, magnitudes if their signs do not stand here; the inverse of :func:`encode_pass`."""
    places = np.empty(len(frequencies) + 1, np.int64)
    first_places(bins, places)
    order = np.empty(bins.size, np.int64)
    for i in range(bins.size):
        context_bin = np.uint64(bins[i])
        order[places[context_bin]] = i
        places[context_bin] += 1
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


@compiled(
    read_only("int64", 1),
    read_only("boolean", 1),
    read_only("uint16", 1),
    _STATE,
    _WORDS,
    written("int32", 1),
    result="int64",
)
def decode_signs(index, predicted, agreements, state, words, values):
    """Give the magnitudes at ``index`` their signs; the inverse of :func:`encode_signs`."""
    low, width, word = state[LOW], state[WIDTH], np.int64(state[WORD])
    for i in range(index.size):
        scale = width >> np.uint64(PROBABILITY_BITS)
        whole = scale << np.uint64(PROBABILITY_BITS)
        if low >= whole:
            return IMPOSSIBLE_WORDS
        border = scale * np.uint64(agreement_share(agreements[i]))
        # without branches: which sign it is cannot be guessed
        is_surprise = np.uint64(low >= border)
        low -= is_surprise * border
        width = border + is_surprise * (whole - border - border)
        values[index[i]] *= np.int32(1) - np.int32(2) * np.int32(predicted[i] != np.bool_(is_surprise))
        if width < _SMALLEST_WIDTH:
            low = low << _WORD | np.uint64(words[word] if word < words.size else 0)
            width <<= _WORD
            word += 1
    state[LOW], state[WIDTH], state[WORD] = low, width, np.uint64(word)
    return 0
