"""What in a sample of the input is unlike the training data of a model, said in one warning."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.model_card import ModelCard
from xsarcomp.codec.rate_control import Sample
from xsarcomp.errors import DomainWarning, caller_stacklevel
from xsarcomp.radiometry.decibel import count_out_of_range, decibel_from_backscatter
from xsarcomp.radiometry.domain import Deviation, Domain
from xsarcomp.radiometry.pixel_classes import VALID, classify
from xsarcomp.radiometry.speckle_statistics import cut_windows, plane_statistics

REPORTED_SHARE = 0.001
"""Share of values outside the training range from which it is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a variable compares with the training data."""

    name: str
    """Of the variable."""
    outside_share: float
    """Share of the sample's valid values outside the range of the training data, 0 to 1."""
    deviations: tuple[Deviation, ...] = ()
    """Statistics that are off."""


def compare_with_training(
    name: str,
    samples: Iterable[Sample],
    planes: Iterable[int],
    polarizations: Iterable[str | None],
    card: ModelCard,
    domain: Domain | None,
) -> Comparison:
    """Compare a sample of a variable with the training data of a model.

    Parameters
    ----------
    name : str
        Of the variable, for the words.
    samples : iterable of Sample
        Stacks of pieces, shape (piece, y, x).
    planes : iterable of int
        Number of the plane that each piece is from.
    polarizations : iterable of str or None
        Of each plane of the variable, where it is known.
    card : ModelCard
    domain : Domain or None
        What is usual; without it only the range of values is compared.

    Returns
    -------
    Comparison
    """
    outside = valid = 0
    parts: list[tuple[str | None, list[NDArray]]] = [(one, []) for one in polarizations]
    numbers = iter(planes)
    for sample in samples:
        classes = classify(sample.backscatter, sample.settings.scale, sample.settings.nodata)
        decibel = decibel_from_backscatter(sample.backscatter, sample.settings.scale, classes=classes)
        is_valid = classes == VALID
        report = count_out_of_range(decibel, card.lowest_db, card.highest_db, is_valid)
        outside, valid = outside + report.outside_count, valid + report.valid_count
        if domain:
            for piece in range(len(decibel)):
                parts[next(numbers)][1].append(cut_windows(decibel[piece, None], is_valid[piece, None]))
    share = outside / valid if valid else 0.0
    deviations = ()
    if domain:
        statistics = plane_statistics((one, np.concatenate(windows)) for one, windows in parts if windows)
        deviations = tuple(domain.deviations(statistics))
    return Comparison(name=name, outside_share=share, deviations=deviations)


def report_unlike(comparisons: Iterable[Comparison], card: ModelCard, *, scale: str) -> None:
    """Warn once of all that is unlike the training data of a model.

    Parameters
    ----------
    comparisons : iterable of Comparison
        One for each variable.
    card : ModelCard
    scale : str
        Scale that the values were taken for.
    """
    comparisons = list(comparisons)
    words = [
        f"{one.outside_share:.1%} of the values of {one.name!r} lie outside the {card.lowest_db:.0f} to {card.highest_db:.0f} dB "
        f"of its training data"
        for one in comparisons
        if one.outside_share > REPORTED_SHARE
    ]
    # one clause for a statistic, whatever number of variables it is off in
    alike: dict[tuple, list[str]] = {}
    for one in comparisons:
        for off in one.deviations:
            alike.setdefault((off.label, off.likely_cause, off.expected), []).append(f"{off.value:.3g} in {one.name!r}")
    words += [
        f"the {what} is {' and '.join(values)}, expected {low:.3g} to {high:.3g} ({meaning}?)"
        for (what, meaning, (low, high)), values in alike.items()
    ]
    if words:
        warnings.warn(
            f"this does not look like the data that model {card.name!r} was trained on: {'; '.join(words)}. Taken as scale "
            f"{scale}. It is coded, not clipped, but rate and error may be other than documented: check product, calibration "
            "and scale, and measure with compare()",
            DomainWarning,
            stacklevel=caller_stacklevel(),
        )
