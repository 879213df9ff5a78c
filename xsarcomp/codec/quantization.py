"""Quantization of latents to symbols and back, with a deadzone or with a trellis.

Symbols are integers. Each stands for a *point*, an integer multiple of the spacing of its channel in dB. A decoder puts a
latent not on the point, but on the centroid of the latents that the encoder rounds to it (:func:`dequantize`).

In channels without trellis, the spacing is the quantization step, and points are the symbols themselves: the rounded
latents, with a deadzone around zero (:func:`quantize_deadzone`).

In channels with trellis, quantization is *trellis-coded*: two interleaved quantizers, and a path through both that is
cheaper than either. The channels that have one share a grid of points that is finer than the step. One quantizer
has the even points of the grid, the other zero and the odd points. A symbol numbers the points of one quantizer, and the
parity of the symbols before it on its path determines of which (:mod:`xsarcomp.codec.trellis`). A decoder follows the states;
an encoder searches for the cheapest path through them (:func:`xsarcomp.codec.choice.choose_points`). At the same rate the
error is smaller than that of one quantizer, because the points that a whole block can reach lie more evenly in its many
dimensions than a cubic grid. The model determines which channels take part: where symbols are mostly zero, a path has
nothing to choose from.

References
----------
Marcellin and Fischer (1990), *Trellis coded quantization of memoryless and Gauss-Markov sources*, IEEE Transactions on
Communications 38(1), for the principle; Schwarz et al. (2021), *Quantization and entropy coding in the Versatile Video
Coding (VVC) standard*, IEEE Transactions on Circuits and Systems for Video Technology 31(10), for parity as the driver and
for the zero of both quantizers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNEL_ORDER
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.trellis import BLOCK_TRELLIS, Trellis

SHIFT_CLASSES = 6
"""Magnitude classes with a reconstruction point of their own: 1 to 5, and 6 or more."""


def nearest_anchor(step_db: float, anchor_steps_db: NDArray[np.float64]) -> int:
    """Find the table set that serves a step: the one whose own step is nearest on a logarithmic scale.

    A model has several sets of tables, each trained for one quantization step. The format calls the index of a set the
    *anchor*, and the step that a set was trained for its anchor step.

    Parameters
    ----------
    step_db : float
        Quantization step in dB.
    anchor_steps_db : ndarray of float64, shape (anchor,)
        Steps in dB of the table sets, ascending.

    Returns
    -------
    int
        Index of the table set; the smaller of two that are equally near.
    """
    return int(np.argmin(np.abs(np.log(np.asarray(anchor_steps_db)) - np.log(step_db))))


def spacings_db(step_db: float, has_trellis: NDArray[np.bool_], trellis: Trellis) -> NDArray[np.float64]:
    """Compute the distance of two points of each channel.

    Parameters
    ----------
    step_db : float
        Quantization step in dB.
    has_trellis : ndarray of bool, shape (latent=64,)
        Channels with trellis.
    trellis : Trellis
        Its points lie ``trellis.spacing`` steps apart.

    Returns
    -------
    ndarray of float64, shape (latent=64,), dB
    """
    return np.where(has_trellis, trellis.spacing * step_db, step_db)


def quantize_deadzone(
    latents: NDArray[np.float64], spacings_db: NDArray[np.float64], rounding: float = 0.4
) -> NDArray[np.int32]:
    """Round latents to points, with a deadzone around zero.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        As the analysis returns them.
    spacings_db : ndarray of float64, shape (latent=64,)
        Distance of two points in dB, see :func:`xsarcomp.codec.quantization.spacings_db`.
    rounding : float, 0..0.5
        0.5 rounds to the nearest integer; less rounds more values towards zero and so widens the deadzone.

    Returns
    -------
    ndarray of int32, same shape
        Points, in units of the spacing.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels

    points = np.empty(latents.shape, np.int32)
    spacings_db = np.ascontiguousarray(spacings_db, np.float64)
    kernels.round_to_zero(np.ascontiguousarray(latents, np.float64), spacings_db, rounding, points)
    return points


def dequantize(
    points: NDArray[np.int32], shifts: NDArray[np.float32], spacings_db: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Reconstruct latents at the centroids of their points.

    Parameters
    ----------
    points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        See :func:`points_from_symbols`.
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        Distance of the centroid from the point, towards zero, in units of the spacing.
    spacings_db : ndarray of float64, shape (latent=64,)
        Distance of two points in dB, see :func:`xsarcomp.codec.quantization.spacings_db`.

    Returns
    -------
    ndarray of float32, same shape, dB
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels

    padded = np.zeros((len(shifts), 1 + SHIFT_CLASSES))  # a point 0 has no shift
    padded[:, 1:] = shifts.astype(np.float32)
    latents = np.empty(points.shape, np.float32)
    spacings = np.asarray(spacings_db, np.float32).astype(np.float64)
    decoder_kernels.dequantize(np.ascontiguousarray(points, np.int32), padded, spacings, latents)
    return latents


def points_from_symbols(symbols: NDArray[np.int32], has_trellis: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Compute the points that symbols stand for; in channels without trellis they are the symbols themselves.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of whole blocks: a path begins anew in each.
    has_trellis : ndarray of bool, shape (latent=64,)
        Channels with trellis.

    Returns
    -------
    ndarray of int32, same shape
        ``symbols`` itself if no channel has a trellis.
    """
    if not has_trellis.any():
        return symbols
    points, states = np.array(symbols, np.int32, order="C"), QuantizerStates((symbols.shape[0], *symbols.shape[2:]))
    for channel in CHANNEL_ORDER:
        if has_trellis[channel]:
            points[:, channel] = states.advance(points[:, channel])
    return points


def symbols_from_points(points: NDArray[np.int32], has_trellis: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Compute the symbols of points that lie on a path; the inverse of :func:`points_from_symbols`.

    Parameters
    ----------
    points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Points, as an encoder chose them.
    has_trellis : ndarray of bool, shape (latent=64,)
        Channels with trellis.

    Returns
    -------
    ndarray of int32, same shape
    """
    symbols = points.copy()
    on_path = points[:, has_trellis]
    symbols[:, has_trellis] = np.sign(on_path) * ((np.abs(on_path) + 1) >> 1)
    return symbols


class QuantizerStates:
    """The trellis states of all blocks of a chunk, which advance from channel to channel in coding order.

    Parameters
    ----------
    shape : tuple of int
        Shape of a channel of the chunk, (plane, y_latent, x_latent).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        with FIRST_USE:
            from xsarcomp.codec.kernels import trellis as trellis_kernels

        self._kernels = trellis_kernels
        self._states = np.zeros(shape, np.uint8)

    @property
    def quantizers(self) -> NDArray[np.uint8]:
        """Quantizer of each block's next symbol, 0 (even) or 1 (odd), shape (plane, y_latent, x_latent)."""
        return self._states & np.uint8(1)

    def advance(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        """Advance the states by the symbols of a channel, and return the points of these symbols.

        Parameters
        ----------
        symbols : ndarray of int32, shape (plane, y_latent, x_latent)
            Symbols of the next channel with trellis.

        Returns
        -------
        ndarray of int32, same shape
        """
        points = np.array(symbols, np.int32, order="C")
        self._kernels.advance(BLOCK_TRELLIS.next_states, self._states.reshape(-1), points.reshape(-1))
        return points


class CellPaths(NamedTuple):
    """Points that lie on paths through cells, with what an entropy coder needs of them."""

    cell: int
    """Latents along the edge of a cell."""
    points: NDArray[np.int32]
    """Shape (plane, latent=64, y_latent, x_latent)."""
    symbols: NDArray[np.int32]
    """Same shape."""
    quantizers: NDArray[np.uint8]
    """Quantizer of each symbol, 0 (even) or 1 (odd); same shape."""
    extent: tuple[int, int]
    """Rows and columns of latents that paths go through."""


def find_cells(
    points: NDArray[np.int32],
    has_trellis: NDArray[np.bool_],
    trellis: Trellis,
    extent: tuple[int, int] | None = None,
) -> CellPaths | None:
    """Find the largest cells through which points lie on paths.

    Parameters
    ----------
    points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Points of a chunk, which begins a cell.
    has_trellis : ndarray of bool, shape (latent=64,)
        Channels with trellis.
    trellis : Trellis
        Of the model.
    extent : tuple of int, optional
        Rows and columns of latents that are there; the rest pads a chunk at the edge of an array. All if not given.

    Returns
    -------
    CellPaths or None
        None if the points are not those of an encoder, or their cells do not begin where the chunk begins.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import trellis as trellis_kernels

    points = np.ascontiguousarray(points, np.int32)
    channels = np.array([channel for channel in CHANNEL_ORDER if has_trellis[channel]], np.int64)
    symbols, quantizers = points.copy(), np.zeros(points.shape, np.uint8)
    rows, columns = extent or points.shape[2:]
    cell = trellis.cell
    while cell:
        if trellis_kernels.split_paths(trellis.next_states, cell, rows, columns, channels, points, symbols, quantizers):
            return CellPaths(cell, points, symbols, quantizers, (rows, columns))
        cell //= 2
    return None
