"""A model that is ready to use: signal to symbols and symbols to signal, NumPy on both sides.

:class:`LappedCoder` is a model without a network and needs only NumPy. A model with a network is the same coder with
another :meth:`~LappedCoder.reconstruct` (:mod:`xsarcomp.codec.network.coder`); the rest of the package sees only this
interface and never torch.

Encoding is :meth:`~LappedCoder.analyze`, then :meth:`~LappedCoder.quantize`, which searches symbols that are cheap for
their error (:mod:`xsarcomp.codec.choice`). Decoding is :meth:`~LappedCoder.synthesize`.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.choice import QUANTIZER_PASSES, optimized_points, points_of_cells
from xsarcomp.codec.entropy_tables import EntropyTables
from xsarcomp.codec.model_card import ModelCard
from xsarcomp.codec.quantization import (
    dequantize,
    nearest_anchor,
    points_from_symbols,
    spacings_db,
    symbols_from_points,
)
from xsarcomp.codec.trellis import Trellis
from xsarcomp.errors import RateError

QUANTIZER_REACH = QUANTIZER_PASSES
"""Latents around a latent on which its symbol depends: each pass reads the direct neighbors."""
LAGRANGIAN_SLOPE, LAGRANGIAN_SLOPE_PER_DB, LARGEST_LAGRANGIAN_SLOPE = 0.7, 0.11, 1.45
"""Octaves by which the Lagrange multiplier grows an octave of the step, between the steps of two table sets: a constant, an
addition for each dB of the step of the set, and the largest sum. Measured on validation scenes: without, the rate falls by up
to 10 % where the tables change, with it by about 1 %."""
SMALLEST_STEP_DB, LARGEST_STEP_DB = 0.02, 64.0
"""Quantization steps that the format allows."""


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
    def trellis(self) -> Trellis:
        """States and cells of trellis-coded quantization."""
        return self.tables.trellis

    @property
    def quantizer_reach(self) -> int:
        """Latents around a latent on which its symbol depends, beyond its cell."""
        return 0 if self.trellis.has_cells else QUANTIZER_REACH

    @property
    def signal_reach(self) -> int:
        """Pixels around a latent's block on which its symbol depends, beyond its cell."""
        return lapped.OVERLAP + lapped.BLOCK * self.quantizer_reach

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
        """Choose the symbols of latents; where paths go through cells, their points.

        Parameters
        ----------
        latents : ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
            With ``quantizer_reach`` latents around, for which no symbols are returned.
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

        def choose(latents: NDArray[np.float64]) -> NDArray[np.int32]:
            return optimized_points(latents, self.tables, anchor, self.shifts[anchor], step_db, lagrangian)

        if self.trellis.has_cells:
            return points_of_cells(latents, self.trellis.cell, choose)
        symbols = symbols_from_points(choose(latents), self.tables.trellised[anchor])
        inside = slice(QUANTIZER_REACH, -QUANTIZER_REACH)
        return np.ascontiguousarray(symbols[:, :, inside, inside])

    def channels_with_trellis(self, step_db: float) -> NDArray[np.bool_]:
        """Channels that are quantized with a trellis at a step, shape (latent=64,)."""
        return self.tables.trellised[self.anchor(step_db)]

    def spacings_db(self, step_db: float) -> NDArray[np.float64]:
        """Distance of two points of each channel at a step, shape (latent=64,), dB."""
        return spacings_db(step_db, self.channels_with_trellis(step_db), self.trellis)

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
        return symbols if self.trellis.has_cells else points_from_symbols(symbols, self.channels_with_trellis(step_db))

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
        return dequantize(points, self.shifts[self.anchor(step_db)], self.spacings_db(step_db))

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
