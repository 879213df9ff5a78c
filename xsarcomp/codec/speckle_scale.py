"""The scale of synthetic speckle, found while encoding: the factor with which restored looks are those of the original.

The law of :mod:`xsarcomp.codec.speckle` holds for usual scenes. Where one has other speckle, or texture that quantization
treats unlike speckle, its looks are missed by up to a fifth. The encoder has the original: it decodes a sample as a reader
would, and compares the looks in the most homogeneous windows. Metadata hold the result under the key ``speckle_scales``.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.speckle import Places, Speckle, synthesize_latents_with_speckle
from xsarcomp.codec.window import classify_backscatter, encode_planes, latent_count, signal_from_backscatter
from xsarcomp.metrics.speckle import WINDOW_PIXELS, homogeneous_count, window_variations
from xsarcomp.radiometry.decibel import to_signal
from xsarcomp.radiometry.pixel_classes import VALID
from xsarcomp.tiling import equal_spans, reflect_indices

LARGEST_PLANE_LATENTS = 10_000
"""Latents of a plane that is decoded whole, with those around them that the network reads: about 700 x 700 pixels."""
LARGEST_LATENTS = 6_000
"""Latents of the parts of other planes together."""
LARGEST_PIXELS = 2**19
"""Pixels among which calm windows are looked for, about."""
PART_PIXELS = 256
"""Edge in pixels of the parts into which larger planes are cut."""
LEAST_WINDOWS = 4
"""Calm windows that are needed for a measurement."""
SMALLEST, LARGEST = 0.1, 2.0
"""Range of the factor."""
AIM = (0.98, 1.0)
"""Median ratios of looks that are left alone. Slightly too much speckle is better than textures without it: at fine steps the
last two percent would cost half of the noise."""
LEAST_STEP = 0.01
"""Noise may lower the ratio by so much at least: where plain decoding has too few looks already, less noise does not help."""
CORRECTIONS = 2
"""Times that the factor is tried and corrected."""

Corners = NDArray[np.int64]


class _Piece(NamedTuple):
    """Part of a plane, and its calm windows."""

    signal: NDArray[np.float64]
    """Shape (y, x), dB above the offset."""
    corners: Corners
    """First row and column of each window, shape (window, 2)."""
    key: int
    """Seed of the noise."""


def measure_speckle_scale(
    planes: Sequence[NDArray],
    keys: Sequence[int],
    settings: Settings,
    coder: LappedCoder,
    homogeneous_db2: Sequence[float],
) -> float | None:
    """Find the factor of the noise's variance at which the median ratio of looks is within ``AIM``.

    Parameters
    ----------
    planes : sequence of ndarray, shape (y, x)
        Backscatter, a sample of planes with one kind of speckle. Small planes are given whole; then the noise is the one that
        a reader adds, and chance is accounted for too.
    keys : sequence of int
        Seed of the noise of each plane.
    settings : Settings
        Scale, nodata and step.
    coder : LappedCoder
        Model that encodes.
    homogeneous_db2 : sequence of 64 float
        See :func:`xsarcomp.codec.speckle_spectrum.homogeneous_variances`.

    Returns
    -------
    float or None
        ``SMALLEST`` to ``LARGEST`` with three digits; None where there are too few calm windows.
    """
    pieces = _calm_pieces(planes, keys, settings, coder)
    if sum(len(piece.corners) for piece in pieces) < LEAST_WINDOWS:
        return None
    original = np.concatenate([_inverse_looks(piece.signal, piece.corners) for piece in pieces])
    decoded = [_DecodedPiece(piece, coder, settings.step_db, homogeneous_db2) for piece in pieces]

    def inverse_ratio(scale: float) -> float:
        """Median over windows of the inverse ratio of looks, which is nearly linear in the variance of noise."""
        restored = np.concatenate([piece.inverse_looks(scale) for piece in decoded])
        return float(np.median(restored / original))

    scale, found = 1.0, inverse_ratio(1.0)
    if 1 / AIM[1] <= found <= 1 / AIM[0]:
        return scale
    plain = inverse_ratio(0.0)
    wanted = float(np.clip(found, 1 / AIM[1], max(1 / AIM[0], plain + LEAST_STEP)))
    if found == wanted:
        return scale
    for correction in range(CORRECTIONS):
        if correction:
            found = inverse_ratio(scale)
        slope = max((found - plain) / scale, 1e-6)
        scale = float(np.clip((wanted - plain) / slope, SMALLEST, LARGEST))
    return float(f"{scale:.3g}")


def _calm_pieces(
    planes: Sequence[NDArray], keys: Sequence[int], settings: Settings, coder: LappedCoder
) -> list[_Piece]:
    """Choose the parts with the most calm windows, as many as may be decoded."""
    parts = [(part, key) for plane, key in zip(planes, keys, strict=True) for part in _parts(plane, coder)]
    step = max(1, sum(part.size for part, _ in parts) // LARGEST_PIXELS)
    parts = parts[::step]
    found = [_window_variations(values, settings, coder) for values, _ in parts]
    variations = np.sort(np.concatenate([np.empty(0), *(variation for _, variation in found)]))
    if not len(variations):
        return []
    limit = variations[: homogeneous_count(len(variations))][-1]
    calm = [corners[variation <= limit] for corners, variation in found]
    pieces: list[_Piece] = []
    latents = 0
    for number in sorted(range(len(parts)), key=lambda number: -len(calm[number])):
        values, key = parts[number]
        latents += _decoded_latents(values.shape, coder)
        if not len(calm[number]) or (pieces and latents > LARGEST_LATENTS):
            break
        classes = classify_backscatter(values[None], settings)
        signal = signal_from_backscatter(values[None], classes, settings, coder)[0]
        pieces.append(_Piece(signal, calm[number], key))
    return pieces


def _window_variations(values: NDArray, settings: Settings, coder: LappedCoder) -> tuple[Corners, NDArray[np.float64]]:
    """Windows of a part, and the coefficients of variation of their power."""
    classes = classify_backscatter(values, settings)
    signal = to_signal(values, classes, settings.scale, coder.card.offset_db)
    return window_variations(_power(signal), classes == VALID)


def _parts(plane: NDArray, coder: LappedCoder) -> list[NDArray]:
    """Cut a plane that is too large to be decoded into parts."""
    if _decoded_latents(plane.shape, coder) <= LARGEST_PLANE_LATENTS:
        return [plane]
    rows, columns = (equal_spans(size, PART_PIXELS) for size in plane.shape)
    return [plane[slice(*row), slice(*column)] for row, column in itertools.product(rows, columns)]


def _decoded_latents(shape: tuple[int, ...], coder: LappedCoder) -> int:
    """Latents of an area, and those around it that decoding reads."""
    height, width = (latent_count(size) + 2 * coder.latent_reach for size in shape)
    return height * width


class _DecodedPiece:
    """Latents of a piece as a reader gets them, decoded once and synthesized with several scales of noise."""

    def __init__(self, piece: _Piece, coder: LappedCoder, step_db: float, homogeneous_db2: Sequence[float]) -> None:
        symbols = encode_planes(piece.signal[None], coder, step_db)
        reach = coder.latent_reach
        self.rows, self.columns = (reflect_indices(-reach, size + reach, size) for size in symbols.shape[2:])
        self.points = coder.points(lapped.gather_mirrored(symbols, self.rows, self.columns), step_db)
        self.latents = coder.reconstruct_with_texture(self.points, step_db)
        self.piece, self.coder, self.step_db = piece, coder, step_db
        self.speckle = Speckle(
            keys=np.array([piece.key], np.uint64),
            homogeneous_db2=np.array(homogeneous_db2),
            scales_step_db=step_db,
        )

    def inverse_looks(self, scale: float) -> NDArray[np.float64]:
        """Inverse numbers of looks of the calm windows, with noise of this scale; 0 for none."""
        if scale == 0:
            signal = lapped.synthesize(self.latents, self.coder.basis)
        else:
            places: tuple[Places, Places] = (self.rows, self.columns)
            speckle = replace(self.speckle, scales=np.array([scale], np.float32))
            signal = synthesize_latents_with_speckle(
                self.points, self.latents, self.coder, self.step_db, speckle, *places
            )
        return _inverse_looks(signal[0], self.piece.corners)


def _inverse_looks(signal: NDArray, corners: Corners) -> NDArray[np.float64]:
    """Variance over squared mean of the power in windows of a signal in dB."""
    windows = [
        _power(signal[row : row + WINDOW_PIXELS, column : column + WINDOW_PIXELS]) for row, column in corners.tolist()
    ]
    return np.array([window.var() / window.mean() ** 2 for window in windows])


def _power(signal: NDArray) -> NDArray[np.float64]:
    """Power of a signal in dB; its unit does not matter to looks."""
    return np.asarray(10.0 ** (np.asarray(signal, np.float64) / 10))
