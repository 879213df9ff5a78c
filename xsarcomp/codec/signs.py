"""Contexts of signs: the sign that the neighborhood makes likely, and how likely it is.

The basis functions of neighboring blocks overlap, so an edge that crosses them leaves coefficients whose signs are related:
beside each other in a channel they are equal, and between channels they follow from mirror parity. A prediction is an
integer-weighted sum of signed values that the decoder already knows. Its sign is the likely one, its magnitude says how
likely. Only integers are used. ``docs/format.md``, section 3.4.1, is the normative text.

The signs of a channel are coded in two *phases*, like the fields of a chessboard: first those with an even sum of row and
column, then the others, which then see the signs of their four neighbors in the same channel.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNELS, SIGN_PHASES, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE

VALUE_CLIP = 255
"""Magnitudes of signed values are clipped to this in a context."""
FEATURE_CLIP = 4 * VALUE_CLIP
"""Magnitudes of features are clipped to this; only the lowest channel, whose values are not clipped, can reach it."""

FEATURE_TAPS = (
    ((0, 0, 1),),
    ((0, -1, 1), (0, 1, 1)),
    ((-1, 0, 1), (1, 0, 1)),
    ((0, 1, 1), (0, -1, -1)),
    ((1, 0, 1), (-1, 0, -1)),
    ((-1, -1, 1), (1, 1, 1), (1, -1, -1), (-1, 1, -1)),
    ((0, -1, 1), (0, 1, 1), (0, 0, -2)),
    ((-1, 0, 1), (1, 0, 1), (0, 0, -2)),
)
"""Row, column and factor of the values that a feature adds up, for each kind of feature."""

# the same as arrays (kind, tap=4), filled up with taps of factor zero
_FILLED = np.array([[*taps, *[(0, 0, 0)] * (4 - len(taps))] for taps in FEATURE_TAPS])
_TAPS, FACTORS = _FILLED[..., :2], np.ascontiguousarray(_FILLED[..., 2], np.int32)

CodeSigns = Callable[[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_], NDArray[np.uint16]], None]
"""Function that codes the signs of one phase, see :func:`traverse_signs`."""


class SignedValues:
    """Signed values that are coded already, from which sign contexts are computed; filled channel by channel and phase by phase.

    Parameters
    ----------
    shape : tuple of int
        Shape of the symbols, (plane, latent=64, y_latent, x_latent).
    busy : ndarray of bool, shape (plane, y_latent, x_latent), optional
        Latents that are coded in the channels above the lowest; all if None. The others are zero there. The *coded
        latents* of a channel are listed in C order of (plane, y_latent, x_latent).
    """

    def __init__(self, shape: tuple[int, int, int, int], busy: NDArray[np.bool_] | None = None) -> None:
        with FIRST_USE:
            from xsarcomp.codec.kernels import signs as sign_kernels

        self.kernels = sign_kernels
        planes, _, height, width = shape
        self._shape = (planes, height + 2, width + 2)
        self.known = np.zeros((CHANNELS, planes * (height + 2) * (width + 2)), np.int32)
        inside = np.arange(self.known.shape[1]).reshape(self._shape)[:, 1:-1, 1:-1]
        odd = np.broadcast_to((np.arange(height)[:, None] + np.arange(width)) % 2 == 1, inside.shape)
        self.places = np.ascontiguousarray((inside if busy is None else inside[busy]).reshape(-1))
        odd = (odd if busy is None else odd[busy]).reshape(-1)
        self.phases = np.flatnonzero(~odd), np.flatnonzero(odd)
        self.offsets = _TAPS[..., 0] * (width + 2) + _TAPS[..., 1]

    def add_lowest(self, values: NDArray[np.int32]) -> None:
        """Add the lowest channel.

        Parameters
        ----------
        values : ndarray of int32, shape (plane, y_latent, x_latent)
            Its symbols.
        """
        self.known[0] = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge").reshape(-1)

    def add(self, channel: int, index: NDArray[np.int64], values: NDArray[np.int32]) -> None:
        """Add values of another channel; values that were not added count as zero.

        Parameters
        ----------
        channel : int
            1 to 63.
        index : ndarray of int64, shape (value,)
            Indices of the values to add in the list of coded latents.
        values : ndarray of int32, shape (coded latent,)
            Signed values of all coded latents.
        """
        padded = self.known[channel].reshape(self._shape)
        self.kernels.remember(index, self.places, values, VALUE_CLIP, padded)

    def phase(self, magnitudes: NDArray[np.int32], phase: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the signs of a phase: those of latents with an even (phase 0) or odd (phase 1) sum of row and column.

        Parameters
        ----------
        magnitudes : ndarray of int32, shape (coded latent,)
            Magnitudes of a channel.
        phase : int
            0 or 1.

        Returns
        -------
        index : ndarray of int64, shape (sign,)
            Latents of the phase whose magnitude is not zero, as indices in the list of coded latents.
        places : ndarray of int64, shape (sign,)
            The same latents, as :meth:`predict` takes them.
        """
        index, places = np.empty((2, self.phases[phase].size + 1), np.int64)
        count = self.kernels.select(self.phases[phase], self.places, magnitudes, index, places)
        return index[:count], places[:count]

    def contexts(
        self, values: NDArray[np.int32], phase: int, tables: EntropyTables, key: tuple[int, int, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.uint16]]:
        """Predict the signs of a phase.

        Parameters
        ----------
        values : ndarray of int32, shape (coded latent,)
            Values of a channel, of which only the magnitudes are read.
        phase : int
            0 or 1.
        tables : EntropyTables
            Tables of the model.
        key : tuple of int
            Place of the tables: table set (anchor), channel, phase.

        Returns
        -------
        index : ndarray of int64, shape (sign,)
            As for :meth:`phase`.
        predicted : ndarray of bool, shape (sign,)
            True where minus is the likely sign.
        agreements : ndarray of uint16, shape (sign,)
            How many times in 65536 a sign is the likely one.
        """
        size = self.phases[phase].size + 1
        index, predicted, agreements = np.empty(size, np.int64), np.empty(size, bool), np.empty(size, np.uint16)
        count = self.kernels.contexts(
            self.known,
            self.offsets,
            FACTORS,
            FEATURE_CLIP,
            self.phases[phase],
            self.places,
            values,
            tables.sign_term_channels[key],
            tables.sign_term_kinds[key],
            tables.sign_term_weights[key],
            tables.sign_thresholds[key],
            tables.sign_frequencies[key],
            index,
            predicted,
            agreements,
        )
        return index[:count], predicted[:count], agreements[:count]

    def predict(
        self,
        places: NDArray[np.int64],
        channels: NDArray[np.int16],
        kinds: NDArray[np.uint8],
        weights: NDArray[np.int16],
    ) -> NDArray[np.int32]:
        """Compute weighted sums of features, whose signs are the predicted ones.

        With at most 8 terms, of features up to 1020 with weights up to 2**15, they stay below 2**28.

        Parameters
        ----------
        places : ndarray of int64, shape (sign,)
            As :meth:`phase` returns them.
        channels, kinds, weights : ndarray of int16, uint8 and int16, shape (term,)
            Terms as in :class:`~xsarcomp.codec.entropy_tables.EntropyTables`.

        Returns
        -------
        ndarray of int32, shape (sign,)
        """
        sums = np.empty(places.size, np.int32)
        terms = (np.ascontiguousarray(channels), np.ascontiguousarray(kinds), np.ascontiguousarray(weights))
        self.kernels.predict(self.known, self.offsets, FACTORS, FEATURE_CLIP, places, *terms, sums)
        return sums


def traverse_signs(
    known: SignedValues,
    tables: EntropyTables,
    anchor: int,
    channel: int,
    values: NDArray[np.int32],
    code: CodeSigns,
) -> NDArray[np.int32]:
    """Call a function for each phase of the signs of a channel, in coding order. Only this function knows the order.

    Parameters
    ----------
    known : SignedValues
        With the lowest channel and all channels before this one; this channel is added to it.
    tables : EntropyTables
        Tables of the model.
    anchor : int
        Index of the table set.
    channel : int
        1 to 63.
    values : ndarray of int32, shape (coded latent,)
        Signed values when encoding; magnitudes when decoding, which get their signs in place.
    code : callable
        Is called with the values, the indices of those that are not zero in this phase, whether minus is predicted for
        each of these, and how many times in 65536 that is right. After the call the values have their signs there.

    Returns
    -------
    ndarray of int32, shape (coded latent,)
        ``values``.
    """
    for phase in range(SIGN_PHASES):
        index, predicted, agreements = known.contexts(values, phase, tables, (anchor, channel, phase))
        if index.size:
            code(values, index, predicted, agreements)
            known.add(channel, index, values)
    return values
