"""The head of a symbol section: which channels, blocks and cells are coded. ``docs/format.md``, section 3, is normative."""

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.contexts import QUIET_EDGE, busy_latents
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.trellis import CELLS, Trellis
from xsarcomp.errors import CorruptStreamError

_QUIET_FLAG, _EXTENT_FLAG = 0x80, 0x80
_EXTENT = struct.Struct("<II")
SymbolsShape = tuple[int, int, int, int]
"""Shape of the symbols of a chunk, (plane, latent=64, y_latent, x_latent)."""


@dataclass(frozen=True, slots=True)
class SymbolHead:
    """What a decoder knows before the first symbol."""

    channels: int
    """Number of channels in ``CHANNEL_ORDER`` that are coded."""
    quiet: NDArray[np.bool_] | None
    """Quiet blocks, see :func:`xsarcomp.codec.contexts.quiet_blocks`; None if they are not named."""
    cell: int = 0
    """Latents along the edge of a cell; 0 where latents are symbols, or points that lie on no paths."""
    extent: tuple[int, int] | None = None
    """Rows and columns of latents that are there, where the chunk is padded; None where all are."""

    def busy(self, shape: SymbolsShape) -> NDArray[np.bool_] | None:
        """Latents that are coded in all channels but the lowest, shape (plane, y_latent, x_latent); None if all are."""
        busy = busy_latents(self.quiet, shape)
        if self.extent is None:
            return busy
        busy = np.ones((shape[0], *shape[2:]), bool) if busy is None else busy
        busy[:, self.extent[0] :], busy[:, :, self.extent[1] :] = False, False
        return busy

    def to_bytes(self, trellis: Trellis) -> bytes:
        """Write the head; cells only with a trellis that has some."""
        flag = 0 if self.quiet is None else _QUIET_FLAG
        head = bytes([self.channels | flag]) + (b"" if self.quiet is None else np.packbits(self.quiet).tobytes())
        if not trellis.has_cells or self.channels <= 1:
            return head
        code = (CELLS.index(self.cell) + 1 if self.cell else 0) | (_EXTENT_FLAG if self.extent else 0)
        return head + bytes([code]) + (_EXTENT.pack(*self.extent) if self.extent else b"")


def read_head(payload: bytes, shape: SymbolsShape, trellis: Trellis) -> tuple[SymbolHead, int]:
    """Read the head of a symbol section, and the position where it ends.

    Raises
    ------
    CorruptStreamError
        If no encoder writes such a head.
    """
    if not payload or payload[0] & ~_QUIET_FLAG > CHANNELS:
        raise CorruptStreamError("the symbol section is empty or names more channels than there are")
    channels, quiet, stop = payload[0] & ~_QUIET_FLAG, None, 1
    if payload[0] & _QUIET_FLAG:
        blocks = (shape[0], -(-shape[2] // QUIET_EDGE), -(-shape[3] // QUIET_EDGE))
        stop = 1 + -(-math.prod(blocks) // 8)
        if stop > len(payload):
            raise CorruptStreamError(f"the symbol section holds {len(payload)} bytes, its quiet blocks end at {stop}")
        bits = np.unpackbits(np.frombuffer(payload[1:stop], np.uint8), count=math.prod(blocks))
        quiet = bits.reshape(blocks).astype(bool)
    if not trellis.has_cells or channels <= 1:
        return SymbolHead(channels, quiet), stop
    code = payload[stop] if stop < len(payload) else 0xFF
    number = code & ~_EXTENT_FLAG
    extent = None
    if code & _EXTENT_FLAG and stop + 1 + _EXTENT.size <= len(payload):
        rows, columns = _EXTENT.unpack_from(payload, stop + 1)
        extent = (rows, columns)
    cell = CELLS[number - 1] if 1 <= number <= len(CELLS) else 0
    is_known = number <= len(CELLS) and cell <= trellis.cell and bool(code & _EXTENT_FLAG) == (extent is not None)
    if extent is not None:
        is_within = 0 < extent[0] <= shape[2] and 0 < extent[1] <= shape[3] and extent != shape[2:]
        is_known = is_known and is_within and cell > 0
    if not is_known:
        raise CorruptStreamError(f"the symbol section has code {code:#x} and extent {extent} of cells, which cannot be")
    return SymbolHead(channels, quiet, cell, extent), stop + 1 + (_EXTENT.size if extent else 0)
