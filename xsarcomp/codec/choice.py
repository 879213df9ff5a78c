"""The encoder's choice: points that are cheap for their error.

Decoders need nothing of it: whatever an encoder chooses is decoded alike.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.contexts import Magnitudes
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, DIRECT_TOKENS, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.quantization import SHIFT_CLASSES, quantize_deadzone, spacings_db
from xsarcomp.codec.trellis import Trellis

QUANTIZER_PASSES = 3
"""Passes in which the encoder improves its choice of points."""


def choose_points(
    latents: NDArray[np.float64],
    points: NDArray[np.int32],
    tables: EntropyTables,
    anchor: int,
    shifts: NDArray[np.float32],
    step_db: float,
    lagrangian: float,
) -> NDArray[np.int32]:
    """Choose rate-distortion optimized points, with contexts from an earlier choice.

    The cost of a choice is its squared error plus weighted code length. In channels with trellis, the cheapest path of each
    cell is chosen (:mod:`xsarcomp.codec.trellis`). In the others, each symbol is chosen alone: candidates are the
    nearest integer, the one below it, and zero; of two that cost the same the smaller is taken. Channel 0 is rounded to the
    nearest.

    Because contexts come from a finished choice and not from the choices being made, a choice depends only on the next
    neighbors and not on where a tile begins.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
    points : ndarray of int32, same shape
        Points of an earlier, simpler choice; they need not lie on a path.
    tables : EntropyTables
        Tables of the model.
    anchor : int
        Index of the table set.
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        Shifts of the centroids, see :func:`xsarcomp.codec.quantization.dequantize`.
    step_db : float
        Quantization step in dB.
    lagrangian : float
        Squared steps that one bit is worth.

    Returns
    -------
    ndarray of int32, same shape
        Points.

    References
    ----------
    Sullivan and Wiegand (1998), IEEE Signal Processing Magazine 15(6), for the Lagrangian formulation.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels

    known = Magnitudes()
    for channel in CHANNEL_ORDER:
        known.add(channel, points[:, channel])
    latents = np.ascontiguousarray(latents, np.float64)
    shifts = np.ascontiguousarray(shifts, np.float32)
    chosen = np.empty(points.shape, np.int32)
    chosen[:, 0] = np.rint(latents[:, 0] / step_db)
    with_trellis = [channel for channel in CHANNEL_ORDER if tables.trellised[anchor, channel]]
    without_trellis = [channel for channel in CHANNEL_ORDER[1:] if channel not in with_trellis]
    code_length = np.ascontiguousarray(tables.code_length[anchor])
    kernels.choose(
        latents,
        step_db,
        np.array(without_trellis, np.int64),
        known.padded,
        np.ascontiguousarray(tables.term_channels[anchor]),
        np.ascontiguousarray(tables.term_kinds[anchor]),
        np.ascontiguousarray(tables.term_weights[anchor]),
        np.ascontiguousarray(tables.thresholds[anchor]),
        code_length,
        shifts,
        lagrangian,
        chosen,
    )
    if with_trellis:
        bins = np.stack([known.bins(tables, anchor, channel) for channel in with_trellis], axis=1)
        _choose_paths(latents, bins, with_trellis, code_length, shifts, step_db, lagrangian, tables.trellis, chosen)
    return chosen


def _choose_paths(
    latents: NDArray[np.float64],
    bins: NDArray[np.uint8],
    with_trellis: list[int],
    code_length: NDArray[np.float32],
    shifts: NDArray[np.float32],
    step_db: float,
    lagrangian: float,
    trellis: Trellis,
    chosen: NDArray[np.int32],
) -> None:
    """Fill the channels with trellis of ``chosen``.

    ``bins`` are their context bins without the part of the quantizer, shape (plane, channel, y_latent, x_latent).
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels
        from xsarcomp.codec.kernels import trellis as trellis_kernels

    prices = np.empty((len(with_trellis), code_length.shape[1] * DIRECT_TOKENS), np.float32)
    for channel, row in zip(with_trellis, prices, strict=True):
        kernels.weigh(code_length[channel], lagrangian / trellis.spacing**2, row)  # squared spacings, not steps
    point_shifts = np.zeros((len(with_trellis), 1 + SHIFT_CLASSES), np.float32)  # by magnitude: that of zero is 0
    point_shifts[:, 1:] = shifts[with_trellis]
    wanted = latents[:, with_trellis]
    # a path goes through one cell, which is a plane here, or through one block
    to_paths = (1, 2, 3, 0) if trellis.has_cells else (1, 0, 2, 3)
    count = len(with_trellis) * (wanted[0, 0].size if trellis.has_cells else 1)
    magnitudes = np.abs(wanted / (trellis.spacing * step_db)).astype(np.float32)
    along = np.ascontiguousarray(magnitudes.transpose(to_paths).reshape(count, -1))
    bins_along = np.ascontiguousarray(bins.transpose(to_paths).reshape(count, -1))
    points = np.empty(along.shape, np.int32)
    states = trellis.next_states, trellis.previous_states
    trellis_kernels.choose_paths(*states, along, bins_along, prices, point_shifts, points)
    shape = [wanted.shape[axis] for axis in to_paths]
    found = points.reshape(shape).transpose(np.argsort(to_paths))
    chosen[:, with_trellis] = np.where(wanted < 0, -found, found)


def initial_points(
    latents: NDArray[np.float64], has_trellis: NDArray[np.bool_], step_db: float, trellis: Trellis
) -> NDArray[np.int32]:
    """Compute the points from which the optimized choice starts: with a deadzone, the lowest channel rounded to the nearest.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        As the analysis returns them.
    has_trellis : ndarray of bool, shape (latent=64,)
        Channels with trellis.
    step_db : float
        Quantization step in dB.
    trellis : Trellis
        Of the model.

    Returns
    -------
    ndarray of int32, same shape as ``latents``
    """
    points = quantize_deadzone(latents, spacings_db(step_db, has_trellis, trellis))
    points[:, 0] = np.rint(latents[:, 0] / step_db)
    return points


def optimized_points(
    latents: NDArray[np.float64],
    tables: EntropyTables,
    anchor: int,
    shifts: NDArray[np.float32],
    step_db: float,
    lagrangian: float,
    passes: int = QUANTIZER_PASSES,
) -> NDArray[np.int32]:
    """Choose the points of an encoder: :func:`initial_points`, then some times :func:`choose_points`.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        As the analysis returns them.
    tables, anchor, shifts, step_db, lagrangian
        As for :func:`choose_points`.
    passes : int
        Number of choices.

    Returns
    -------
    ndarray of int32, same shape
        Points. Those less than ``passes`` from an edge depend on where the array ends.
    """
    points = initial_points(latents, tables.trellised[anchor], step_db, tables.trellis)
    for _ in range(passes):
        points = choose_points(latents, points, tables, anchor, shifts, step_db, lagrangian)
    return points


def points_of_cells(
    latents: NDArray[np.float64], cell: int, choose: Callable[[NDArray[np.float64]], NDArray[np.int32]]
) -> NDArray[np.int32]:
    """Choose points cell by cell: a choice sees nothing outside its cell, so it does not depend on where an array ends.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        The first latent begins a cell.
    cell : int
        Latents along the edge of a cell; the last ones may be cut.
    choose : callable
        Takes cells of one shape, (cell, latent=64, y_latent, x_latent), and returns their points.

    Returns
    -------
    ndarray of int32, same shape
    """
    planes, channels, height, width = latents.shape
    points = np.empty(latents.shape, np.int32)
    for top, bottom in _whole_and_rest(height, cell):
        for left, right in _whole_and_rest(width, cell):
            part = latents[:, :, top:bottom, left:right]
            edge_y, edge_x = min(cell, bottom - top), min(cell, right - left)
            rows, columns = (bottom - top) // edge_y, (right - left) // edge_x
            cells = part.reshape(planes, channels, rows, edge_y, columns, edge_x).transpose(0, 2, 4, 1, 3, 5)
            chosen = choose(np.ascontiguousarray(cells).reshape(-1, channels, edge_y, edge_x))
            chosen = chosen.reshape(planes, rows, columns, channels, edge_y, edge_x).transpose(0, 3, 1, 4, 2, 5)
            points[:, :, top:bottom, left:right] = chosen.reshape(part.shape)
    return points


def _whole_and_rest(size: int, cell: int) -> list[tuple[int, int]]:
    """Spans of an axis: the whole cells together, then the one that is cut."""
    whole = size // cell * cell
    return [span for span in ((0, whole), (whole, size)) if span[0] < span[1]]
