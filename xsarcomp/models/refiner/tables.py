"""Freeze the entropy coder: context weights, thresholds and frequency tables from the training split."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from xsarcomp.codec.coder import QUANTIZER_PASSES, choose_points, initial_points
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
from xsarcomp.codec.quantization import SHIFT_CLASSES, QuantizerStates, spacings_db, symbols_from_points
from xsarcomp.models.refiner.sign_tables import empty_signs, fit_signs

# Quantization steps in dB that have their own tables; the rate of 10 m GRD runs from 0.06 to 4 bits per pixel. In between,
# where most is stored, they are a factor of 2^(1/4) apart: with 2^(1/2) the steps in the middle cost 1 to 2.5 % more.
ANCHOR_STEPS_DB = (0.25, 0.25 * 2**0.5, 0.5, *(0.5 * 2 ** (i / 4) for i in range(2, 21)), 16 * 2**0.5)
BINS = 20
LOWEST_BINS = 12
TERMS = 12
REGRESSION_SAMPLES = 20_000
TRELLIS_BITS = 0.5  # channels with fewer bits a symbol stay out of the trellis
TRELLIS_CHANNELS = 10  # with fewer of them a path has too little to choose from; both are measured on validation scenes
NEVER = np.iinfo(np.int32).max  # a threshold that no context reaches


def candidate_terms(channel: int) -> list[tuple[int, int]]:
    """Pairs (earlier channel, kind) that the context of a channel may read: the near frequencies, and the lowest."""
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
    """Integer frequencies of at least 1 that sum to 65536, from counts; shape (..., token)."""
    # unseen magnitudes get a tail that falls by half from token to token
    tail = 0.02 * 0.5 ** np.arange(TOKENS)
    share = counts + tail
    share /= share.sum(-1, keepdims=True)
    frequencies = np.maximum(np.floor(share * (FREQUENCY_TOTAL - TOKENS)), 0).astype(np.int64) + 1
    largest = frequencies.argmax(-1)[..., None]
    missing = FREQUENCY_TOTAL - frequencies.sum(-1, keepdims=True)
    np.put_along_axis(frequencies, largest, np.take_along_axis(frequencies, largest, -1) + missing, -1)
    return frequencies.astype(np.uint16)


def _token_counts(bins: NDArray[np.uint8], magnitudes: NDArray[np.int32], bin_count: int) -> NDArray[np.float64]:
    tokens = tokens_of(magnitudes).astype(np.intp)
    return np.bincount(bins * TOKENS + tokens, minlength=bin_count * TOKENS).reshape(bin_count, TOKENS).astype(float)


def _context_weights(features: NDArray, magnitudes: NDArray, generator: np.random.Generator):
    """Non-negative integer weights of at most ``TERMS`` features that predict the magnitude."""
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


def _thresholds(totals: NDArray, bin_count: int) -> NDArray[np.int32]:
    """Thresholds that split totals into bins, finer where the totals are large and rare."""
    wanted = np.quantile(totals, 1 - np.geomspace(1, 0.002, bin_count))[1:]
    distinct = np.unique(np.ceil(wanted).astype(np.int64))
    distinct = distinct[distinct > totals.min()]
    return np.concatenate([distinct, np.full(bin_count - 1 - len(distinct), NEVER)]).astype(np.int32)


def _empty_anchor() -> dict[str, NDArray]:
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
    """Thresholds and tables of the lowest channel, in two sweeps: first the spreads, then the counts."""
    single = EntropyTables(**{name: array[None] for name, array in arrays.items()})
    seen: dict[int, list[tuple[NDArray, NDArray]]] = {}
    # thresholds at 0, 1, 2, ... make the bin number reveal the spread itself during the first sweep
    spreads = np.unique(np.rint(np.geomspace(1, 4000, 200))).astype(np.int32)[:250]
    probe = EntropyTables(
        **{
            **{name: getattr(single, name) for name in EntropyTables.names()},
            "lowest_thresholds": np.tile(spreads, (1, LOWEST_TABLES, 1)),
            "lowest_frequencies": np.tile(_frequencies(np.ones(TOKENS)), (1, LOWEST_TABLES, len(spreads) + 1, 1)),
        }
    )

    def transfer(values, bins, key):
        seen.setdefault(key[2], []).append((values.reshape(-1), bins.reshape(-1)))
        return values

    for plane in symbols:
        traverse(plane, plane.shape, probe, 0, transfer, coded_channels=1)
    for table, parts in seen.items():
        magnitudes = np.abs(np.concatenate([values for values, _ in parts]))
        spread = np.append(0, spreads)[np.concatenate([bins for _, bins in parts])]
        thresholds = _thresholds(spread, LOWEST_BINS)
        bins = np.searchsorted(thresholds, spread, side="right")
        arrays["lowest_thresholds"][table] = thresholds
        counts = _token_counts(bins, magnitudes, LOWEST_BINS)
        arrays["lowest_frequencies"][table] = _frequencies(counts + 0.2 * counts.sum(0) / max(counts.sum(), 1))


def fit_shifts(
    latents: Sequence[NDArray], points: Sequence[NDArray[np.int32]], spacings_db: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Mean distance of the latents from their points towards zero, shape (latent=64, SHIFT_CLASSES), in spacings."""
    total, count = np.zeros((CHANNELS, SHIFT_CLASSES)), np.zeros((CHANNELS, SHIFT_CLASSES))
    for plane, point in zip(latents, points, strict=True):
        magnitude = np.abs(point)
        gap = magnitude - np.abs(plane) / spacings_db[:, None, None]
        for index in range(SHIFT_CLASSES):
            chosen = magnitude == index + 1 if index + 1 < SHIFT_CLASSES else magnitude > index
            total[:, index] += (gap * chosen).sum((0, 2, 3))
            count[:, index] += chosen.sum((0, 2, 3))
    # a few seen symbols pull their shift towards zero, so that rare ones do not follow chance
    shifts = (total / (count + 20)).astype(np.float32)
    shifts[0] = 0  # the lowest channel is rounded to the nearest integer
    return shifts


def fit_anchor(
    latents: Sequence[NDArray[np.float64]], step_db: float, lagrangian: float, *, rounds: int = 2, seed: int = 0
) -> tuple[dict[str, NDArray], NDArray[np.float32], list[NDArray[np.int32]]]:
    """Fit one set of tables.

    Parameters
    ----------
    latents : sequence of ndarray of float64, shape (plane, latent=64, y_latent, x_latent)
        One entry a scene; scenes may differ in size.
    step_db : float
        Quantization step in dB.
    lagrangian : float
        Squared steps that one bit is worth to the quantizer.
    rounds : int
        How often symbols are chosen again under the fitted tables, and the tables fitted again. Without any there are no
        paths yet, and no trellis.
    seed : int
        Of the samples that the regression draws.

    Returns
    -------
    arrays : dict of str to ndarray
        The fields of :class:`~xsarcomp.codec.entropy_tables.EntropyTables` without their anchor axis.
    shifts : ndarray of float32, shape (latent=64, SHIFT_CLASSES)
    symbols : list of ndarray of int32
        The symbols that the last tables were fitted to.
    """
    arrays, points, shifts, bits = _fit_rounds(latents, step_db, lagrangian, np.zeros(CHANNELS, bool), rounds, seed)
    trellised = bits >= TRELLIS_BITS
    trellised[0] = False
    if rounds and trellised.sum() >= TRELLIS_CHANNELS:
        arrays, points, shifts, _ = _fit_rounds(latents, step_db, lagrangian, trellised, rounds, seed)
    symbols = [symbols_from_points(scene, arrays["trellised"]) for scene in points]
    # the choice of symbols does not look at signs, so they are fitted once, to the last symbols
    return arrays | fit_signs(symbols), shifts, symbols


def _fit_rounds(latents, step_db, lagrangian, trellised, rounds, seed):
    """Tables, points, shifts, and bits a symbol of each channel, with given channels in the trellis."""
    generator = np.random.default_rng(seed)
    spacings = spacings_db(step_db, trellised)
    points = [initial_points(plane, trellised, step_db) for plane in latents]
    for turn in range(rounds + 1):
        arrays, bits = _fit_once(points, trellised, generator, are_paths=turn > 0)
        shifts = fit_shifts(latents, points, spacings)
        if turn < rounds:
            tables = EntropyTables(**{name: array[None] for name, array in arrays.items()})
            for _ in range(QUANTIZER_PASSES if turn else 1):
                points = [
                    choose_points(plane, scene, tables, 0, shifts, step_db, lagrangian)
                    for plane, scene in zip(latents, points, strict=True)
                ]
    return arrays, points, shifts, bits


def _fit_once(
    points: Sequence[NDArray[np.int32]],
    trellised: NDArray[np.bool_],
    generator: np.random.Generator,
    *,
    are_paths: bool,
) -> tuple[dict[str, NDArray], NDArray[np.float64]]:
    """Tables of all but the signs, and the bits that a symbol of each channel costs with them.

    Points that are no paths yet belong to the quantizer that holds them, zero to both.
    """
    arrays, bits = _empty_anchor(), np.zeros(CHANNELS)
    arrays["trellised"] = trellised
    _fit_lowest(arrays, points)
    known = [Magnitudes() for _ in points]
    states = [QuantizerStates((scene.shape[0], *scene.shape[2:])) for scene in points]
    symbols = [symbols_from_points(scene, trellised) for scene in points]
    for channel in CHANNEL_ORDER:
        if channel:
            magnitudes = np.concatenate([np.abs(scene[:, channel]).reshape(-1) for scene in points])
            if not trellised[channel]:
                quantizers = [np.ones(magnitudes.size, bool)]
            elif are_paths:
                quantizer = np.concatenate([scene.quantizers.reshape(-1) for scene in states])
                quantizers = [quantizer == 0, quantizer == 1]
            else:
                quantizers = [magnitudes % 2 == 0, (magnitudes % 2 == 1) | (magnitudes == 0)]
            bits[channel] = _fit_channel(arrays, channel, known, magnitudes, quantizers, generator)
        for scene, context, state, symbol in zip(points, known, states, symbols, strict=True):
            context.add(channel, scene[:, channel])
            if trellised[channel]:
                state.advance(symbol[:, channel])
    return arrays, bits


def _fit_channel(
    arrays: dict[str, NDArray],
    channel: int,
    known: Sequence[Magnitudes],
    magnitudes: NDArray[np.int32],
    quantizers: Sequence[NDArray[np.bool_]],
    generator: np.random.Generator,
) -> float:
    """Fill the tables of one channel from the magnitudes of its points, and which of them belong to each quantizer."""
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
    for number, belong in enumerate(quantizers):
        counts = _token_counts(bins[belong], symbols[belong], BINS)
        # an empty or rare bin leans on the channel's overall distribution
        frequencies = _frequencies(counts + 0.2 * counts.sum(0) / max(counts.sum(), 1))
        arrays["frequencies"][channel, number * BINS : (number + 1) * BINS] = frequencies
        lengths = 16 - np.log2(frequencies) + TOKEN_BITS + (np.arange(TOKENS) > 0)
        bits += float((counts * lengths).sum())
    return bits / magnitudes.size


def fit_tables(
    latents: Sequence[NDArray[np.float64]], lagrangian: float, steps_db: Sequence[float] = ANCHOR_STEPS_DB
) -> Iterator[tuple[dict[str, NDArray], NDArray[np.float32], list[NDArray[np.int32]]]]:
    """Fit the sets of all anchors, one after the other; see :func:`fit_anchor`."""
    for step_db in steps_db:
        yield fit_anchor(latents, step_db, lagrangian)
