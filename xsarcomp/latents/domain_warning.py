"""Comparison of a sample of the input with the training data of a model, reported in one warning."""

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
"""Share of values outside the training range above which a warning mentions them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Result of comparing a variable with the training data."""

    name: str
    """Name of the variable."""
    outside_share: float
    """Share of the sample's valid values outside the range of the training data, 0 to 1."""
    deviations: tuple[Deviation, ...] = ()
    """Statistics outside their usual range."""


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
        Name of the variable, for the warning.
    samples : iterable of Sample
        Stacks of windows, shape (window, y, x).
    planes : iterable of int
        Position of the plane that each window was cut from.
    polarizations : iterable of str or None
        Polarization of each plane of the variable; None where unknown.
    card : ModelCard
        Gives the range of the training data in dB.
    domain : Domain or None
        Usual ranges of speckle statistics; without it only the range of values is compared.

    Returns
    -------
    Comparison
    """
    outside = valid = 0
    plane_windows: list[tuple[str | None, list[NDArray]]] = [(polarization, []) for polarization in polarizations]
    positions = iter(planes)
    for sample in samples:
        classes = classify(sample.backscatter, sample.settings.scale, sample.settings.nodata)
        decibel = decibel_from_backscatter(sample.backscatter, sample.settings.scale, classes=classes)
        is_valid = classes == VALID
        report = count_out_of_range(decibel, card.lowest_db, card.highest_db, is_valid)
        outside, valid = outside + report.outside_count, valid + report.valid_count
        if domain:
            for index in range(len(decibel)):
                plane_windows[next(positions)][1].append(cut_windows(decibel[index, None], is_valid[index, None]))
    share = outside / valid if valid else 0.0
    deviations: tuple[Deviation, ...] = ()
    if domain:
        statistics = plane_statistics(
            (polarization, np.concatenate(windows)) for polarization, windows in plane_windows if windows
        )
        deviations = tuple(domain.deviations(statistics))
    return Comparison(name=name, outside_share=share, deviations=deviations)


def warn_if_unlike(comparisons: Iterable[Comparison], card: ModelCard, *, scale: str) -> None:
    """Warn once of all variables that are unlike the training data of a model.

    Parameters
    ----------
    comparisons : iterable of Comparison
        One for each variable.
    card : ModelCard
    scale : str
        Scale as which the values were interpreted.
    """
    comparisons = list(comparisons)
    findings = [
        f"{comparison.outside_share:.1%} of the values of {comparison.name!r} lie outside the {card.lowest_db:.0f} to "
        f"{card.highest_db:.0f} dB of its training data"
        for comparison in comparisons
        if comparison.outside_share > REPORTED_SHARE
    ]
    # one clause for each statistic, with all variables in which it deviates
    values_by_statistic: dict[tuple[str, str, tuple[float, float]], list[str]] = {}
    for comparison in comparisons:
        for deviation in comparison.deviations:
            key = (deviation.label, deviation.likely_cause, deviation.expected)
            values_by_statistic.setdefault(key, []).append(f"{deviation.value:.3g} in {comparison.name!r}")
    findings += [
        f"the {statistic} is {' and '.join(values)}, expected {low:.3g} to {high:.3g} ({likely_cause}?)"
        for (statistic, likely_cause, (low, high)), values in values_by_statistic.items()
    ]
    if findings:
        warnings.warn(
            f"this does not look like the data that model {card.name!r} was trained on: {'; '.join(findings)}. Taken as scale "
            f"{scale}. It is coded, not clipped, but rate and error may be other than documented: check product, calibration "
            "and scale, and measure with compare()",
            DomainWarning,
            stacklevel=caller_stacklevel(),
        )
