"""Fit the tables of the entropy coder to the training split: context weights, thresholds, frequencies."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from xsarcomp.codec.choice import QUANTIZER_PASSES, initial_points, optimized_points, points_of_cells
from xsarcomp.codec.contexts import Magnitudes, traverse
from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    FREQUENCY_TOTAL,
    LOWEST_TABLES,
    QUANTIZERS,
    TOKEN_BITS,
    TOKENS,
    EntropyTables,
    tokens_of,
)
from xsarcomp.codec.quantization import SHIFT_CLASSES, CellPaths, find_cells, spacings_db
from xsarcomp.codec.trellis import CELL_TRELLIS
from xsarcomp.models.refiner.sign_tables import empty_signs, fit_signs

ANCHOR_STEPS_DB = (0.25, 0.25 * 2**0.5, 0.5, *(0.5 * 2 ** (i / 4) for i in range(2, 21)), 16 * 2**0.5)
"""Quantization steps in dB with tables of their own; the rate of 10 m GRD runs from 0.06 to 4 bits per pixel. Between the ends,
where most data is stored, they are a factor of 2^(1/4) apart: with 2^(1/2) the steps in the middle cost 1 to 2.5 % more."""
BINS = 20
"""Bins of the contexts of each channel but the lowest."""
LOWEST_BINS = 12
"""Bins of each table of the lowest channel."""
TERMS = 12
"""Most features that a context sums up."""
REGRESSION_SAMPLES = 20_000
"""Most symbols that the weights of a context are fitted to."""
TRELLIS_BITS = 0.25
"""Bits for each symbol below which a channel stays out of the trellis: symbols that are nearly all zero leave a path nothing to
choose from; measured on validation scenes."""
NEVER = np.iinfo(np.int32).max
"""A threshold that no context reaches."""


class AnchorFit(NamedTuple):
    """Everything that is fitted to the latents of the training split at one quantization step."""

    arrays: dict[str, NDArray]
    """Fields of :class:`~xsarcomp.codec.entropy_tables.EntropyTables` without their anchor axis."""
    shifts: NDArray[np.float32]
    """Distances of the reconstruction points, shape (latent=64, SHIFT_CLASSES); see :func:`fit_shifts`."""
    points: list[NDArray[np.int32]]
    """Points of each scene that the last tables were fitted to, shape (plane, latent=64, y_latent, x_latent)."""


class _FittedRounds(NamedTuple):
    """Tables without those of signs, fitted for given channels in the trellis."""

    arrays: dict[str, NDArray]
    points: list[NDArray[np.int32]]
    shifts: NDArray[np.float32]
    bits: NDArray[np.float64]
    """Bits for each symbol, shape (latent=64,)."""


def candidate_terms(channel: int) -> list[tuple[int, int]]:
    """List the features that the context of a channel may read: the near frequencies, and the lowest.

    Parameters
    ----------
    channel : int
        1 to 63.

    Returns
    -------
    list of (int, int)
        Earlier channel, and kind of feature.
    """
    position = CHANNEL_ORDER.index(channel)
    terms = [(0, 0)]
    for source in CHANNEL_ORDER[1:position]:
        apart = max(abs(source // 8 - channel // 8), abs(source % 8 - channel % 8))
        if apart <= 2:
            terms += [(source, 0), (source, 1)]
        if apart <= 1:
            terms.append((source, 2))
    return terms


def _frequencies(counts: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Convert counts of shape (..., token) to integer frequencies of at least 1 that sum to 65536."""
    # magnitudes that did not occur get a tail that falls by half from token to token
    tail = 0.02 * 0.5 ** np.arange(TOKENS)
    share = counts + tail
    share /= share.sum(-1, keepdims=True)
    frequencies = np.maximum(np.floor(share * (FREQUENCY_TOTAL - TOKENS)), 0).astype(np.int64) + 1
    largest = frequencies.argmax(-1)[..., None]
    missing = FREQUENCY_TOTAL - frequencies.sum(-1, keepdims=True)
    np.put_along_axis(frequencies, largest, np.take_along_axis(frequencies, largest, -1) + missing, -1)
    return frequencies.astype(np.uint16)


def _token_counts(bins: NDArray[np.intp], magnitudes: NDArray[np.int32], bin_count: int) -> NDArray[np.float64]:
    """Count the tokens of magnitudes in each bin, shape (bin, token)."""
    tokens = tokens_of(magnitudes).astype(np.intp)
    return np.bincount(bins * TOKENS + tokens, minlength=bin_count * TOKENS).reshape(bin_count, TOKENS).astype(float)


def _context_weights(
    features: NDArray[np.int32], magnitudes: NDArray[np.int32], generator: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.int16]]:
    """Choose at most ``TERMS`` features, and non-negative integer weights that predict the magnitude from them."""
    chosen = generator.choice(len(magnitudes), min(REGRESSION_SAMPLES, len(magnitudes)), replace=False)
    design = np.concatenate([features[chosen], np.ones((len(chosen), 1))], axis=1)
    target = np.minimum(magnitudes[chosen], 255).astype(float)
    # the spread of a magnitude grows with its mean: weigh the residuals accordingly
    confidence = 1 / np.sqrt(0.05 + design @ nnls(design, target)[0])
    weights = nnls(design * confidence[:, None], target * confidence)[0][:-1]
    keep = np.argsort(weights * design[:, :-1].mean(0))[::-1][:TERMS]
    keep = np.sort(keep[weights[keep] > 0])
    columns = np.append(keep, design.shape[1] - 1)
    weights = nnls(design[:, columns] * confidence[:, None], target * confidence)[0][:-1]
    scale = 4096 / weights.max() if weights.size and weights.max() > 0 else 0
    return keep, np.rint(weights * scale).astype(np.int16)


def _thresholds(totals: NDArray[np.integer], bin_count: int) -> NDArray[np.int32]:
    """Split totals into bins that are finer where the totals are large and rare; shape (bin - 1,)."""
    wanted = np.quantile(totals, 1 - np.geomspace(1, 0.002, bin_count))[1:]
    distinct = np.unique(np.ceil(wanted).astype(np.int64))
    distinct = distinct[distinct > totals.min()]
    return np.concatenate([distinct, np.full(bin_count - 1 - len(distinct), NEVER)]).astype(np.int32)


def _empty_anchor() -> dict[str, NDArray]:
    """Tables of one anchor without any context."""
    uniform = _frequencies(np.ones(TOKENS))
    return {
        "trellised": np.zeros(CHANNELS, bool),
        "term_channels": np.full((CHANNELS, TERMS), -1, np.int16),
        "term_kinds": np.zeros((CHANNELS, TERMS), np.uint8),
        "term_weights": np.zeros((CHANNELS, TERMS), np.int16),
        "thresholds": np.full((CHANNELS, BINS - 1), NEVER, np.int32),
        "frequencies": np.tile(uniform, (CHANNELS, QUANTIZERS * BINS, 1)),
        "lowest_thresholds": np.full((LOWEST_TABLES, LOWEST_BINS - 1), NEVER, np.int32),
        "lowest_frequencies": np.tile(uniform, (LOWEST_TABLES, LOWEST_BINS, 1)),
        **empty_signs(),
    }


def _fit_lowest(arrays: dict[str, NDArray], symbols: Sequence[NDArray[np.int32]]) -> None:
    """Fill thresholds and tables of the lowest channel: one sweep collects values and spreads, then they are counted."""
    stacked: dict[str, Any] = {name: array[None] for name, array in arrays.items()}
    single = EntropyTables(**stacked)
    values_and_bins: dict[int, list[tuple[NDArray[np.int32], NDArray[np.uint8]]]] = {}
    # so many thresholds that the number of a bin tells the spread, in the sweep that collects them
    spreads = np.unique(np.rint(np.geomspace(1, 4000, 200))).astype(np.int32)[:250]
    probe = dataclasses.replace(
        single,
        lowest_thresholds=np.tile(spreads, (1, LOWEST_TABLES, 1)),
        lowest_frequencies=np.tile(_frequencies(np.ones(TOKENS)), (1, LOWEST_TABLES, len(spreads) + 1, 1)),
    )

    def transfer(values: NDArray[np.int32] | None, bins: NDArray[np.uint8], key: tuple[int, ...]) -> NDArray[np.int32]:
        assert values is not None  # only a decoder has none
        values_and_bins.setdefault(key[2], []).append((values.reshape(-1), bins.reshape(-1)))
        return values

    for plane in symbols:
        traverse(plane, plane.shape, probe, 0, transfer, coded_channels=1)
    for table, parts in values_and_bins.items():
        magnitudes = np.abs(np.concatenate([values for values, _ in parts]))
        spread = np.append(0, spreads)[np.concatenate([bins for _, bins in parts])]
        thresholds = _thresholds(spread, LOWEST_BINS)
        bins = np.searchsorted(thresholds, spread, side="right")
        arrays["lowest_thresholds"][table] = thresholds
        counts = _token_counts(bins, magnitudes, LOWEST_BINS)
        arrays["lowest_frequencies"][table] = _frequencies(counts + 0.2 * counts.sum(0) / max(counts.sum(), 1))


def fit_shifts(
    latents: Sequence[NDArray[np.float64]], points: Sequence[NDArray[np.int32]], spacings_db: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Fit the reconstruction points: the mean distance of latents from their points, towards zero.

    Parameters
    ----------
    latents : sequence of ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        One entry for each scene.
    points : sequence of ndarray of int32, same shapes
    spacings_db : ndarray of float64, shape (latent=64,), dB
        Distance of neighboring points in each channel.

    Returns
    -------
    ndarray of float32, shape (latent=64, SHIFT_CLASSES)
        In spacings; by magnitude of the point, 1 and more.
    """
    total, count = np.zeros((CHANNELS, SHIFT_CLASSES)), np.zeros((CHANNELS, SHIFT_CLASSES))
    for plane, point in zip(latents, points, strict=True):
        magnitude = np.abs(point)
        gap = magnitude - np.abs(plane) / spacings_db[:, None, None]
        for index in range(SHIFT_CLASSES):
            chosen = magnitude == index + 1 if index + 1 < SHIFT_CLASSES else magnitude > index
            total[:, index] += (gap * chosen).sum((0, 2, 3))
            count[:, index] += chosen.sum((0, 2, 3))
    # twenty more symbols without a distance: so the shifts of rare magnitudes do not follow chance
    shifts = (total / (count + 20)).astype(np.float32)
    shifts[0] = 0  # the lowest channel is rounded to the nearest integer
    return shifts


def fit_anchor(
    latents: Sequence[NDArray[np.float64]], step_db: float, lagrangian: float, *, rounds: int = 2, seed: int = 0
) -> AnchorFit:
    """Fit the tables and reconstruction points of one quantization step.

    Parameters
    ----------
    latents : sequence of ndarray of float64, shape (plane, latent=64, y_latent, x_latent), dB
        One entry for each scene; scenes may differ in size.
    step_db : float
        Quantization step in dB.
    lagrangian : float
        Squared steps that one bit is worth to the quantizer.
    rounds : int
        Number of times that symbols are chosen again under the fitted tables, and the tables fitted again. With 0 there are
        no paths yet, and no trellis.
    seed : int
        Seed of the samples that the regression draws.

    Returns
    -------
    AnchorFit
    """
    fitted = _fit_rounds(latents, step_db, lagrangian, np.zeros(CHANNELS, bool), rounds, seed)
    trellised = fitted.bits >= TRELLIS_BITS
    trellised[0] = False
    if rounds and trellised.any():
        fitted = _fit_rounds(latents, step_db, lagrangian, trellised, rounds, seed)
    # the choice of symbols does not depend on signs, so their tables are fitted once, to the last symbols
    symbols = [_paths(scene, fitted.arrays["trellised"]).symbols for scene in fitted.points]
    return AnchorFit(fitted.arrays | fit_signs(symbols), fitted.shifts, fitted.points)


def _paths(points: NDArray[np.int32], trellised: NDArray[np.bool_]) -> CellPaths:
    """Paths of points that an encoder chose."""
    paths = find_cells(points, trellised, CELL_TRELLIS)
    assert paths is not None
    return paths


def _fit_rounds(
    latents: Sequence[NDArray[np.float64]],
    step_db: float,
    lagrangian: float,
    trellised: NDArray[np.bool_],
    rounds: int,
    seed: int,
) -> _FittedRounds:
    """Fit tables to symbols, and choose symbols under the tables, in turns, with given channels in the trellis."""
    generator = np.random.default_rng(seed)
    spacings = spacings_db(step_db, trellised, CELL_TRELLIS)
    points = [initial_points(plane, trellised, step_db, CELL_TRELLIS) for plane in latents]
    for turn in range(rounds + 1):
        arrays, bits = _fit_once(points, trellised, generator, are_paths=turn > 0)
        shifts = fit_shifts(latents, points, spacings)
        if turn < rounds:
            tables = EntropyTables(**{name: array[None] for name, array in arrays.items()}, trellis=CELL_TRELLIS)
            choose = functools.partial(
                optimized_points,
                tables=tables,
                anchor=0,
                shifts=shifts,
                step_db=step_db,
                lagrangian=lagrangian,
                passes=QUANTIZER_PASSES if turn else 1,
            )
            points = [points_of_cells(plane, CELL_TRELLIS.cell, choose) for plane in latents]
    return _FittedRounds(arrays, points, shifts, bits)


def _fit_once(
    points: Sequence[NDArray[np.int32]],
    trellised: NDArray[np.bool_],
    generator: np.random.Generator,
    *,
    are_paths: bool,
) -> tuple[dict[str, NDArray], NDArray[np.float64]]:
    """Fit the tables of all but the signs, and compute the bits that a symbol of each channel costs with them.

    Points that are no paths yet count for the quantizer that has them, zero for both.
    """
    arrays, bits = _empty_anchor(), np.zeros(CHANNELS)
    arrays["trellised"] = trellised
    _fit_lowest(arrays, points)
    known = [Magnitudes() for _ in points]
    quantizers_of_scenes = [_paths(scene, trellised).quantizers for scene in points] if are_paths else []
    for channel in CHANNEL_ORDER:
        if channel:
            magnitudes = np.concatenate([np.abs(scene[:, channel]).reshape(-1) for scene in points])
            if not trellised[channel]:
                quantizers = [np.ones(magnitudes.size, bool)]
            elif are_paths:
                quantizer = np.concatenate([scene[:, channel].reshape(-1) for scene in quantizers_of_scenes])
                quantizers = [quantizer == 0, quantizer == 1]
            else:
                quantizers = [magnitudes % 2 == 0, (magnitudes % 2 == 1) | (magnitudes == 0)]
            bits[channel] = _fit_channel(arrays, channel, known, magnitudes, quantizers, generator)
        for scene, magnitudes_of_scene in zip(points, known, strict=True):
            magnitudes_of_scene.add(channel, scene[:, channel])
    return arrays, bits


def _fit_channel(
    arrays: dict[str, NDArray],
    channel: int,
    known: Sequence[Magnitudes],
    magnitudes: NDArray[np.int32],
    quantizers: Sequence[NDArray[np.bool_]],
    generator: np.random.Generator,
) -> float:
    """Fill the tables of one channel, and return its bits for each symbol.

    ``magnitudes`` are those of its points; ``quantizers`` has one mask of them for each quantizer.
    """
    terms = candidate_terms(channel)
    features = np.concatenate([np.stack([scene.feature(*term).reshape(-1) for term in terms], 1) for scene in known])
    keep, weights = _context_weights(features, magnitudes, generator)
    arrays["term_channels"][channel, : len(keep)] = [terms[i][0] for i in keep]
    arrays["term_kinds"][channel, : len(keep)] = [terms[i][1] for i in keep]
    arrays["term_weights"][channel, : len(keep)] = weights
    totals = features[:, keep].astype(np.int64) @ weights.astype(np.int64)
    arrays["thresholds"][channel] = _thresholds(totals, BINS)
    bins = np.searchsorted(arrays["thresholds"][channel], totals, side="right")
    symbols = (magnitudes + 1) >> 1 if arrays["trellised"][channel] else magnitudes
    bits = 0.0
    for number, is_member in enumerate(quantizers):
        counts = _token_counts(bins[is_member], symbols[is_member], BINS)
        # an empty or rare bin follows the overall distribution of the channel
        frequencies = _frequencies(counts + 0.2 * counts.sum(0) / max(counts.sum(), 1))
        arrays["frequencies"][channel, number * BINS : (number + 1) * BINS] = frequencies
        lengths = 16 - np.log2(frequencies) + TOKEN_BITS + (np.arange(TOKENS) > 0)
        bits += float((counts * lengths).sum())
    return bits / magnitudes.size


def fit_tables(
    latents: Sequence[NDArray[np.float64]], lagrangian: float, steps_db: Sequence[float] = ANCHOR_STEPS_DB
) -> Iterator[AnchorFit]:
    """Fit the tables of all anchors, one after the other.

    Parameters
    ----------
    latents, lagrangian
        As for :func:`fit_anchor`.
    steps_db : sequence of float
        Quantization steps in dB.

    Yields
    ------
    AnchorFit
        In the order of the steps.
    """
    for step_db in steps_db:
        yield fit_anchor(latents, step_db, lagrangian)
