"""Frozen tables of the entropy coder, the tokens that they count, and the order of the channels.

A model has several sets of tables, each trained for one quantization step. Model files and frames call the index of a set
the *anchor*: it is the first dimension of all arrays of :class:`EntropyTables`. Channels "in the trellis" or "with trellis"
are those that :mod:`xsarcomp.codec.quantization` quantizes with one.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.trellis import BLOCK_TRELLIS, Trellis
from xsarcomp.errors import LimitExceededError, ModelIntegrityError

CHANNELS = 64
FREQUENCY_TOTAL = 2**16
"""Sum of the frequencies of a table."""
DIRECT_TOKENS = 16
"""Magnitudes 0 to 15 have a token each; larger ones have two tokens an octave."""
LARGEST_MAGNITUDE = 2**20
"""Magnitudes of symbols are below this."""
QUANTIZERS = 2
"""Quantizers of the trellis; each has context bins of its own."""
LARGEST_BINS = 256
"""Bins of a channel at most: the index of a bin is stored in a byte."""
LARGEST_TERMS = 32
"""Terms of a context at most: with magnitudes up to 4 * 255 and weights up to 32767, sums stay within 31 bits."""
TOKENS = DIRECT_TOKENS + 2 * 16
SIGN_PHASES, SIGN_TERMS, SIGN_CLASSES, SIGN_BINS = 2, 8, 3, 8
SIGN_KINDS, FIRST_DIFFERENCE_KIND = 8, 3
"""Kinds of signed features, and the first of them that is a difference, see :data:`xsarcomp.codec.signs.FEATURE_TAPS`."""
OWN_SIGN_KINDS = (1, 2)
"""Kinds that may read the channel itself: only direct neighbors are known there, which are of the other phase."""
LOWEST_SPACINGS = (8, 4, 2, 1)
"""Distances in latents of the passes that refine the lowest channel."""
LOWEST_TABLES = 1 + 3 * len(LOWEST_SPACINGS)
"""Tables of the lowest channel: the coarse grid, then three passes for each spacing."""

CHANNEL_ORDER = tuple(sorted(range(CHANNELS), key=lambda channel: (channel // 8 + channel % 8, channel)))
"""Channels in coding order: by rising frequency; ties by vertical frequency."""

TOKEN_START = np.concatenate(
    [np.arange(DIRECT_TOKENS), [2**e + h * 2 ** (e - 1) for e in range(4, 20) for h in (0, 1)], [LARGEST_MAGNITUDE]]
).astype(np.int64)
"""Smallest magnitude of each token, and the end of the last one."""
TOKEN_BITS = np.concatenate([np.zeros(DIRECT_TOKENS, int), np.repeat(np.arange(3, 19), 2)])
"""Bypass bits of each token, without its sign."""


@dataclass(frozen=True, slots=False, kw_only=True, eq=False)
class EntropyTables:
    """Frozen context weights, thresholds and frequency tables of a model.

    The first dimension of all arrays is *anchor*, the index of the table set. Names of fields are names of arrays in model
    files.

    Raises
    ------
    ModelIntegrityError
        If a shape or a value breaks a rule of the format.
    """

    trellised: NDArray[np.bool_]
    """Shape (anchor, channel=64): whether the channel takes part in the trellis, see :mod:`xsarcomp.codec.quantization`."""
    term_channels: NDArray[np.int16]
    """Shape (anchor, channel=64, term): the channel whose magnitudes the term reads; -1 for no term."""
    term_kinds: NDArray[np.uint8]
    """Shape (anchor, channel=64, term): 0 the same place, 1 its four neighbors, 2 its four diagonal neighbors."""
    term_weights: NDArray[np.int16]
    """Shape (anchor, channel=64, term), 0..32767."""
    thresholds: NDArray[np.int32]
    """Shape (anchor, channel=64, bin - 1), ascending: the bin of a context sum c is the number of thresholds <= c."""
    frequencies: NDArray[np.uint16]
    """Shape (anchor, channel=64, 2 bins, token), each row at least 1 and summing to 65536: the bins of channels without
    trellis and of the even quantizer, then those of the odd one. Channel 0 is unused."""
    lowest_thresholds: NDArray[np.int32]
    """Shape (anchor, table, bin - 1): thresholds on the spread of the four neighbors."""
    lowest_frequencies: NDArray[np.uint16]
    """Shape (anchor, table, bin, token): tables of the lowest channel, one for each pass."""
    sign_term_channels: NDArray[np.int16]
    """Shape (anchor, channel=64, phase=2, term=8): the channel whose values the term reads; -1 for no term."""
    sign_term_kinds: NDArray[np.uint8]
    """Shape (anchor, channel=64, phase=2, term=8): a kind of :data:`xsarcomp.codec.signs.FEATURE_TAPS`."""
    sign_term_weights: NDArray[np.int16]
    """Shape (anchor, channel=64, phase=2, term=8), of either sign."""
    sign_thresholds: NDArray[np.int32]
    """Shape (anchor, channel=64, phase=2, bin - 1 = 7), ascending, on the magnitude of the prediction."""
    sign_frequencies: NDArray[np.uint16]
    """Shape (anchor, channel=64, phase=2, class=3, bin=8): how many times in 65536 a sign is the predicted one; the class
    is the magnitude less 1, at most 2. Channel 0 is unused."""
    trellis: Trellis = BLOCK_TRELLIS
    """States and cells of the trellis; stands in the model card, and is no array."""

    def __post_init__(self) -> None:
        self._check_shapes()
        for name in ("frequencies", "lowest_frequencies"):
            table = getattr(self, name)
            if table.min() < 1 or (table.sum(-1, dtype=np.int64) != FREQUENCY_TOTAL).any():
                raise ModelIntegrityError(
                    f"{name} of the model must be at least 1 and sum to {FREQUENCY_TOTAL} in each row"
                )
        for name in ("thresholds", "lowest_thresholds", "sign_thresholds"):
            if (np.diff(getattr(self, name).astype(np.int64), axis=-1) < 0).any():
                raise ModelIntegrityError(f"{name} of the model must be ascending in each row")
        rank = np.argsort(CHANNEL_ORDER)
        if self.trellised[:, 0].any():
            raise ModelIntegrityError("the lowest channel is in the trellis")
        used = self.term_channels >= 0
        if (self.term_channels >= CHANNELS).any() or (self.term_weights < 0).any() or (self.term_kinds > 2).any():
            raise ModelIntegrityError("context terms name a channel, weight or kind that does not exist")
        causal = rank[np.clip(self.term_channels, 0, None)] < rank[np.arange(CHANNELS)][None, :, None]
        if not (causal | ~used).all():
            raise ModelIntegrityError("a context term reads a channel that is not decoded yet")
        self._check_signs(rank)

    def _check_shapes(self) -> None:
        for name, dimensions in (("term_channels", 3), ("thresholds", 3), ("lowest_frequencies", 4)):
            shape = getattr(self, name).shape
            if len(shape) != dimensions or shape[0] < 1:
                raise ModelIntegrityError(
                    f"entropy table {name!r} has shape {shape}, expected {dimensions} dimensions and at least one anchor: "
                    "the model file is damaged or of another format; install it again"
                )
        anchors, terms = self.term_channels.shape[0], self.term_channels.shape[-1]
        bins, lowest_bins = self.thresholds.shape[-1] + 1, self.lowest_frequencies.shape[2]
        expected = {
            "trellised": (anchors, CHANNELS),
            "term_channels": (anchors, CHANNELS, terms),
            "term_kinds": (anchors, CHANNELS, terms),
            "term_weights": (anchors, CHANNELS, terms),
            "thresholds": (anchors, CHANNELS, bins - 1),
            "frequencies": (anchors, CHANNELS, QUANTIZERS * bins, TOKENS),
            "lowest_thresholds": (anchors, LOWEST_TABLES, lowest_bins - 1),
            "lowest_frequencies": (anchors, LOWEST_TABLES, lowest_bins, TOKENS),
            "sign_term_channels": (anchors, CHANNELS, SIGN_PHASES, SIGN_TERMS),
            "sign_term_kinds": (anchors, CHANNELS, SIGN_PHASES, SIGN_TERMS),
            "sign_term_weights": (anchors, CHANNELS, SIGN_PHASES, SIGN_TERMS),
            "sign_thresholds": (anchors, CHANNELS, SIGN_PHASES, SIGN_BINS - 1),
            "sign_frequencies": (anchors, CHANNELS, SIGN_PHASES, SIGN_CLASSES, SIGN_BINS),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ModelIntegrityError(
                    f"entropy table {name!r} has shape {getattr(self, name).shape}, expected {shape}: "
                    "the model file is damaged or of another format; install it again"
                )
        if max(QUANTIZERS * bins, lowest_bins) > LARGEST_BINS:
            raise ModelIntegrityError(
                f"a channel has {QUANTIZERS * bins} bins and the lowest {lowest_bins}, expected at most {LARGEST_BINS}"
            )
        if terms > LARGEST_TERMS:
            raise ModelIntegrityError(f"the contexts have {terms} terms, expected at most {LARGEST_TERMS}")

    def _check_signs(self, rank: NDArray[np.intp]) -> None:
        """Check that sign terms name existing features of signs decoded before; ``rank`` is the place in coding order."""
        sources, kinds = self.sign_term_channels, self.sign_term_kinds
        # values of the lowest channel are levels in dB, which tell nothing about a sign, and are not clipped
        level = (sources == 0) & (kinds < FIRST_DIFFERENCE_KIND)
        if (sources >= CHANNELS).any() or (kinds >= SIGN_KINDS).any() or level.any():
            raise ModelIntegrityError("sign terms name a channel or kind that does not exist")
        if self.sign_frequencies.min() < 1:
            raise ModelIntegrityError("sign_frequencies must be at least 1")
        channels = np.arange(CHANNELS)[None, :, None, None]
        before = rank[np.clip(sources, 0, None)] < rank[channels]
        own = (sources == channels) & np.isin(kinds, OWN_SIGN_KINDS)
        own[:, :, 0] = False
        if not (before | own | (sources < 0)).all():
            raise ModelIntegrityError("a sign term reads a sign that is not decoded yet")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the arrays, as in a model file."""
        return tuple(field.name for field in fields(cls) if field.name != "trellis")

    @cached_property
    def code_length(self) -> NDArray[np.float32]:
        """Bits of each token without its bypass bits, shape (anchor, channel=64, 2 bins, token)."""
        # logarithms differ in their last bit between processors; rounding makes the choice of symbols the same on all
        return (np.rint((16 - np.log2(self.frequencies.astype(np.float64))) * 2**12) / 2**12).astype(np.float32)


def without_trellis(tables: EntropyTables) -> EntropyTables:
    """Make tables that code points as symbols of channels without trellis, whatever quantizer they belong to."""
    return replace(tables, trellised=np.zeros_like(tables.trellised))


def tokens_of(magnitudes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Compute the tokens of magnitudes, which are classes of magnitudes.

    Parameters
    ----------
    magnitudes : ndarray of int32, any shape
        0 to below 2**20.

    Returns
    -------
    ndarray of uint8, same shape
        0 to 47.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    # the magnitude of the smallest int32 is negative
    if magnitudes.size and not (magnitudes.min() >= 0 and magnitudes.max() < LARGEST_MAGNITUDE):
        raise LimitExceededError(
            f"a symbol or a difference of two has magnitude {int(magnitudes.max())}, the format holds less than "
            f"{LARGEST_MAGNITUDE}: use a larger step or mask the extreme pixels"
        )
    tokens = np.minimum(magnitudes, DIRECT_TOKENS - 1).astype(np.uint8)
    large = magnitudes >= DIRECT_TOKENS
    if large.any():
        tokens[large] = np.searchsorted(TOKEN_START, magnitudes[large], side="right") - 1
    return tokens
