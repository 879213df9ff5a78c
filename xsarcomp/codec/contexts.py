"""The coding order of a chunk and the contexts that choose tables, in integer arithmetic alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, CHANNELS, LOWEST_SPACINGS, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.quantization import QuantizerStates

CONTEXT_CLIP = 255  # magnitudes count up to this in a context

QUIET_EDGE = 4  # latents of a quiet block along an axis: 32 pixels
QUIET_SHARE = 32  # quiet blocks are named if they are at least one in so many

Transfer = Callable[[NDArray[np.int32] | None, NDArray[np.uint8], tuple[int, ...]], NDArray[np.int32]]


def quiet_blocks(symbols: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """Blocks of 4 x 4 latents in which all channels but the lowest are zero; None if they are too few to be named.

    Outside the swath and over calm water even the zeros of 63 channels would add up.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)

    Returns
    -------
    ndarray of bool, shape (plane, ceil(y_latent / 4), ceil(x_latent / 4)), or None
    """
    busy = symbols[:, 1:].any(axis=1)
    if not busy.any():  # then no channel but the lowest is coded at all
        return None
    planes, height, width = busy.shape
    padded = np.pad(busy, ((0, 0), (0, -height % QUIET_EDGE), (0, -width % QUIET_EDGE)))
    blocks = padded.reshape(planes, padded.shape[1] // QUIET_EDGE, QUIET_EDGE, -1, QUIET_EDGE)
    quiet = ~blocks.any(axis=(2, 4))
    return quiet if quiet.sum() * QUIET_SHARE >= quiet.size else None


def busy_places(quiet: NDArray[np.bool_] | None, shape: tuple[int, int, int, int]) -> NDArray[np.bool_] | None:
    """Latents outside quiet blocks, shape (plane, y_latent, x_latent); None if all are."""
    if quiet is None:
        return None
    spread = quiet.repeat(QUIET_EDGE, axis=1).repeat(QUIET_EDGE, axis=2)
    return ~spread[:, : shape[2], : shape[3]]


class Magnitudes:
    """The magnitudes that contexts read, filled channel by channel; shape (plane, y_latent, x_latent) each."""

    def __init__(self) -> None:
        with FIRST_USE:
            from xsarcomp.codec.kernels import contexts as kernels

        self._kernels = kernels
        self._shape = (0, 0, 0)
        # channel, plane, y_latent + 2, x_latent + 2: around a plane its outermost values stand once more
        self._padded = np.zeros((CHANNELS, 0, 2, 2), np.uint8)
        self._features: dict[tuple[int, int], NDArray[np.int32]] = {}

    @property
    def padded(self) -> NDArray[np.uint8]:
        """Magnitudes as the kernels read them, shape (channel=64, plane, (y_latent + 2) * (x_latent + 2))."""
        return self._padded.reshape(CHANNELS, self._shape[0], -1)

    def add(self, channel: int, points: NDArray[np.int32]) -> None:
        """Make a channel known, by its points. Of the lowest channel contexts see the local variation."""
        if self._shape != points.shape:
            self._shape = planes, height, width = points.shape
            self._padded = np.zeros((CHANNELS, planes, height + 2, width + 2), np.uint8)
        points = np.ascontiguousarray(points, np.int32)
        self._kernels.remember(points, channel == 0, CONTEXT_CLIP, self.padded[channel])

    def feature(self, channel: int, kind: int) -> NDArray[np.int32]:
        """Magnitudes of a known channel: 0 at the same place, 1 summed over neighbors, 2 over diagonal neighbors."""
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
        """Context bins of a channel whose predecessors are all known, without the quantizer."""
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


def _lowest_channel(symbols, values, tables: EntropyTables, anchor: int, transfer: Transfer) -> None:
    """Transfer the lowest channel coarse to fine into ``values``, shape (plane, latent=64, y_latent, x_latent)."""
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels

    lowest = values[:, 0]
    coarse = 2 * LOWEST_SPACINGS[0]
    grid = None if symbols is None else symbols[:, ::coarse, ::coarse]
    if grid is not None:
        grid = np.diff(grid, axis=2, prepend=0)
        grid[:, :, 0] = np.diff(grid[:, :, 0], axis=1, prepend=0)
    shape = lowest[:, ::coarse, ::coarse].shape
    received = transfer(grid, np.zeros(shape, np.uint8), (anchor, 1, 0))
    received[:, :, 0] = np.cumsum(received[:, :, 0], axis=1)
    lowest[:, ::coarse, ::coarse] = np.cumsum(received, axis=2)
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
) -> NDArray[np.int32]:
    """Go through a chunk in coding order; the one place that knows it.

    Encoder, decoder and rate estimate differ only in ``transfer``, which is handed the values to code (None when
    decoding), their context bins and the table's key without the bin, and returns the values.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent), or None
    shape : tuple of int
        Shape of the symbols.
    tables, anchor
        Tables and the anchor whose set is used.
    transfer : callable
    coded_channels : int
        Channels after the first so many in ``CHANNEL_ORDER`` are zero and skipped.
    busy : ndarray of bool, shape (plane, y_latent, x_latent), optional
        Latents elsewhere are zero in all channels but the lowest and skipped there.

    Returns
    -------
    ndarray of int32, shape as given
    """
    values = np.zeros(shape, np.int32)
    known, states = Magnitudes(), QuantizerStates((shape[0], *shape[2:]))
    for channel in CHANNEL_ORDER[:coded_channels]:
        given = None if symbols is None else symbols[:, channel]
        is_trellised = bool(tables.trellised[anchor, channel])
        if channel == 0:
            _lowest_channel(given, values, tables, anchor, transfer)
        else:
            bins = known.bins(tables, anchor, channel)
            if is_trellised:
                bins += states.quantizers * np.uint8(tables.thresholds.shape[-1] + 1)
            if busy is None:
                values[:, channel] = transfer(given, bins, (anchor, 0, channel))
            else:
                chosen = None if given is None else given[busy]
                values[:, channel][busy] = transfer(chosen, bins[busy], (anchor, 0, channel))
        known.add(channel, states.advance(values[:, channel]) if is_trellised else values[:, channel])
    return values
