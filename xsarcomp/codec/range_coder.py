"""The range coder: integers and signs to words and bits, a pass at a time, and back.

The coder turns a sequence of values, each with a known probability, into one large number. The idea, in four steps:

1. It keeps an interval of 64-bit integers, ``low`` to ``low + width``, at first all of them. Every number in the interval
   stands for the same values coded so far.
2. To code a value, the interval is divided among all possible values, each getting a share in proportion to its
   probability (a frequency of 65536). The share of the value that occurred becomes the new interval. A likely value
   leaves the interval almost as wide as it was, an unlikely one makes it much narrower.
3. When the interval is narrower than 2**32, the upper 32 bits of ``low`` are final, but for a carry, which adds one to the
   words before. They are appended to the output as a word, and the interval is shifted up by 32 bits. So a value of
   probability p takes about ``-log2(p)`` bits.
4. The decoder has the same probabilities. It divides the same interval, reads into which share the number in the words
   falls, returns the value of that share, and narrows its interval as the encoder did. Both must compute with the same
   integers: one different probability makes all later values wrong.

Values that are equally likely (the lower bits of large magnitudes, some signs) would gain nothing. They are *bypass bits*,
which are written to a sequence of their own.

Words equal those of the queue of the library constriction, to the last bit; ``docs/format.md``, section 3.5, is the
normative text. ``docs/decisions/0011-compiled-range-coder.md`` tells why it is not constriction itself.

References
----------
Martin (1979), *Range encoding: an algorithm for removing redundancy from a digitised message*, Video and Data Recording
Conference, Southampton.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE, TOKEN_BITS
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.errors import CorruptStreamError, LimitExceededError

_WHOLE = np.uint64(2**64 - 1)  # the interval before anything is coded
_MOST_BITS = 1 + int(TOKEN_BITS.max())  # bypass bits of an integer, with its sign


def _kernels() -> ModuleType:
    with FIRST_USE:
        from xsarcomp.codec.kernels import range_coder as range_kernels
    return range_kernels


def _residual_kernels() -> ModuleType:
    with FIRST_USE:
        from xsarcomp.codec.kernels import residuals as residual_kernels
    return residual_kernels


def _initial_chances(kernels: ModuleType) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Probabilities of all contexts before anything is coded, and how many bits each context has coded."""
    return np.full(kernels.CONTEXTS, kernels.EVEN_CHANCE, np.int64), np.zeros(kernels.CONTEXTS, np.int64)


class RangeEncoder:
    """Encoder that writes two sequences: words of the range coder, and bypass bits."""

    def __init__(self) -> None:
        self._kernels = _kernels()
        self._state = np.array([0, _WHOLE, 0, 0], np.uint64)  # low, width, number of words, number of bits
        self._words = np.empty(2**12, np.uint32)
        self._bits = np.empty(2**12, np.uint8)

    def encode(
        self, values: NDArray[np.int32], bins: NDArray[np.uint8], frequencies: NDArray[np.uint16], *, has_signs: bool
    ) -> None:
        """Encode the integers of a pass: tokens bin by bin, then signs if they are bypass bits, then lower bits.

        Parameters
        ----------
        values : ndarray of int32, shape (value,)
            Integers of the pass.
        bins : ndarray of uint8, shape (value,)
            Row of ``frequencies`` that codes the token of a value.
        frequencies : ndarray of uint16, shape (bin, token=48)
            At least 1 each; each row sums to 65536.
        has_signs : bool
            Whether signs are bypass bits in this pass; otherwise only magnitudes are encoded.

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
        """Encode whether the signs of some values are the predicted ones.

        Parameters
        ----------
        values : ndarray of int32, shape (value,)
            Signed values.
        index : ndarray of int64, shape (sign,)
            Indices of the values whose signs are encoded; none of these is zero.
        predicted : ndarray of bool, shape (sign,)
            True where minus is predicted.
        agreements : ndarray of uint16, shape (sign,)
            How many times in 65536 the prediction is right, at least 1.
        """
        self._make_room(index.size, 0)
        self._kernels.encode_signs(values, index, predicted, agreements, self._state, self._words)

    def encode_integers(self, values: NDArray[np.int32]) -> None:
        """Encode planes of integers with probabilities that adapt; see :mod:`xsarcomp.codec.residual_coding`.

        Parameters
        ----------
        values : ndarray of int32, shape (plane, y, x)
            Magnitudes below 2**20.
        """
        kernels = _residual_kernels()
        chances, counts = _initial_chances(kernels)
        planes, height, width = values.shape
        row = 0
        while row < planes * height:
            # no bit makes more than one word; most rows make few
            self._make_room(kernels.MOST_BITS * width, 0)
            row = kernels.encode_rows(values, row, chances, counts, self._state, self._words)

    def encode_steps(self, encode: Callable[..., int], steps: int, words: int, bits: int) -> None:
        """Call a kernel until all steps are encoded; the kernel encodes as many at a time as there is room for.

        Parameters
        ----------
        encode : callable
            Kernel that is called with the number of a step, the state, words and bits. It returns the number of the next
            step, or a magnitude that is too large as a negative number.
        steps : int
            Number of steps.
        words, bits : int
            Words and bits that a step takes at most.

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

    def _make_room(self, values: int, bits: int) -> None:
        """Enlarge the arrays, if needed, so that a kernel can write so many values and bits."""
        # a value has a share of at least 2**-24, which makes one word at most
        self._words = _with_room(self._words, int(self._state[2]) + values)
        self._bits = _with_room(self._bits, int(self._state[3]) + bits + 1)  # the kernel writes before it counts

    def finish(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """End the sequences and return them; nothing can be encoded after that.

        Returns
        -------
        words : ndarray of uint32, shape (word,)
            Words of the range coder.
        bits : ndarray of uint8, shape (bit,)
            Bypass bits, one a byte.
        """
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
    """Decoder of the words and bits of a :class:`RangeEncoder`; its calls must come in the order of those of the encoder.

    Parameters
    ----------
    words : ndarray of uint32, shape (word,)
        Words of the range coder.
    bits : ndarray of uint8, shape (bit,)
        Bypass bits, one a byte.
    """

    def __init__(self, words: NDArray[np.uint32], bits: NDArray[np.uint8]) -> None:
        self._kernels = _kernels()
        self._words, self._bits = np.ascontiguousarray(words, np.uint32), np.ascontiguousarray(bits)
        first = [*self._words[:2].tolist(), 0, 0]
        # distance of the number in the words from low, width, next word, next bit
        self._state = np.array([first[0] << 32 | first[1], _WHOLE, 2, 0], np.uint64)

    def decode(self, bins: NDArray[np.uint8], frequencies: NDArray[np.uint16], *, has_signs: bool) -> NDArray[np.int32]:
        """Decode the integers of a pass, or only magnitudes where signs are no bypass bits; see :meth:`RangeEncoder.encode`.

        Parameters
        ----------
        bins, frequencies, has_signs
            As for encoding.

        Returns
        -------
        ndarray of int32, shape (value,)

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
        """Decode planes of integers in place; see :meth:`RangeEncoder.encode_integers`.

        Raises
        ------
        CorruptStreamError
            If no encoder wrote these words.
        """
        kernels = _residual_kernels()
        self._check(kernels.decode_planes(*_initial_chances(kernels), self._state, self._words, values))

    def decode_all(self, decode: Callable[..., int], *arguments: Any) -> None:
        """Call a kernel that decodes everything.

        Parameters
        ----------
        decode : callable
            Kernel that is called with the arguments, the state, words and bits. It returns a status: whether these are valid.
        *arguments
            First arguments of the kernel.

        Raises
        ------
        CorruptStreamError
            If no encoder wrote these words, or bits are missing.
        """
        self._check(decode(*arguments, self._state, self._words, self._bits))

    def _check(self, status: int) -> None:
        if status == self._kernels.IMPOSSIBLE_WORDS:
            raise CorruptStreamError("the range coder met impossible data: the chunk is damaged")
        if status == self._kernels.MISSING_BITS:
            raise CorruptStreamError("the symbol section ends before its last sign or remainder: the chunk is damaged")

    def is_exhausted(self) -> bool:
        """Return whether all words and bits have been read, except zero bits that fill the last byte."""
        low, width, word, bit = (int(number) for number in self._state)
        unread = self._bits[bit:]
        has_ended = width == _WHOLE or low < 2**33 - 1
        return word >= self._words.size and has_ended and unread.size < 8 and not unread.any()


def check_magnitude(largest: int) -> None:
    """Refuse a magnitude that is too large for the format.

    Raises
    ------
    LimitExceededError
        If it is too large.
    """
    if largest >= LARGEST_MAGNITUDE:
        raise LimitExceededError(
            f"a symbol or a difference of two has magnitude {int(largest)}, the format holds less than "
            f"{LARGEST_MAGNITUDE}: use a larger step or mask the extreme pixels"
        )
