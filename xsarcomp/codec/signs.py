"""Contexts of signs: which sign the neighborhood makes likely, and how likely, in integer arithmetic alone.

The basis functions of neighboring blocks overlap, so an edge that crosses them leaves coefficients whose signs belong
together: equal ones beside each other in a channel, and between channels by their mirror parity. A prediction is an
integer-weighted sum of signed values that the decoder already knows. Its sign is the likely one, its magnitude says how
likely. ``docs/format.md`` section 3.4.1 is the normative text.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNELS, SIGN_PHASES, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE

VALUE_CLIP = 255  # signed values count up to this in a context
FEATURE_CLIP = 4 * VALUE_CLIP  # only features of the lowest channel, whose values are not clipped, can reach it

# (row, column, factor) of the values that a feature of each kind adds up
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

# the same as arrays (kind, tap=4), filled up with taps of factor zero
_FILLED = np.array([[*taps, *[(0, 0, 0)] * (4 - len(taps))] for taps in FEATURE_TAPS])
_TAPS, FACTORS = _FILLED[..., :2], np.ascontiguousarray(_FILLED[..., 2], np.int32)

CodeSigns = Callable[[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_], NDArray[np.uint16]], None]


class SignedValues:
    """The signed values that sign contexts read, filled channel by channel and phase by phase.

    Parameters
    ----------
    shape : tuple of int
        Shape of the symbols, (plane, latent=64, y_latent, x_latent).
    busy : ndarray of bool, shape (plane, y_latent, x_latent), optional
        Latents that are coded in the channels above the lowest; all if None. The others are zero there.
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
        """Make the lowest channel known, shape (plane, y_latent, x_latent)."""
        self.known[0] = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge").reshape(-1)

    def add(self, channel: int, index: NDArray[np.int64], values: NDArray[np.int32]) -> None:
        """Make values of another channel known; what was not made known counts as zero.

        Parameters
        ----------
        channel : int
        index : ndarray of int64, shape (value,)
            Which of the values.
        values : ndarray of int32, shape (latent that is coded,)
            The list of coded latents is in C order of (plane, y_latent, x_latent).
        """
        padded = self.known[channel].reshape(self._shape)
        self.kernels.remember(index, self.places, values, VALUE_CLIP, padded)

    def phase(self, magnitudes: NDArray[np.int32], phase: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the signs of a phase stand: those with an even (phase 0) or odd (1) sum of row and column.

        Parameters
        ----------
        magnitudes : ndarray of int32, shape (latent that is coded,)
        phase : int

        Returns
        -------
        index : ndarray of int64, shape (sign,)
            Latents of the phase whose magnitude is not zero, in the list of coded latents.
        places : ndarray of int64, shape (sign,)
            The same for :meth:`predict`.
        """
        index, places = np.empty((2, self.phases[phase].size + 1), np.int64)
        count = self.kernels.select(self.phases[phase], self.places, magnitudes, index, places)
        return index[:count], places[:count]

    def contexts(
        self, values: NDArray[np.int32], phase: int, tables: EntropyTables, at: tuple[int, int, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.uint16]]:
        """Contexts of the signs of a phase.

        Parameters
        ----------
        values : ndarray of int32, shape (latent that is coded,)
            Only their magnitudes are looked at.
        phase : int
        tables : EntropyTables
        at : (anchor, channel, phase)

        Returns
        -------
        index : ndarray of int64, shape (sign,)
            As of :meth:`phase`.
        predicted : ndarray of bool, shape (sign,)
            Whether a minus is the likely sign.
        agreements : ndarray of uint16, shape (sign,)
            How often of 65536 a sign is the likely one.
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
            tables.sign_term_channels[at],
            tables.sign_term_kinds[at],
            tables.sign_term_weights[at],
            tables.sign_thresholds[at],
            tables.sign_frequencies[at],
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
        """Weighted sums of features; their signs are the predicted ones.

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


def transfer_signs(
    known: SignedValues,
    tables: EntropyTables,
    anchor: int,
    channel: int,
    values: NDArray[np.int32],
    code: CodeSigns,
) -> NDArray[np.int32]:
    """Go through the signs of a channel in coding order, and make its values known; the one place that knows it.

    Parameters
    ----------
    known : SignedValues
        Holds the lowest channel and all channels before this one.
    tables, anchor
        Tables and the anchor whose set is used.
    channel : int
        1 to 63.
    values : ndarray of int32, shape (latent that is coded,)
        With their signs where these are known, else magnitudes, which get their signs here.
    code : callable
        Is handed, for each phase, the values, where those that are not zero stand in the list, whether a minus is
        predicted for these, and how often of 65536 that is right. Behind it the values have their signs there.

    Returns
    -------
    ndarray of int32, shape (latent that is coded,)
        ``values``.
    """
    for phase in range(SIGN_PHASES):
        index, predicted, agreements = known.contexts(values, phase, tables, (anchor, channel, phase))
        if index.size:
            code(values, index, predicted, agreements)
            known.add(channel, index, values)
    return values
