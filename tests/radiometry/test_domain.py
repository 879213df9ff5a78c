"""Usual ranges of speckle statistics: deviations from them, and their JSON entry."""

import copy

import pytest

from xsarcomp.errors import ModelIntegrityError
from xsarcomp.radiometry.domain import FORMAT, Deviation, Domain
from xsarcomp.radiometry.speckle_statistics import (
    COMMON_LOOKS,
    CORRELATION_X,
    CORRELATION_Y,
    DISTINCT,
    LEVEL,
    LOOKS,
    STATISTICS,
)

DOMAIN = Domain(
    ranges={
        LOOKS: (4.0, 12.0),
        COMMON_LOOKS: (4.0, 13.0),
        CORRELATION_Y: (0.4, 0.8),
        CORRELATION_X: (0.4, 0.85),
        DISTINCT: (0.75, 1.0),
    },
    levels_db={"vh": (-30.0, -10.0), "vv": (-25.0, -4.0)},
    blocks=40,
)
USUAL = {LOOKS: 7.0, COMMON_LOOKS: 8.0, CORRELATION_Y: 0.6, CORRELATION_X: 0.6, DISTINCT: 1.0, LEVEL: -14.0}


@pytest.mark.parametrize(
    ("statistic", "side"),
    [(name, side) for name in STATISTICS for side in (0, 1) if (name, side) != (DISTINCT, 1)],  # a share ends at 1
)
def test_each_statistic_outside_its_range_is_told_with_its_meaning(statistic, side):
    limits = DOMAIN.expected_range(statistic, "vv")
    value = limits[side] + (2 * side - 1) * 0.01
    (found,) = DOMAIN.deviations([("vv", USUAL | {statistic: value})])
    assert found == Deviation(statistic=statistic, value=value, expected=limits)
    assert found.label
    assert found.likely_cause


def test_usual_planes_and_planes_without_statistics_are_not_off():
    assert DOMAIN.deviations([("vv", USUAL), (None, USUAL), ("vh", {})]) == []
    assert DOMAIN.deviations([]) == []


def test_the_level_is_judged_by_polarization_where_it_is_known():
    assert [found.statistic for found in DOMAIN.deviations([("vh", USUAL | {LEVEL: -7.0})])] == [LEVEL]
    assert DOMAIN.deviations([("vv", USUAL | {LEVEL: -7.0})]) == []
    assert DOMAIN.deviations([(None, USUAL | {LEVEL: -7.0})]) == []  # any of them
    assert DOMAIN.deviations([("hh", USUAL | {LEVEL: -28.0})]) == []


def test_a_few_odd_planes_of_a_long_stack_are_no_other_product():
    odd = ("vv", USUAL | {LOOKS: 20.0})
    assert DOMAIN.deviations([odd] + [("vv", USUAL)] * 4) == []
    assert DOMAIN.deviations([odd] + [("vv", USUAL)] * 3)[0].value == 20.0


def test_what_follows_from_looks_or_correlation_is_not_told_beside_them():
    assert [found.statistic for found in DOMAIN.deviations([("vv", USUAL | {LOOKS: 20.0, COMMON_LOOKS: 22.0})])] == [
        LOOKS
    ]


def test_the_record_comes_back():
    assert Domain.from_json(DOMAIN.to_json()) == DOMAIN


def test_a_newer_version_of_the_statistics_gives_no_domain():
    assert Domain.from_json({"format": FORMAT + 1, "anything": None}) is None


def changed(path, value):
    """JSON entry of the domain with one value replaced."""
    entry = copy.deepcopy(DOMAIN.to_json())
    *parents, last = path
    inner = entry
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "domain",
        {},
        {"format": FORMAT},
        changed(["format"], 0),
        changed(["format"], True),
        changed(["format"], "1"),
        changed(["more"], 1),
        changed(["blocks"], 4.0),
        changed(["looks"], [5, 4]),
        changed(["looks"], [5]),
        changed(["looks"], 5),
        changed(["looks"], ["5", "6"]),
        changed(["looks"], [True, 6]),
        changed(["looks"], [5, float("nan")]),
        changed(["correlation_x"], [float("-inf"), 1]),
        changed(["level_db"], {}),
        changed(["level_db"], [1, 2]),
        changed(["level_db", "vv"], [1, None]),
    ],
    ids=lambda entry: str(entry)[:60],
)
def test_an_entry_that_breaks_a_rule_is_refused(entry):
    with pytest.raises(ModelIntegrityError, match="Install the model again"):
        Domain.from_json(entry)
