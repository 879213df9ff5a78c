"""Frames to symbols, classes, exact values, corrections and levels, written from ``docs/format.md`` sections 1 to 3 alone.

Like all ``format_*`` files it imports nothing of xsarcomp, so that the tests compare two implementations. NumPy where whole
passes are known at once, integers of Python in the coder; checks are assertions.
"""

import hashlib
import itertools
import math
import struct
import zlib
from types import SimpleNamespace

import numpy as np

from tests.support.format_decoder import RangeDecoderFromTheFormat, integers_from_the_format, sign_weights

DTYPES = [
    "<f4",
    "<f8",
    "<f2",
    "|u1",
    "<u2",
    "|i1",
    "<i2",
    "<i4",
    "<u4",
    ">f4",
    ">f8",
    ">f2",
    ">u2",
    ">i2",
    ">i4",
    ">u4",
]
SCALES = ("", "power", "amplitude", "decibel")
MASKED, HAS_EXACT, FORTRAN_ORDER, CORRECTED, VERBATIM, LEVELED = 1, 2, 4, 8, 16, 32
BACKSCATTER, LATENTS, INTEGERS = 1, 2, 3
ORDER = sorted(range(64), key=lambda channel: (channel // 8 + channel % 8, channel))


def _crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # the reflected polynomial
        yield byte


_CRC = tuple(_crc_table())


def crc32c(content):
    """Checksum of section 1."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def digest(integers):
    """Hash of section 3.7."""
    return hashlib.blake2b(np.ascontiguousarray(integers, "<i4").tobytes(), digest_size=8).digest()


def frame_from_the_format(content):
    """Header and sections of a frame, checked as in section 1.1, numbers 1 to 10."""
    fields = struct.unpack_from("<4sBBBBHBBBBd8sIII8sI", content)
    magic, major, minor, kind, code, flags, anchor, dimensions, scale, reserved, step_db, model = fields[:12]
    lengths, symbol_hash, payload_crc = fields[12:15], fields[15], fields[16]
    assert (magic, major, reserved) == (b"XSAR", 1, 0)
    assert 2 <= dimensions <= 8
    stop = 54 + 4 * dimensions
    shape = struct.unpack_from(f"<{dimensions}I", content, 54)
    assert struct.unpack_from("<I", content, stop)[0] == crc32c(content[:stop])
    assert flags < 64
    assert (scale != 0) == (kind == BACKSCATTER)
    older = 1 if flags & (CORRECTED | VERBATIM) or kind == INTEGERS else 0
    assert minor == (2 if flags & LEVELED else older)
    payload = content[stop + 4 :]
    assert payload_crc == crc32c(payload)
    assert flags & (CORRECTED | LEVELED) != CORRECTED | LEVELED
    assert bool(flags & (CORRECTED | LEVELED)) == (len(payload) > sum(lengths))
    assert not flags & VERBATIM or not flags & (MASKED | HAS_EXACT | CORRECTED | LEVELED)
    assert (bool(flags & MASKED), bool(flags & HAS_EXACT)) == (lengths[1] > 0, lengths[2] > 0)
    cuts = np.cumsum([0, *lengths, len(payload) - sum(lengths)])
    symbols, classes, exact, last = (payload[a:b] for a, b in itertools.pairwise(cuts))
    return SimpleNamespace(
        kind=kind, dtype=np.dtype(DTYPES[code]), flags=flags, anchor=anchor, scale=SCALES[scale], step_db=step_db, shape=shape,
        model=model.hex(), hash=symbol_hash, symbols=symbols, classes=classes, exact=exact,
        corrections=last if flags & CORRECTED else b"", levels=last if flags & LEVELED else b"",
    )  # fmt: skip


def verbatim_from_the_format(frame):
    """Values of a frame that holds them as they are (section 2.2)."""
    assert len(frame.symbols) == math.prod(frame.shape) * frame.dtype.itemsize
    assert hashlib.blake2b(frame.symbols, digest_size=8).digest() == frame.hash
    return np.frombuffer(frame.symbols, frame.dtype).reshape(frame.shape)


def _inflated(section, expected):
    inflater = zlib.decompressobj()
    content = inflater.decompress(section) + inflater.flush()
    assert inflater.eof
    assert not inflater.unused_data
    assert len(content) == expected
    return content


def classes_from_the_format(frame, shape):
    """Pixel classes and exact values of section 2."""
    count, section = math.prod(shape), frame.classes
    if not section:
        classes = np.zeros(shape, np.uint8)
    elif section[0] == 255:
        classes = np.frombuffer(_inflated(section[1:], count), np.uint8).reshape(shape)
    else:
        bits = np.unpackbits(np.frombuffer(_inflated(section[1:], -(-count // 8)), np.uint8))
        assert not bits[count:].any()
        classes = bits[:count].reshape(shape) * np.uint8(section[0])
    wanted = int((classes == 6).sum()) * frame.dtype.itemsize
    exact = np.frombuffer(_inflated(frame.exact, wanted) if wanted else b"", frame.dtype)
    return classes, exact


def corrections_from_the_format(section, shape):
    """Spacing, residuals (plane, y, x) or None, gains (plane, 2, y_tile, x_tile) or None of section 2.1."""
    if not section:
        return 0.0, None, None
    expected, spacing, length = struct.unpack_from("<8sdI", section)

    def planes(content, of_shape):
        return integers_from_the_format(np.frombuffer(content, "<u4"), of_shape)

    residuals = planes(section[20 : 20 + length], shape) if spacing else None
    gains = None
    if len(section) > 20 + length:
        stored = planes(section[20 + length :], (2 * shape[0], *(-(-size // 64) for size in shape[1:])))
        gains = np.stack([stored[: shape[0]], stored[shape[0] :]], axis=1)
    parts = [part.reshape(-1) for part in (residuals, gains) if part is not None]
    assert digest(np.concatenate(parts) if parts else np.zeros(0)) == expected
    return spacing, residuals, gains


def levels_from_the_format(section, tiles):
    """Levels (plane, y_tile, x_tile) of section 2.3."""
    levels = integers_from_the_format(np.frombuffer(section[8:], "<u4"), tiles)
    assert digest(levels) == section[:8]
    return levels


def points_of(symbols, trellised):
    """Points and quantizers of section 3.8."""
    points, quantizers = symbols.astype(np.int64), np.zeros(symbols.shape, np.int64)
    z, b, c = (np.zeros((symbols.shape[0], *symbols.shape[2:]), np.int64) for _ in range(3))
    for channel in ORDER:
        if trellised[channel]:
            k = symbols[:, channel].astype(np.int64)
            points[:, channel], quantizers[:, channel] = np.sign(k) * (2 * np.abs(k) - z), z
            z, b, c = z ^ b, c ^ np.abs(k) % 2, z
    return points, quantizers


class SymbolsFromTheFormat:
    """The symbol section: ``symbols`` are (plane, 64, ny, nx)."""

    def __init__(self, section, shape, tables, anchor):
        self.tables, self.anchor, self.shape = tables, anchor, shape
        planes, _, ny, nx = shape
        channels, start, blocks = section[0] & 127, 1, (planes, -(-ny // 4), -(-nx // 4))
        named = None
        if section[0] & 128:
            start += -(-math.prod(blocks) // 8)
            bits = np.unpackbits(np.frombuffer(section[1:start], np.uint8))
            assert not bits[math.prod(blocks) :].any()
            named = bits[: math.prod(blocks)].reshape(blocks) == 1
        quiet = np.zeros(blocks, bool) if named is None else named
        self.busy = ~np.repeat(np.repeat(quiet, 4, axis=1), 4, axis=2)[:, :ny, :nx]
        count = int.from_bytes(section[start : start + 4], "little")
        words = np.frombuffer(section[start + 4 : start + 4 + 4 * count], "<u4")
        self.bits = np.unpackbits(np.frombuffer(section[start + 4 + 4 * count :], np.uint8)).tolist()
        self.position, self.coder = 0, RangeDecoderFromTheFormat(words)
        self.symbols = np.zeros(shape, np.int64)
        self.kind_0, self.state = {}, [np.zeros((planes, ny, nx), np.int64) for _ in range(3)]
        for number, channel in enumerate(ORDER[:channels]):
            if number == 0:
                self._lowest()
            else:
                self._channel(channel)
            self._add_features(channel)
        self._check_end(channels, named)

    def _check_end(self, channels, named):
        """Section 3.6, and that quiet blocks are named as they are."""
        assert next(self.coder.words, None) is None
        # nothing was coded, or the point is near the lower end
        assert self.coder.range == 2**64 - 1 or (self.coder.point - self.coder.lower) % 2**64 < 2**33 - 1
        rest = self.bits[self.position :]
        assert len(rest) < 8
        assert not any(rest)
        assert channels == 0 or self.symbols[:, ORDER[channels - 1]].any()
        planes, _, ny, nx = self.shape
        others = np.zeros((planes, -(-ny // 4) * 4, -(-nx // 4) * 4), bool)
        others[:, :ny, :nx] = self.symbols[:, 1:].any(axis=1)
        quiet = ~others.reshape(planes, -(-ny // 4), 4, -(-nx // 4), 4).any(axis=(2, 4))
        is_named = others.any() and 32 * quiet.sum() >= quiet.size
        assert is_named == (named is not None)
        assert named is None or (named == quiet).all()

    def _bypass(self):
        self.position += 1
        return self.bits[self.position - 1]

    def _pass(self, bins, frequencies, has_signs):
        """Integers of a pass (section 3.1), magnitudes where signs are no bypass bits."""
        weights = [[256 * int(frequency) for frequency in row] for row in frequencies]
        values = np.zeros(len(bins), np.int64)
        for place in np.argsort(bins, kind="stable"):
            values[place] = self.coder.decode(weights[bins[place]])
        signs = np.ones(len(bins), np.int64)
        if has_signs:
            for place in np.flatnonzero(values):
                signs[place] = -1 if self._bypass() else 1
        for token in sorted({*values[values >= 16].tolist()}):
            exponent, half = (token - 16) // 2 + 4, token % 2
            for place in np.flatnonzero(values == token):
                remainder = sum(self._bypass() << i for i in range(exponent - 1))
                # negative for now, so that no later token is met twice
                values[place] = -((1 << exponent) + (half << exponent - 1) + remainder)
        return np.abs(values) * signs

    def _lowest(self):
        """Section 3.3."""
        planes, _, ny, nx = self.shape
        values = self.symbols[:, 0]
        tables = self.tables.lowest_frequencies[self.anchor]
        rows, columns = np.arange(0, ny, 16), np.arange(0, nx, 16)
        coarse = self._pass(np.zeros(planes * len(rows) * len(columns), int), tables[0], True)
        coarse = coarse.reshape(planes, len(rows), len(columns))
        coarse[:, :, 0] = np.cumsum(coarse[:, :, 0], axis=1)
        values[:, rows[:, None], columns] = np.cumsum(coarse, axis=2)
        table = 0
        for s in (8, 4, 2, 1):
            odd_rows, odd_columns = np.arange(s, ny, 2 * s), np.arange(s, nx, 2 * s)
            even_rows, even_columns = np.arange(0, ny, 2 * s), np.arange(0, nx, 2 * s)
            cross = ((-s, 0), (s, 0), (0, -s), (0, s))
            for rows, columns, offsets in (
                (odd_rows, odd_columns, ((-s, -s), (-s, s), (s, -s), (s, s))),
                (even_rows, odd_columns, cross),
                (odd_rows, even_columns, cross),
            ):
                table += 1
                if len(rows) and len(columns):
                    self._lowest_pass(values, rows, columns, self._stand_ins(offsets, s), table)

    def _stand_ins(self, offsets, s):
        """Neighbours of a pass; where the grid is too small for one direction, those of the other count twice."""
        _, _, ny, nx = self.shape
        if len([i for i, j in offsets if i == 0]) == 2:
            vertical, horizontal = offsets[:2], offsets[2:]
            if ny <= s:
                return horizontal + horizontal
            if nx <= s:
                return vertical + vertical
        return offsets

    def _lowest_pass(self, values, rows, columns, offsets, table):
        def at(positions, offset, size):
            moved = positions + offset
            return np.where((moved < 0) | (moved >= size), positions - offset, moved)

        _, _, ny, nx = self.shape
        around = np.stack([values[:, at(rows, i, ny)[:, None], at(columns, j, nx)] for i, j in offsets])
        prediction = (around.sum(axis=0) + 2) >> 2
        spread = around.max(axis=0) - around.min(axis=0)
        thresholds = self.tables.lowest_thresholds[self.anchor, table]
        bins = (thresholds <= spread[..., None]).sum(axis=-1)
        coded = self._pass(bins.reshape(-1), self.tables.lowest_frequencies[self.anchor, table], True)
        values[:, rows[:, None], columns] = prediction + coded.reshape(prediction.shape)

    def _add_features(self, channel):
        """Feature of kind 0 (section 3.4) of a channel that is known, and the states of the trellis after it."""
        z, b, c = self.state
        symbols = self.symbols[:, channel]
        if channel == 0:
            edges = _padded(symbols)
            around = sum(np.abs(symbols - _moved(edges, i, j)) for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1)))
            self.kind_0[0] = np.minimum(255, around >> 1)
            return
        points = symbols
        if self.tables.trellised[self.anchor, channel]:
            points = np.sign(symbols) * (2 * np.abs(symbols) - z)
            self.state = [z ^ b, c ^ np.abs(symbols) % 2, z]
        self.kind_0[channel] = np.minimum(255, np.abs(points))

    def _feature(self, channel, kind):
        direct, diagonal = ((-1, 0), (1, 0), (0, -1), (0, 1)), ((-1, -1), (-1, 1), (1, -1), (1, 1))
        edges = _padded(self.kind_0[channel])
        return sum(_moved(edges, i, j) for i, j in (((0, 0),), direct, diagonal)[kind])

    def _channel(self, channel):
        """Magnitudes of section 3.4, then signs."""
        tables, anchor = self.tables, self.anchor
        total = np.zeros(self.busy.shape, np.int64)
        for t in range(tables.term_channels.shape[2]):
            if (source := int(tables.term_channels[anchor, channel, t])) >= 0:
                weight = int(tables.term_weights[anchor, channel, t])
                total += weight * self._feature(source, int(tables.term_kinds[anchor, channel, t]))
        bins = (tables.thresholds[anchor, channel] <= total[..., None]).sum(axis=-1)
        frequencies = tables.frequencies[anchor, channel]
        if tables.trellised[anchor, channel]:
            rank = int(tables.trellised[:anchor].sum() + tables.trellised[anchor, :channel].sum())
            bins = bins + len(frequencies) * self.state[0]
            frequencies = np.concatenate([frequencies, tables.odd_frequencies[rank]])
        magnitudes = np.zeros(self.busy.shape, np.int64)
        magnitudes[self.busy] = self._pass(bins[self.busy], frequencies, False)
        self.symbols[:, channel] = magnitudes
        for phase in (0, 1):
            self._signs(channel, phase)

    def _signs(self, channel, phase):
        """Section 3.4.1."""
        tables, at = self.tables, (self.anchor, channel, phase)
        symbols = self.symbols[:, channel]
        rows, columns = np.indices(symbols.shape[1:])
        of_phase = (rows + columns) % 2 == phase
        total = np.zeros(symbols.shape, np.int64)
        for k in range(8):
            source = int(tables.sign_term_channels[(*at, k)])
            if source >= 0:
                known = self.symbols[:, source]
                if source == channel:
                    known = np.where((rows + columns) % 2 == 0, known, 0)
                if source != 0:
                    known = np.clip(known, -255, 255)
                kind = int(tables.sign_term_kinds[(*at, k)])
                total += int(tables.sign_term_weights[(*at, k)]) * np.clip(_signed_feature(known, kind), -1020, 1020)
        bins = (tables.sign_thresholds[at] <= np.abs(total)[..., None]).sum(axis=-1)
        for place in zip(*np.nonzero((symbols != 0) & of_phase), strict=True):
            row = tables.sign_frequencies[(*at, min(abs(int(symbols[place])), 3) - 1)]
            surprise = self.coder.decode(sign_weights(int(row[bins[place]])))
            if bool(surprise) != bool(total[place] < 0):
                symbols[place] = -symbols[place]


def _padded(values):
    return np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")


def _moved(edges, i, j):
    """Values at a distance of rows and columns, from those with an edge of one around."""
    height, width = edges.shape[1] - 2, edges.shape[2] - 2
    return edges[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]


def _signed_feature(values, kind):
    edges = _padded(values)
    left, right, above, below = (_moved(edges, i, j) for i, j in ((0, -1), (0, 1), (-1, 0), (1, 0)))
    corners = [_moved(edges, i, j) for i, j in ((-1, -1), (1, 1), (1, -1), (-1, 1))]
    return (
        values, left + right, above + below, right - left, below - above,
        corners[0] + corners[1] - corners[2] - corners[3], left + right - 2 * values, above + below - 2 * values,
    )[kind]  # fmt: skip


def symbols_from_the_format(frame, shape, tables):
    """Symbols (plane, 64, ny, nx) of a frame, compared with their hash."""
    symbols = SymbolsFromTheFormat(frame.symbols, shape, tables, frame.anchor).symbols
    assert digest(symbols) == frame.hash
    return symbols
