"""Fit the contexts of signs to the symbols of the training split: weights, thresholds, frequencies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    FREQUENCY_TOTAL,
    OWN_SIGN_KINDS,
    SIGN_BINS,
    SIGN_CLASSES,
    SIGN_PHASES,
    SIGN_TERMS,
)
from xsarcomp.codec.signs import SignedValues

FEWEST_SYMBOLS = 200
"""Symbols other than zero below which a channel gets no sign contexts."""
LARGEST_TARGET = 8
"""Largest magnitude in the regression; larger ones count as this."""
LARGEST_WEIGHT = 4096
PRIOR_COUNT = 2
"""Agreements and as many disagreements that each cell of a table counts before any symbol."""
NEVER = np.iinfo(np.int32).max
"""A threshold that no prediction reaches."""

KINDS = {(0, 0): (0, 1, 2), (0, 1): (3,), (1, 0): (4,), (1, 1): (5,)}
"""Kinds of features that mirror as a channel does, by the parity of (vertical, horizontal) of source and channel together."""
LOWEST_KINDS = KINDS | {(0, 0): (6, 7)}
"""The same where the source is the lowest channel."""

_ONE = np.ones(1, np.int16)


def candidate_sign_terms(channel: int, phase: int) -> list[tuple[int, int]]:
    """List the features that the sign context of a channel may read.

    Mirroring a scene changes the sign of channels of odd frequency. Only features that change with it are informative:
    sums along an axis for a channel of the same parity, differences for one of another parity.

    Parameters
    ----------
    channel : int
        1 to 63.
    phase : int
        0 or 1; in phase 1 the direct neighbors in the channel itself are known.

    Returns
    -------
    list of (int, int)
        Channel, and kind of feature.
    """
    vertical, horizontal = divmod(channel, 8)
    terms = []
    for source in CHANNEL_ORDER[: CHANNEL_ORDER.index(channel)]:
        rows, columns = source // 8 - vertical, source % 8 - horizontal
        if source == 0 or max(abs(rows), abs(columns)) <= 2:
            terms += [(source, kind) for kind in (KINDS if source else LOWEST_KINDS)[rows % 2, columns % 2]]
    return terms + [(channel, kind) for kind in OWN_SIGN_KINDS if phase]


def empty_signs() -> dict[str, NDArray]:
    """Create sign tables of one anchor that predict nothing: each sign costs one bit.

    Returns
    -------
    dict of str to ndarray
        The sign fields of :class:`~xsarcomp.codec.entropy_tables.EntropyTables` without their anchor axis.
    """
    return {
        "sign_term_channels": np.full((CHANNELS, SIGN_PHASES, SIGN_TERMS), -1, np.int16),
        "sign_term_kinds": np.zeros((CHANNELS, SIGN_PHASES, SIGN_TERMS), np.uint8),
        "sign_term_weights": np.zeros((CHANNELS, SIGN_PHASES, SIGN_TERMS), np.int16),
        "sign_thresholds": np.full((CHANNELS, SIGN_PHASES, SIGN_BINS - 1), NEVER, np.int32),
        "sign_frequencies": np.full((CHANNELS, SIGN_PHASES, SIGN_CLASSES, SIGN_BINS), FREQUENCY_TOTAL // 2, np.uint16),
    }


def sign_weights(features: NDArray[np.int32], values: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.int16]]:
    """Choose at most ``SIGN_TERMS`` features, and integer weights that predict signed values, by weighted least squares.

    Parameters
    ----------
    features : ndarray of int32, shape (value, feature)
    values : ndarray of int32, shape (value,)
        None of them zero.

    Returns
    -------
    chosen : ndarray of intp
        Indices of the features, ascending.
    weights : ndarray of int16
        The largest magnitude is ``LARGEST_WEIGHT``; none is zero.
    """
    # features and values are large where the scene is rough: without this weight a few edges would decide the fit
    confidence = 1 / (1 + np.abs(features).mean(1) + np.abs(values))
    target = np.sign(values) * np.minimum(np.abs(values), LARGEST_TARGET) * confidence
    design = features * confidence[:, None]
    gram, moment = design.T @ design, design.T @ target
    count = len(gram)
    ridge = 1e-3 * np.trace(gram) / count + 1e-6
    importance = np.abs(np.linalg.solve(gram + ridge * np.eye(count), moment)) * np.sqrt(np.diag(gram))
    chosen = np.sort(np.argsort(importance, kind="stable")[::-1][:SIGN_TERMS])
    solved = np.linalg.solve(gram[np.ix_(chosen, chosen)] + 1e-6 * np.eye(len(chosen)), moment[chosen])
    largest = np.abs(solved).max(initial=0)
    weights = np.rint(solved * (LARGEST_WEIGHT / largest if largest else 0)).astype(np.int16)
    return chosen[weights != 0], weights[weights != 0]


def sign_frequencies(
    predictions: NDArray[np.int32], values: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Fit thresholds on the magnitude of predictions, and the frequency of 65536 with which the predicted sign is right.

    Predictions of zero have a bin of their own with one half: they prefer no sign, so a mirrored scene costs the same.

    Parameters
    ----------
    predictions, values : ndarray of int32, shape (value,)
        No value is zero.

    Returns
    -------
    thresholds : ndarray of int32, shape (bin - 1 = 7,)
    frequencies : ndarray of uint16, shape (class=3, bin=8)
    """
    sizes = np.abs(predictions)
    thresholds = np.full(SIGN_BINS - 1, NEVER, np.int32)
    frequencies = np.full((SIGN_CLASSES, SIGN_BINS), FREQUENCY_TOTAL // 2, np.uint16)
    if not sizes.any():
        return thresholds, frequencies
    edges = np.ceil(np.quantile(sizes[sizes > 0], np.arange(1, SIGN_BINS - 1) / (SIGN_BINS - 1))).astype(np.int32)
    edges = np.unique(np.append(1, edges))
    thresholds[: len(edges)] = edges
    bins = np.searchsorted(thresholds, sizes, side="right")
    classes = np.minimum(np.abs(values), SIGN_CLASSES) - 1
    cells, agree = classes * SIGN_BINS + bins, (predictions < 0) == (values < 0)
    agreed, total = (
        np.bincount(each, minlength=SIGN_CLASSES * SIGN_BINS).reshape(SIGN_CLASSES, SIGN_BINS)
        for each in (cells[agree], cells)
    )
    share = (agreed + PRIOR_COUNT) / (total + 2 * PRIOR_COUNT)
    frequencies[:, 1:] = np.clip(np.rint(share * FREQUENCY_TOTAL), 1, FREQUENCY_TOTAL - 1)[:, 1:]
    return thresholds, frequencies


def fit_signs(symbols: Sequence[NDArray[np.int32]]) -> dict[str, NDArray]:
    """Fit the sign tables of one anchor.

    Parameters
    ----------
    symbols : sequence of ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        One entry for each scene; scenes may differ in size.

    Returns
    -------
    dict of str to ndarray
        The sign fields of :class:`~xsarcomp.codec.entropy_tables.EntropyTables` without their anchor axis.
    """
    arrays = empty_signs()
    scenes = [SignedValues(scene.shape) for scene in symbols]
    for known, scene in zip(scenes, symbols, strict=True):
        known.add_lowest(scene[:, 0])
    for channel in CHANNEL_ORDER[1:]:
        flat = [np.ascontiguousarray(scene[:, channel]).reshape(-1) for scene in symbols]
        counted = sum(np.count_nonzero(values) for values in flat) >= FEWEST_SYMBOLS
        for phase in range(SIGN_PHASES):
            signs = [known.phase(np.abs(values), phase) for known, values in zip(scenes, flat, strict=True)]
            if counted and any(len(index) for index, _ in signs):
                values = np.concatenate([each[index] for each, (index, _) in zip(flat, signs, strict=True)])
                _fit_phase(
                    arrays, channel, phase, values, [(known, at) for known, (_, at) in zip(scenes, signs, strict=True)]
                )
            for known, values, (index, _) in zip(scenes, flat, signs, strict=True):
                known.add(channel, index, values)
    return arrays


def _fit_phase(
    arrays: dict[str, NDArray],
    channel: int,
    phase: int,
    values: NDArray[np.int32],
    scenes: Sequence[tuple[SignedValues, NDArray[np.intp]]],
) -> None:
    """Fill the tables of one channel and phase from its values that are not zero and their places in each scene."""
    terms = candidate_sign_terms(channel, phase)
    single_terms = [(np.array([source], np.int16), np.array([kind], np.uint8), _ONE) for source, kind in terms]
    features = np.concatenate(
        [np.stack([known.predict(places, *term) for term in single_terms], axis=1) for known, places in scenes]
    )
    chosen, weights = sign_weights(features, values)
    arrays["sign_term_channels"][channel, phase, : len(chosen)] = [terms[i][0] for i in chosen]
    arrays["sign_term_kinds"][channel, phase, : len(chosen)] = [terms[i][1] for i in chosen]
    arrays["sign_term_weights"][channel, phase, : len(chosen)] = weights
    predictions = features[:, chosen] @ weights.astype(np.int32)
    thresholds, frequencies = sign_frequencies(predictions, values)
    arrays["sign_thresholds"][channel, phase] = thresholds
    arrays["sign_frequencies"][channel, phase] = frequencies
