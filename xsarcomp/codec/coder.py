"""A model ready to use: signal to symbols and symbols to signal, NumPy on both sides.

:class:`LappedCoder` is the profile without a network and needs NumPy alone. A model with a network is the same coder
with :meth:`~LappedCoder.restore` replaced (:mod:`xsarcomp.codec.network.coder`); the rest of the package sees only this
interface and never torch.
"""

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
    points_of,
    quantize_deadzone,
    spacings_db,
    symbols_of,
)
from xsarcomp.errors import RateError

QUANTIZER_PASSES = 3
# Each pass reads the neighbors of a latent, so the choice of a symbol depends on so many latents around it.
QUANTIZER_REACH = QUANTIZER_PASSES
LAGRANGIAN_SLOPE, LAGRANGIAN_SLOPE_PER_DB, LARGEST_LAGRANGIAN_SLOPE = 0.7, 0.11, 1.45
"""Octaves of the Lagrange multiplier an octave of the step between two anchors: so much, and more for each dB of the anchor,
at most. Measured on validation scenes: without, the rate falls by up to 10 % where the tables change, with it by about 1 %."""
SMALLEST_STEP_DB, LARGEST_STEP_DB = 0.02, 64.0


def choose_points(
    latents: NDArray[np.float64],
    points: NDArray[np.int32],
    tables: EntropyTables,
    anchor: int,
    shifts: NDArray[np.float32],
    step_db: float,
    lagrangian: float,
) -> NDArray[np.int32]:
    """Rate-distortion optimized points, under the contexts that given points make.

    In channels with trellis, the path of a block with the least squared error plus weighted code length
    (:mod:`xsarcomp.codec.quantization`). In the others, the least of each symbol alone; candidates are the nearest integer, the one
    below it, and zero; of two that cost the same the smaller is taken. Channel 0 is rounded to the nearest.

    Because the contexts come from a finished set of points and not from the choices themselves, a choice depends on
    the next neighbors alone and not on where a tile begins.

    Parameters
    ----------
    latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
    points : ndarray of int32, same shape
        Points of an earlier, simpler choice; they need not lie on a path.
    tables, anchor
        Entropy tables and the anchor whose set is used.
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        Reconstruction points, see :func:`xsarcomp.codec.quantization.dequantize`.
    step_db : float
    lagrangian : float
        Squared steps that one bit is worth.

    Returns
    -------
    ndarray of int32, same shape

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
    on_paths = [channel for channel in CHANNEL_ORDER if tables.trellised[anchor, channel]]
    alone = [channel for channel in CHANNEL_ORDER[1:] if channel not in on_paths]
    code_length = np.ascontiguousarray(tables.code_length[anchor])
    kernels.choose(
        latents,
        step_db,
        np.array(alone, np.int64),
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
    if on_paths:
        bins = np.stack([known.bins(tables, anchor, channel) for channel in on_paths])
        _choose_paths(latents, bins, on_paths, code_length, shifts, step_db, lagrangian, chosen)
    return chosen


def _choose_paths(latents, bins, on_paths: list[int], code_length, shifts, step_db: float, lagrangian: float, chosen):
    """Fill the channels with trellis; ``bins`` are theirs without the quantizer, (channel, plane, y_latent, x_latent)."""
    with FIRST_USE:
        from xsarcomp.codec.kernels import contexts as kernels
        from xsarcomp.codec.kernels import trellis as trellis_kernels

    prices = np.empty((len(on_paths), code_length.shape[1] * DIRECT_TOKENS), np.float32)
    for channel, row in zip(on_paths, prices, strict=True):
        kernels.weigh(code_length[channel], lagrangian / POINT_SPACING**2, row)  # squared spacings, not steps
    channels = np.array(on_paths, np.int64)
    trellis_kernels.choose_paths(latents, POINT_SPACING * step_db, channels, bins, prices, shifts, chosen)


def initial_points(latents: NDArray[np.float64], trellised: NDArray[np.bool_], step_db: float) -> NDArray[np.int32]:
    """Deadzone points that the optimized choice starts from; the lowest channel is rounded to the nearest."""
    points = quantize_deadzone(latents, spacings_db(step_db, trellised))
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
    """The encoder's symbols: deadzone first, then ``QUANTIZER_PASSES`` of :func:`choose_points`."""
    trellised = tables.trellised[anchor]
    points = initial_points(latents, trellised, step_db)
    for _ in range(QUANTIZER_PASSES):
        points = choose_points(latents, points, tables, anchor, shifts, step_db, lagrangian)
    return symbols_of(points, trellised)


@dataclass(frozen=True, eq=False)
class LappedCoder:
    """The lapped transform with optimized quantization and centroid reconstruction."""

    model_id: str
    """SHA-256 of the model file, 64 hexadecimal digits."""
    card: ModelCard
    basis: NDArray[np.int32]
    """Shape (tap=16, frequency=8), see :func:`xsarcomp.codec.lapped.lapped_basis`."""
    tables: EntropyTables
    shifts: NDArray[np.float32]
    """Reconstruction points, shape (anchor, latent=64, SHIFT_CLASSES)."""

    @property
    def latent_reach(self) -> int:
        """Latents around a tile that its decoding reads: one for the overlap of the transform."""
        return 1

    def anchor(self, step_db: float) -> int:
        """Index of the tables that serve a step.

        Raises
        ------
        RateError
            If the step is outside what the format is made for.
        """
        if not SMALLEST_STEP_DB <= step_db <= LARGEST_STEP_DB:
            raise RateError(
                f"a quantization step of {step_db:.4g} dB was asked for, expected {SMALLEST_STEP_DB} to "
                f"{LARGEST_STEP_DB} dB: ask for a rate between about 0.02 and 7 bits per pixel"
            )
        return nearest_anchor(step_db, np.array(self.card.anchor_steps_db))

    def mean_correction_db(self, step_db: float) -> float:
        """Decibels to add to decoded values so that the mean power stays, at this step."""
        return self._between_anchors(self.card.mean_corrections_db, step_db)

    def texture_gain(self, step_db: float) -> float:
        """Factor of all latents but the lowest in the synthesis, at this step."""
        return self._between_anchors(self.card.texture_gains, step_db)

    def _between_anchors(self, values: tuple[float, ...], step_db: float) -> float:
        return float(np.interp(np.log(step_db), np.log(self.card.anchor_steps_db), values))

    def analyze(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Latents of a signal that comes with ``lapped.OVERLAP`` pixels around whole blocks, without rounding."""
        return lapped.analyze(signal, self.basis)

    def quantize(self, latents: NDArray[np.float64], step_db: float) -> NDArray[np.int32]:
        """Symbols of latents that come with ``QUANTIZER_REACH`` latents around; these are cut off.

        Parameters
        ----------
        latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        step_db : float

        Returns
        -------
        ndarray of int32, shape (plane, latent=64, y_latent - 2 * reach, x_latent - 2 * reach)
        """
        anchor = self.anchor(step_db)
        # tables of a coarser anchor make zeros cheaper: leaning against that keeps the rate continuous over the step
        anchor_step_db = self.card.anchor_steps_db[anchor]
        slope = min(LAGRANGIAN_SLOPE + LAGRANGIAN_SLOPE_PER_DB * anchor_step_db, LARGEST_LAGRANGIAN_SLOPE)
        lagrangian = self.card.lagrangian * (step_db / anchor_step_db) ** slope
        symbols = optimized_symbols(latents, self.tables, anchor, self.shifts[anchor], step_db, lagrangian)
        inside = slice(QUANTIZER_REACH, -QUANTIZER_REACH)
        return np.ascontiguousarray(symbols[:, :, inside, inside])

    def trellised(self, step_db: float) -> NDArray[np.bool_]:
        """Which channels take part in the trellis at a step, shape (latent=64,)."""
        return self.tables.trellised[self.anchor(step_db)]

    def points(self, symbols: NDArray[np.int32], step_db: float) -> NDArray[np.int32]:
        """Points that symbols stand for, in units of the spacing of their channel; same shape."""
        return points_of(symbols, self.trellised(step_db))

    def restore(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Latents in dB from points; consumes all of ``latent_reach`` but the one that the synthesis needs."""
        return dequantize(points, self.shifts[self.anchor(step_db)], spacings_db(step_db, self.trellised(step_db)))

    def latents(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Restored latents with the texture gain, as the synthesis takes them."""
        latents = self.restore(points, step_db)
        latents[:, 1:] *= np.float32(self.texture_gain(step_db))
        return latents

    def synthesize(self, symbols: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Signal of symbols that come with ``latent_reach`` latents around.

        Parameters
        ----------
        symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        step_db : float

        Returns
        -------
        ndarray of float32, shape (plane, y, x), dB above the offset
            y = 8 * (y_latent - 2 * latent_reach), likewise x.
        """
        return lapped.synthesize(self.latents(self.points(symbols, step_db), step_db), self.basis)
