"""The coding order of a chunk, and the contexts that choose the table of each magnitude.

Encoder and decoder compute contexts from the same symbols, only with integers, so that both choose the same tables on every
machine. :func:`traverse` knows the order; ``docs/format.md``, section 3, is the normative text.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, CHANNELS, LOWEST_SPACINGS, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.quantization import CellPaths, QuantizerStates

CONTEXT_CLIP = 255
"""Magnitudes are clipped to this in a context."""
QUIET_EDGE = 4
"""Latents of a quiet block along an axis: 32 pixels."""
QUIET_SHARE = 32
"""Quiet blocks are written to a stream if at least one block in so many is quiet."""

TableKey = tuple[int, int, int]
"""Table set (anchor), whether the table is one of the lowest channel (1) or not (0), and channel or number of the pass."""
Transfer = Callable[[NDArray[np.int32] | None, NDArray[np.uint8], TableKey], NDArray[np.int32]]
"""Function that codes the values of one pass: is called with the values (None when decoding), their context bins and the key
of their tables, and returns the values."""


def quiet_blocks(symbols: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """Find blocks of 4 x 4 latents in which all channels but the lowest are zero.

    Outside the swath and over calm water even the zeros of 63 channels would add up, so such blocks are skipped.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of a chunk.

    Returns
    -------
    ndarray of bool, shape (plane, ceil(y_latent / 4), ceil(x_latent / 4)), or None
        None if there are too few to be worth a bit for each block.
    """
    busy: NDArray[np.bool_] = np.any(symbols[:, 1:], axis=1)
    if not busy.any():  # then no channel but the lowest is coded at all
        return None
    planes, height, width = busy.shape
    padded = np.pad(busy, ((0, 0), (0, -height % QUIET_EDGE), (0, -width % QUIET_EDGE)))
    blocks = padded.reshape(planes, padded.shape[1] // QUIET_EDGE, QUIET_EDGE, -1, QUIET_EDGE)
    quiet: NDArray[np.bool_] = ~np.any(blocks, axis=(2, 4))
    return quiet if quiet.sum() * QUIET_SHARE >= quiet.size else None


def busy_latents(quiet: NDArray[np.bool_] | None, shape: tuple[int, int, int, int]) -> NDArray[np.bool_] | None:
    """Spread quiet blocks over latents, and return the latents outside them.

    Parameters
    ----------
    quiet : ndarray of bool or None
        As :func:`quiet_blocks` returns it.
    shape : tuple of int
        Shape of the symbols, (plane, latent=64, y_latent, x_latent).

    Returns
    -------
    ndarray of bool, shape (plane, y_latent, x_latent), or None
        None if all latents are outside.
    """
    if quiet is None:
        return None
    spread = quiet.repeat(QUIET_EDGE, axis=1).repeat(QUIET_EDGE, axis=2)
    return ~spread[:, : shape[2], : shape[3]]


class Magnitudes:
    """Magnitudes of the channels that are coded already, from which contexts are computed; filled channel by channel."""

    def __init__(self) -> None:
        with FIRST_USE:
            from xsarcomp.codec.kernels import contexts as kernels

        self._kernels = kernels
        self._shape = (0, 0, 0)
        # channel, plane, y_latent + 2, x_latent + 2: the outermost values of a plane are repeated around it
        self._padded = np.zeros((CHANNELS, 0, 2, 2), np.uint8)
        self._features: dict[tuple[int, int], NDArray[np.int32]] = {}

    @property
    def padded(self) -> NDArray[np.uint8]:
        """Magnitudes as the kernels read them, shape (channel=64, plane, (y_latent + 2) * (x_latent + 2))."""
        return self._padded.reshape(CHANNELS, self._shape[0], -1)

    def add(self, channel: int, points: NDArray[np.int32]) -> None:
        """Add a channel that is coded. Contexts see the magnitudes of its points, of the lowest channel the local variation.

        Parameters
        ----------
        channel : int
            0 to 63.
        points : ndarray of int32, shape (plane, y_latent, x_latent)
            Points of the channel.
        """
        if self._shape != points.shape:
            self._shape = planes, height, width = points.shape
            self._padded = np.zeros((CHANNELS, planes, height + 2, width + 2), np.uint8)
        points = np.ascontiguousarray(points, np.int32)
        self._kernels.remember(points, channel == 0, CONTEXT_CLIP, self.padded[channel])

    def feature(self, channel: int, kind: int) -> NDArray[np.int32]:
        """Sum magnitudes of a channel that is coded.

        Parameters
        ----------
        channel : int
            0 to 63.
        kind : int
            0 the latent itself, 1 its four neighbors, 2 its four diagonal neighbors.

        Returns
        -------
        ndarray of int32, shape (plane, y_latent, x_latent)
        """
        feature = self._features.get((channel, kind))
        if feature is None:
            near = self._padded[channel].astype(np.int32)
            if kind == 0:
                feature = near[:, 1:-1, 1:-1]
            elif kind == 1:
                feature = near[:, :-2, 1:-1] + near[:, 2:, 1:-1] + near[:, 1:-1, :-2] + near[:, 1:-1, 2:]
            else:
                feature = near[:, :-2, :-2] + near[:, :-2, 2:] + near[:, 2:, :-2] + near[:, 2:, 2:]
            self._features[channel, kind] = feature
        return feature

    def bins(self, tables: EntropyTables, anchor: int, channel: int) -> NDArray[np.uint8]:
        """Compute the context bins of a channel, without the part of the quantizer.

        Parameters
        ----------
        tables : EntropyTables
            Terms and thresholds of the contexts.
        anchor : int
            Index of the table set.
        channel : int
            1 to 63; all channels before it in coding order are added.

        Returns
        -------
        ndarray of uint8, shape (plane, y_latent, x_latent)
        """
        bins = np.empty(self._shape, np.uint8)
        self._kernels.context_bins(
            self.padded,
            np.ascontiguousarray(tables.term_channels[anchor, channel]),
            np.ascontiguousarray(tables.term_kinds[anchor, channel]),
            np.ascontiguousarray(tables.term_weights[anchor, channel]),
            np.ascontiguousarray(tables.thresholds[anchor, channel]),
            bins,
        )
        return bins


def _traverse_lowest(
    symbols: NDArray[np.int32] | None,
    values: NDArray[np.int32],
    tables: EntropyTables,
    anchor: int,
    transfer: Transfer,
) -> None:
    """Code the lowest channel from coarse to fine into ``values``, shape (plane, latent=64, y_latent, x_latent)."""
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels

    lowest = values[:, 0]
    coarse = 2 * LOWEST_SPACINGS[0]
    grid = None if symbols is None else symbols[:, ::coarse, ::coarse]
    if grid is not None:
        grid = np.diff(grid, axis=2, prepend=0)
        grid[:, :, 0] = np.diff(grid[:, :, 0], axis=1, prepend=0)
    shape = lowest[:, ::coarse, ::coarse].shape
    differences = transfer(grid, np.zeros(shape, np.uint8), (anchor, 1, 0))
    differences[:, :, 0] = np.cumsum(differences[:, :, 0], axis=1)
    lowest[:, ::coarse, ::coarse] = np.cumsum(differences, axis=2)
    table = 0
    for spacing in LOWEST_SPACINGS:
        for row, column, diagonal in ((spacing, spacing, True), (0, spacing, False), (spacing, 0, False)):
            table += 1
            place = np.s_[:, row :: 2 * spacing, column :: 2 * spacing]
            if not lowest[place].size:
                continue
            thresholds = np.ascontiguousarray(tables.lowest_thresholds[anchor, table])
            predicted, bins = np.empty(lowest[place].shape, np.int32), np.empty(lowest[place].shape, np.uint8)
            kernels.predict_lowest(values, spacing, row, column, diagonal, thresholds, predicted, bins)
            residual = None if symbols is None else symbols[place] - predicted
            lowest[place] = transfer(residual, bins, (anchor, 1, table)) + predicted


def traverse(
    symbols: NDArray[np.int32] | None,
    shape: tuple[int, int, int, int],
    tables: EntropyTables,
    anchor: int,
    transfer: Transfer,
    coded_channels: int = CHANNELS,
    busy: NDArray[np.bool_] | None = None,
    paths: CellPaths | None = None,
) -> NDArray[np.int32]:
    """Call a function for each pass of a chunk in coding order. Only this function knows the order.

    Encoder, decoder and rate estimate differ only in ``transfer``.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent), or None
        Symbols to encode; None when decoding.
    shape : tuple of int
        Shape of the symbols.
    tables : EntropyTables
        Tables of the model.
    anchor : int
        Index of the table set.
    transfer : callable
        Codes the values of one pass, see :data:`Transfer`.
    coded_channels : int
        Number of channels in ``CHANNEL_ORDER`` that are coded; those after them are zero and skipped.
    busy : ndarray of bool, shape (plane, y_latent, x_latent), optional
        Latents to code in all channels but the lowest; the others are zero there and skipped. All if not given.
    paths : CellPaths, optional
        Quantizers and points of the symbols, where paths go through cells. A decoder cannot have them before it decodes, so
        such symbols are decoded by :func:`xsarcomp.codec.entropy_coding.decode_channels` alone.

    Returns
    -------
    ndarray of int32, shape as given
        The values that ``transfer`` returned.
    """
    values = np.zeros(shape, np.int32)
    known, states = Magnitudes(), QuantizerStates((shape[0], *shape[2:]))
    for channel in CHANNEL_ORDER[:coded_channels]:
        channel_symbols = None if symbols is None else symbols[:, channel]
        has_trellis = bool(tables.trellised[anchor, channel])
        if channel == 0:
            _traverse_lowest(channel_symbols, values, tables, anchor, transfer)
        else:
            bins = known.bins(tables, anchor, channel)
            if has_trellis:
                quantizers = states.quantizers if paths is None else paths.quantizers[:, channel]
                bins += quantizers * np.uint8(tables.thresholds.shape[-1] + 1)
            if busy is None:
                values[:, channel] = transfer(channel_symbols, bins, (anchor, 0, channel))
            else:
                busy_symbols = None if channel_symbols is None else channel_symbols[busy]
                values[:, channel][busy] = transfer(busy_symbols, bins[busy], (anchor, 0, channel))
        if has_trellis:
            known.add(channel, states.advance(values[:, channel]) if paths is None else paths.points[:, channel])
        else:
            known.add(channel, values[:, channel])
    return values
