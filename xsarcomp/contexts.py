"""The coding order of a chunk and the contexts that choose tables, in integer arithmetic alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xsarcomp.entropy_tables import CHANNEL_ORDER, CHANNELS, LOWEST_SPACINGS, EntropyTables

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


def _edge_sum(values: NDArray, diagonal: bool) -> NDArray[np.int32]:
    """Sum of four neighbours, edges repeated; shape (plane, y_latent, x_latent)."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int32)
    if diagonal:
        return padded[:, :-2, :-2] + padded[:, :-2, 2:] + padded[:, 2:, :-2] + padded[:, 2:, 2:]
    return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


class Magnitudes:
    """The magnitudes that contexts read, filled channel by channel; shape (plane, y_latent, x_latent) each."""

    def __init__(self) -> None:
        self._features: dict[tuple[int, int], NDArray[np.int32]] = {}

    def add(self, channel: int, symbols: NDArray[np.int32]) -> None:
        """Make the symbols of a channel known. Of the lowest channel contexts see the local variation."""
        if channel == 0:
            padded = np.pad(symbols, ((0, 0), (1, 1), (1, 1)), mode="edge")
            middle = padded[:, 1:-1, 1:-1]
            variation = sum(
                np.abs(middle - neighbour)
                for neighbour in (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
            )
            magnitudes = variation >> 1
        else:
            magnitudes = np.abs(symbols)
        self._features[channel, 0] = np.minimum(magnitudes, CONTEXT_CLIP).astype(np.int32)

    def feature(self, channel: int, kind: int) -> NDArray[np.int32]:
        """Magnitudes of a known channel: 0 at the same place, 1 summed over neighbours, 2 over diagonal neighbours."""
        feature = self._features.get((channel, kind))
        if feature is None:
            feature = self._features[channel, kind] = _edge_sum(self._features[channel, 0], kind == 2)
        return feature

    def bins(
        self, tables: EntropyTables, anchor: int, channel: int, places: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """Context bins of a channel whose predecessors are all known; only those at ``places`` if given."""
        total: NDArray[np.int32] | None = None
        for source, kind, weight in zip(
            tables.term_channels[anchor, channel],
            tables.term_kinds[anchor, channel],
            tables.term_weights[anchor, channel],
            strict=True,
        ):
            if source >= 0:
                term = self.feature(int(source), int(kind)) * np.int32(weight)
                total = term if total is None else np.add(total, term, out=total)
        if total is None:
            total = np.zeros_like(self._features[0, 0])
        if places is not None:
            total = total[places]
        return np.searchsorted(tables.thresholds[anchor, channel], total, side="right").astype(np.uint8)


def _neighbours(known: NDArray[np.int32], rows: NDArray, columns: NDArray, spacing: int, diagonal: bool):
    """Four neighbours at ``spacing`` of the grid points rows x columns; beyond the edge the opposite one stands in."""

    def shifted(positions: NDArray, offset: int, size: int) -> NDArray:
        moved = positions + offset
        moved = np.where((moved < 0) | (moved >= size), positions - offset, moved)
        return np.where((moved < 0) | (moved >= size), positions, moved)

    height, width = known.shape[1:]
    up, down = shifted(rows, -spacing, height), shifted(rows, spacing, height)
    left, right = shifted(columns, -spacing, width), shifted(columns, spacing, width)
    if diagonal:
        places = [(up, left), (up, right), (down, left), (down, right)]
    else:
        # a line of one row or column has no neighbours across: those along it stand in
        along_y, along_x = (up, columns), (rows, left)
        places = [
            along_y if height > spacing else along_x,
            (down, columns) if height > spacing else (rows, right),
            along_x if width > spacing else along_y,
            (rows, right) if width > spacing else (down, columns),
        ]
    return [known[:, y[:, None], x[None]] for y, x in places]


def _lowest_channel(symbols, values, tables: EntropyTables, anchor: int, transfer: Transfer) -> None:
    """Transfer the lowest channel coarse to fine; ``values`` is filled in place, shape (plane, y_latent, x_latent)."""
    height, width = values.shape[1:]
    coarse = 2 * LOWEST_SPACINGS[0]
    grid = None if symbols is None else symbols[:, ::coarse, ::coarse]
    if grid is not None:
        grid = np.diff(grid, axis=2, prepend=0)
        grid[:, :, 0] = np.diff(grid[:, :, 0], axis=1, prepend=0)
    shape = values[:, ::coarse, ::coarse].shape
    received = transfer(grid, np.zeros(shape, np.uint8), (anchor, 1, 0))
    received[:, :, 0] = np.cumsum(received[:, :, 0], axis=1)
    values[:, ::coarse, ::coarse] = np.cumsum(received, axis=2)
    table = 0
    for spacing in LOWEST_SPACINGS:
        even_rows, odd_rows = np.arange(0, height, 2 * spacing), np.arange(spacing, height, 2 * spacing)
        even_columns, odd_columns = np.arange(0, width, 2 * spacing), np.arange(spacing, width, 2 * spacing)
        passes = ((odd_rows, odd_columns, True), (even_rows, odd_columns, False), (odd_rows, even_columns, False))
        for rows, columns, diagonal in passes:
            table += 1
            if not (rows.size and columns.size):
                continue
            around = _neighbours(values, rows, columns, spacing, diagonal)
            low, high = np.minimum.reduce(around), np.maximum.reduce(around)
            predicted = (around[0] + around[1] + around[2] + around[3] + 2) >> 2
            bins = np.searchsorted(tables.lowest_thresholds[anchor, table], high - low, side="right").astype(np.uint8)
            place = np.ix_(range(values.shape[0]), rows, columns)
            residual = None if symbols is None else symbols[place] - predicted
            values[place] = transfer(residual, bins, (anchor, 1, table)) + predicted


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
    known = Magnitudes()
    for channel in CHANNEL_ORDER[:coded_channels]:
        given = None if symbols is None else symbols[:, channel]
        if channel == 0:
            _lowest_channel(given, values[:, 0], tables, anchor, transfer)
        elif busy is None:
            bins = known.bins(tables, anchor, channel)
            values[:, channel] = transfer(given, bins, (anchor, 0, channel))
        else:
            bins = known.bins(tables, anchor, channel, busy)
            values[:, channel][busy] = transfer(None if given is None else given[busy], bins, (anchor, 0, channel))
        known.add(channel, values[:, channel])
    return values
