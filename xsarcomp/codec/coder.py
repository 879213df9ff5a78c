"""A model that is ready to use: signal to symbols and symbols to signal, NumPy on both sides.

:class:`LappedCoder` is a model without a network and needs only NumPy. A model with a network is the same coder with
another :meth:`~LappedCoder.reconstruct` (:mod:`xsarcomp.codec.network.coder`); the rest of the package sees only this
interface and never torch.

Encoding is :meth:`~LappedCoder.analyze`, then :meth:`~LappedCoder.quantize`, which searches symbols that are cheap for
their error (:func:`optimized_symbols`). Decoding is :meth:`~LappedCoder.synthesize`.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.contexts import Magnitudes
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, DIRECT_TOKENS, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.model_card import ModelCard
from xsarcomp.codec.quantization import (
    POINT_SPACING,
    dequantize,
    nearest_anchor,
    points_from_symbols,
    quantize_deadzone,
    spacings_db,
    symbols_from_points,
)
from xsarcomp.errors import RateError

QUANTIZER_PASSES = 3
"""Passes in which the encoder improves its choice of symbols."""
QUANTIZER_REACH = QUANTIZER_PASSES
"""Latents around a latent on which its symbol depends: each pass reads the direct neighbors."""
LAGRANGIAN_SLOPE, LAGRANGIAN_SLOPE_PER_DB, LARGEST_LAGRANGIAN_SLOPE = 0.7, 0.11, 1.45
"""Octaves by which the Lagrange multiplier grows an octave of the step, between the steps of two table sets: a constant, an
addition for each dB of the step of the set, and the largest sum. Measured on validation scenes: without, the rate falls by up
to 10 % where the tables change, with it by about 1 %."""
SMALLEST_STEP_DB, LARGEST_STEP_DB = 0.02, 64.0
"""Quantization steps that the format allows."""


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
    block is chosen (:mod:`xsarcomp.codec.quantization`). In the others, each symbol is chosen alone: candidates are the
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
        bins = np.stack([known.bins(tables, anchor, channel) for channel in with_trellis])
        _choose_paths(latents, bins, with_trellis, code_length, shifts, step_db, lagrangian, chosen)
    return chosen


def _choose_paths(
    latents: NDArray[np.float64],
    bins: NDArray[np.uint8],
    with_trellis: list[int],
    code_length: NDArray[np.float32],
    shifts: NDArray[np.float32],
    step_db: float,
    lagrangian: float,
    chosen: NDArray[np.int32],
) -> None:
    """Fill the channels with trellis of ``chosen``.

    ``bins`` are their context bins without the part of the quantizer, shape (channel, plane, y_latent, x_latent).
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels
        from xsarcomp.codec.kernels import trellis as trellis_kernels

    prices = np.empty((len(with_trellis), code_length.shape[1] * DIRECT_TOKENS), np.float32)
    for channel, row in zip(with_trellis, prices, strict=True):
        kernels.weigh(code_length[channel], lagrangian / POINT_SPACING**2, row)  # squared spacings, not steps
    channels = np.array(with_trellis, np.int64)
    trellis_kernels.choose_paths(latents, POINT_SPACING * step_db, channels, bins, prices, shifts, chosen)


def initial_points(latents: NDArray[np.float64], has_trellis: NDArray[np.bool_], step_db: float) -> NDArray[np.int32]:
    """Compute the points from which the optimized choice starts: with a deadzone, the lowest channel rounded to the nearest.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        As the analysis returns them.
    has_trellis : ndarray of bool, shape (latent=64,)
        Channels with trellis.
    step_db : float
        Quantization step in dB.

    Returns
    -------
    ndarray of int32, same shape as ``latents``
    """
    points = quantize_deadzone(latents, spacings_db(step_db, has_trellis))
    points[:, 0] = np.rint(latents[:, 0] / step_db)
    return points


def optimized_symbols(
    latents: NDArray[np.float64],
    tables: EntropyTables,
    anchor: int,
    shifts: NDArray[np.float32],
    step_db: float,
    lagrangian: float,
) -> NDArray[np.int32]:
    """Choose the symbols of an encoder: :func:`initial_points`, then ``QUANTIZER_PASSES`` times :func:`choose_points`.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        As the analysis returns them.
    tables, anchor, shifts, step_db, lagrangian
        As for :func:`choose_points`.

    Returns
    -------
    ndarray of int32, same shape
        Symbols. Those less than ``QUANTIZER_REACH`` from an edge depend on where the array ends.
    """
    has_trellis = tables.trellised[anchor]
    points = initial_points(latents, has_trellis, step_db)
    for _ in range(QUANTIZER_PASSES):
        points = choose_points(latents, points, tables, anchor, shifts, step_db, lagrangian)
    return symbols_from_points(points, has_trellis)


@dataclass(frozen=True, eq=False)
class LappedCoder:
    """The lapped transform with optimized quantization and centroid reconstruction."""

    model_id: str
    """SHA-256 of the model file, 64 hexadecimal digits."""
    card: ModelCard
    """Numbers of the model beside its arrays."""
    basis: NDArray[np.int32]
    """Basis of the transform, shape (tap=16, frequency=8), see :func:`xsarcomp.codec.lapped.lapped_basis`."""
    tables: EntropyTables
    """Tables of the entropy coder, several sets."""
    shifts: NDArray[np.float32]
    """Shifts of the centroids, shape (anchor, latent=64, SHIFT_CLASSES), see
    :func:`xsarcomp.codec.quantization.dequantize`."""

    @property
    def latent_reach(self) -> int:
        """Latents around a tile that are read to decode it: one, for the overlap of the transform."""
        return 1

    def without_network(self) -> "LappedCoder":
        """Coder of the same symbols that decodes without a network, more quickly and with more error."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(LappedCoder)}
        return LappedCoder(**fields | {"card": dataclasses.replace(self.card, architecture="lapped", network=None)})

    def anchor(self, step_db: float) -> int:
        """Find the table set that serves a step; see :func:`xsarcomp.codec.quantization.nearest_anchor`.

        Parameters
        ----------
        step_db : float
            Quantization step in dB, 0.02 to 64.

        Returns
        -------
        int
            Index of the table set.

        Raises
        ------
        RateError
            If the step is outside the range of the format.
        """
        if not SMALLEST_STEP_DB <= step_db <= LARGEST_STEP_DB:
            raise RateError(
                f"a quantization step of {step_db:.4g} dB was requested, expected {SMALLEST_STEP_DB} to "
                f"{LARGEST_STEP_DB} dB: ask for a rate between about 0.02 and 7 bits per pixel"
            )
        return nearest_anchor(step_db, np.array(self.card.anchor_steps_db))

    def mean_correction_db(self, step_db: float) -> float:
        """Decibels to add to decoded values at a step, so that the mean power stays."""
        return self._between_anchors(self.card.mean_corrections_db, step_db)

    def texture_gain(self, step_db: float) -> float:
        """Factor of all latents but the lowest in the synthesis at a step."""
        return self._between_anchors(self.card.texture_gains, step_db)

    def _between_anchors(self, values: tuple[float, ...], step_db: float) -> float:
        return float(np.interp(np.log(step_db), np.log(self.card.anchor_steps_db), values))

    def analyze(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform a signal to latents without rounding; see :func:`xsarcomp.codec.lapped.analyze`.

        Parameters
        ----------
        signal : ndarray of float64, shape (plane, y, x), dB above the offset
            Multiples of 1/512 dB, with ``lapped.OVERLAP`` pixels around whole blocks.

        Returns
        -------
        ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        """
        return lapped.analyze(signal, self.basis)

    def quantize(self, latents: NDArray[np.float64], step_db: float) -> NDArray[np.int32]:
        """Choose the symbols of latents.

        Parameters
        ----------
        latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
            With ``QUANTIZER_REACH`` latents around, for which no symbols are returned.
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of int32, shape (plane, latent=64, y_latent - 2 * reach, x_latent - 2 * reach)
        """
        anchor = self.anchor(step_db)
        # tables of a coarser step make zeros cheaper: a smaller multiplier keeps the rate continuous over the step
        anchor_step_db = self.card.anchor_steps_db[anchor]
        slope = min(LAGRANGIAN_SLOPE + LAGRANGIAN_SLOPE_PER_DB * anchor_step_db, LARGEST_LAGRANGIAN_SLOPE)
        lagrangian = self.card.lagrangian * (step_db / anchor_step_db) ** slope
        symbols = optimized_symbols(latents, self.tables, anchor, self.shifts[anchor], step_db, lagrangian)
        inside = slice(QUANTIZER_REACH, -QUANTIZER_REACH)
        return np.ascontiguousarray(symbols[:, :, inside, inside])

    def channels_with_trellis(self, step_db: float) -> NDArray[np.bool_]:
        """Channels that are quantized with a trellis at a step, shape (latent=64,)."""
        return self.tables.trellised[self.anchor(step_db)]

    def points(self, symbols: NDArray[np.int32], step_db: float) -> NDArray[np.int32]:
        """Compute the points that symbols stand for; see :func:`xsarcomp.codec.quantization.points_from_symbols`.

        Parameters
        ----------
        symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
            Symbols of whole blocks.
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of int32, same shape
            In units of the spacing of their channel.
        """
        return points_from_symbols(symbols, self.channels_with_trellis(step_db))

    def reconstruct(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Reconstruct latents from points.

        Parameters
        ----------
        points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
            With ``latent_reach`` latents around.
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of float32, shape (plane, latent=64, y_latent - 2 * margin, x_latent - 2 * margin), dB
            The margin is ``latent_reach - 1``: one latent around remains for the synthesis.
        """
        return dequantize(
            points, self.shifts[self.anchor(step_db)], spacings_db(step_db, self.channels_with_trellis(step_db))
        )

    def reconstruct_with_texture(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Reconstruct latents and multiply all but the lowest by the texture gain, as the synthesis needs them.

        Parameters and shapes are those of :meth:`reconstruct`.
        """
        latents = self.reconstruct(points, step_db)
        latents[:, 1:] *= np.float32(self.texture_gain(step_db))
        return latents

    def synthesize(self, symbols: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Decode symbols to their signal.

        Parameters
        ----------
        symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
            With ``latent_reach`` latents around.
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of float32, shape (plane, y, x), dB above the offset
            y = 8 * (y_latent - 2 * latent_reach), likewise x.
        """
        latents = self.reconstruct_with_texture(self.points(symbols, step_db), step_db)
        return lapped.synthesize(latents, self.basis)
