"""The range coder: integers and signs to words and bits, a pass at a time, and back.

Words are those of the queue of constriction, to the last bit; ``docs/format.md``, section 3.5, is the normative text. Why
it is not constriction itself stands in ``docs/decisions/0011-compiled-range-coder.md``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE, TOKEN_BITS
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.errors import CorruptStreamError, LimitExceededError

_WHOLE = np.uint64(2**64 - 1)  # the interval before anything is coded
_MOST_BITS = 1 + int(TOKEN_BITS.max())  # bypass bits of an integer, with its sign


def _kernels():
    with FIRST_USE:
        from xsarcomp.codec.kernels import range_coder as range_kernels
    return range_kernels


def _residual_kernels():
    with FIRST_USE:
        from xsarcomp.codec.kernels import residuals as residual_kernels
    return residual_kernels


def _fresh_chances(kernels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Chances of all contexts before anything is coded, and how many bits each has seen."""
    return np.full(kernels.CONTEXTS, kernels.EVEN_CHANCE, np.int64), np.zeros(kernels.CONTEXTS, np.int64)


class RangeEncoder:
    """Writes words of the range coder and bypass bits, which are two sequences."""

    def __init__(self) -> None:
        self._kernels = _kernels()
        self._state = np.array([0, _WHOLE, 0, 0], np.uint64)
        self._words = np.empty(2**12, np.uint32)
        self._bits = np.empty(2**12, np.uint8)

    def encode(
        self, values: NDArray[np.int32], bins: NDArray[np.uint8], frequencies: NDArray[np.uint16], *, has_signs: bool
    ) -> None:
        """Code the integers of a pass: tokens bin by bin, then signs if they are bypass bits, then remainders.

        Parameters
        ----------
        values : ndarray of int32, shape (value,)
        bins : ndarray of uint8, shape (value,)
            Which row of ``frequencies`` codes a token.
        frequencies : ndarray of uint16, shape (bin, token=48)
            At least 1 each; each row sums to 65536.
        has_signs : bool
            Whether signs are bypass bits here.

        Raises
        ------
        LimitExceededError
            If a magnitude is too large for the format.
        """
        self._make_room(values.size, _MOST_BITS * values.size)
        largest = self._kernels.encode_pass(
            np.ascontiguousarray(values, np.int32),
            np.ascontiguousarray(bins),
            frequencies,
            has_signs,
            self._state,
            self._words,
            self._bits,
        )
        check_magnitude(largest)

    def encode_signs(
        self,
        values: NDArray[np.int32],
        index: NDArray[np.int64],
        predicted: NDArray[np.bool_],
        agreements: NDArray[np.uint16],
    ) -> None:
        """Code whether the signs of some values are those that were predicted.

        Parameters
        ----------
        values : ndarray of int32, shape (value,)
        index : ndarray of int64, shape (sign,)
            Which of the values; none of these is zero.
        predicted : ndarray of bool, shape (sign,)
            Whether a minus is predicted.
        agreements : ndarray of uint16, shape (sign,)
            How often of 65536 that is right, at least 1.
        """
        self._make_room(index.size, 0)
        self._kernels.encode_signs(values, index, predicted, agreements, self._state, self._words)

    def encode_integers(self, values: NDArray[np.int32]) -> None:
        """Code planes of integers with chances that adapt; see :mod:`xsarcomp.codec.residual_coding`.

        Parameters
        ----------
        values : ndarray of int32, shape (plane, y, x)
            Magnitudes below 2**20.
        """
        kernels = _residual_kernels()
        chances, seen = _fresh_chances(kernels)
        planes, height, width = values.shape
        row = 0
        while row < planes * height:
            # no bit makes more than one word; most rows make few
            self._make_room(kernels.MOST_BITS * width, 0)
            row = kernels.encode_rows(values, row, chances, seen, self._state, self._words)

    def encode_steps(self, encode: Callable[..., int], steps: int, words: int, bits: int) -> None:
        """Code in steps, as many at a time as there is room for.

        Parameters
        ----------
        encode : callable
            Kernel that is handed the number of a step, the state, words and bits. It returns the number of the next step, or
            a magnitude that is too large as a negative number.
        steps : int
        words, bits : int
            What a step takes at most.

        Raises
        ------
        LimitExceededError
            If a magnitude is too large for the format.
        """
        step = 0
        while step < steps:
            self._make_room(words, bits)
            step = encode(step, self._state, self._words, self._bits)
            check_magnitude(-step)

    def _make_room(self, symbols: int, bits: int) -> None:
        # a symbol has a share of at least 2**-24, which makes one word at most
        self._words = _with_room(self._words, int(self._state[2]) + symbols)
        self._bits = _with_room(self._bits, int(self._state[3]) + bits + 1)  # the kernel writes before it counts

    def finish(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """All words, and all bypass bits, one a byte; nothing can be coded after it."""
        low, width, count, bits = (int(number) for number in self._state)
        if width == _WHOLE:
            return np.empty(0, np.uint32), self._bits[:bits]
        end = low + 2**32 - 1
        if end >= 2**64:
            self._kernels.add_one(self._words, count)
        last = (end >> 32) % 2**32
        tail = [last, 0] if ((low + width) >> 32) % 2**32 == last else [last]
        return np.concatenate([self._words[:count], np.array(tail, np.uint32)]), self._bits[:bits]


def _with_room(array: NDArray, size: int) -> NDArray:
    """The array, or a copy of at least this size."""
    if size <= array.size:
        return array
    larger = np.empty(2 * size, array.dtype)
    larger[: array.size] = array
    return larger


class RangeDecoder:
    """Reads what :class:`RangeEncoder` wrote, in step.

    Parameters
    ----------
    words : ndarray of uint32
    bits : ndarray of uint8
        Bypass bits, one a byte.
    """

    def __init__(self, words: NDArray[np.uint32], bits: NDArray[np.uint8]) -> None:
        self._kernels = _kernels()
        self._words, self._bits = np.ascontiguousarray(words, np.uint32), np.ascontiguousarray(bits)
        first = [*self._words[:2].tolist(), 0, 0]
        self._state = np.array([first[0] << 32 | first[1], _WHOLE, 2, 0], np.uint64)

    def decode(self, bins: NDArray[np.uint8], frequencies: NDArray[np.uint16], *, has_signs: bool) -> NDArray[np.int32]:
        """Integers of a pass, or magnitudes where signs are no bypass bits; see :meth:`RangeEncoder.encode`.

        Raises
        ------
        CorruptStreamError
            If no encoder wrote these words, or bits are missing.
        """
        values = np.empty(bins.size, np.int32)
        status = self._kernels.decode_pass(
            np.ascontiguousarray(bins), frequencies, has_signs, self._state, self._words, self._bits, values
        )
        self._check(status)
        return values

    def decode_signs(
        self,
        values: NDArray[np.int32],
        index: NDArray[np.int64],
        predicted: NDArray[np.bool_],
        agreements: NDArray[np.uint16],
    ) -> None:
        """Give magnitudes their signs, in place; see :meth:`RangeEncoder.encode_signs`.

        Raises
        ------
        CorruptStreamError
            If no encoder wrote these words.
        """
        self._check(self._kernels.decode_signs(index, predicted, agreements, self._state, self._words, values))

    def decode_integers(self, values: NDArray[np.int32]) -> None:
        """Fill planes with integers; see :meth:`RangeEncoder.encode_integers`.

        Raises
        ------
        CorruptStreamError
            If no encoder wrote these words.
        """
        kernels = _residual_kernels()
        self._check(kernels.decode_planes(*_fresh_chances(kernels), self._state, self._words, values))

    def decode_all(self, decode: Callable[..., int], *arguments: Any) -> None:
        """Decode by a kernel that is handed arguments, state, words and bits, and returns what is wrong with these.

        Raises
        ------
        CorruptStreamError
            If no encoder wrote these words, or bits are missing.
        """
        self._check(decode(*arguments, self._state, self._words, self._bits))

    def _check(self, status: int) -> None:
        if status == self._kernels.IMPOSSIBLE_WORDS:
            raise CorruptStreamError("the range coder met impossible data")
        if status == self._kernels.MISSING_BITS:
            raise CorruptStreamError("the symbol section ends before its last sign or remainder")

    def is_exhausted(self) -> bool:
        """Whether all words and bits have been read, but for zero bits that fill the last byte."""
        low, width, word, bit = (int(number) for number in self._state)
        rest = self._bits[bit:]
        ended = width == _WHOLE or low < 2**33 - 1
        return word >= self._words.size and ended and rest.size < 8 and not rest.any()


def check_magnitude(largest: int) -> None:
    """Refuse a magnitude that the format does not hold.

    Raises
    ------
    LimitExceededError
        If it is.
    """
    if largest >= LARGEST_MAGNITUDE:
        raise LimitExceededError(
            f"a symbol or a difference of two has magnitude {int(largest)}, the format holds less than "
            f"{LARGEST_MAGNITUDE}: use a larger step or mask the extreme pixels"
        )
