"""Trellis-coded quantisation: two interleaved quantisers, and a path through both that is cheaper than either.

The channels of a block that are worth it share a *grid* of points, finer than the step. One quantiser holds its even
points, the other zero and its odd points. A symbol numbers the points of one quantiser, and the parity of the symbols
before it in the block says of which. A decoder follows eight states; an encoder looks for the cheapest path through them
(:func:`xsarcomp.codec.coder.choose_points`). At the same rate the error is smaller than that of one quantiser, because the points
that a whole block can reach lie more evenly in its many dimensions than a cubic grid.

Which channels take part is a matter of the model: where symbols are mostly zero, a path has nothing to choose from.

References
----------
Marcellin and Fischer (1990), *Trellis coded quantization of memoryless and Gauss-Markov sources*, IEEE Transactions on
Communications 38(1), for the principle; Schwarz et al. (2021), *Quantization and entropy coding in the Versatile Video
Coding (VVC) standard*, IEEE Transactions on Circuits and Systems for Video Technology 31(10), for parity as the driver and
for the zero of both quantisers.
"""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNEL_ORDER
from xsarcomp.codec.kernels.compile import FIRST_USE

POINT_SPACING = 0.5625
"""Distance of two points of the grid in steps. At one half, a quantiser alone would be as fine as that of the other
channels; the path makes up for a little more, so that both kinds of channels pay the same for a decibel."""


def spacings_db(step_db: float, trellised: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in dB of the points that symbols of each channel stand for, shape (latent=64,)."""
    return np.where(trellised, POINT_SPACING * step_db, step_db)


def points_of(symbols: NDArray[np.int32], trellised: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Points of the grid that symbols stand for; in channels without trellis the symbols themselves.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    trellised : ndarray of bool, shape (latent=64,)
        The channels with trellis.

    Returns
    -------
    ndarray of int32, same shape
        ``symbols`` itself if no channel has a trellis.
    """
    if not trellised.any():
        return symbols
    with FIRST_USE:
        from xsarcomp.codec.kernels import trellis as trellis_kernels

    points = np.array(symbols, np.int32, order="C")
    channels = np.array([channel for channel in CHANNEL_ORDER if trellised[channel]])
    trellis_kernels.replace_by_points(channels, points)
    return points


def symbols_of(points: NDArray[np.int32], trellised: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Symbols of points that lie on a path; the inverse of :func:`points_of`."""
    symbols = points.copy()
    chosen = points[:, trellised]
    symbols[:, trellised] = np.sign(chosen) * ((np.abs(chosen) + 1) >> 1)
    return symbols


class QuantizerStates:
    """The states of all blocks of a chunk, while its channels are gone through in coding order.

    Parameters
    ----------
    shape : tuple of int
        (plane, y_latent, x_latent).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        with FIRST_USE:
            from xsarcomp.codec.kernels import trellis as trellis_kernels

        self._kernels = trellis_kernels
        self._states = np.zeros(shape, np.uint8)

    @property
    def quantizers(self) -> NDArray[np.uint8]:
        """Quantiser of each block's next symbol, 0 or 1, shape (plane, y_latent, x_latent)."""
        return self._states & 1

    def advance(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        """Take in the symbols of a channel, shape (plane, y_latent, x_latent), and return their points."""
        points = np.array(symbols, np.int32, order="C")
        self._kernels.advance(self._states.reshape(-1), points.reshape(-1))
        return points
