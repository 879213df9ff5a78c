"""The meaning of metrics: complete, in the code and in the documentation."""

import math

import numpy as np
import pytest
import xarray as xr

from tests.support.paths import DOCS
from xsarcomp.evaluation.compare import compare
from xsarcomp.evaluation.glossary import METRICS, Metric

PAGE = DOCS / "evaluation.md"


def test_every_number_of_the_comparison_is_explained_and_no_other():
    plane = xr.DataArray(np.ones((8, 8)), dims=("y", "x"), name="vv")
    assert METRICS.keys() == compare(plane, plane, scale="power").keys() - {"scale"}


def test_the_documentation_lists_every_metric_with_its_goal():
    if not PAGE.exists():
        pytest.skip("docs/ is not installed with the package")
    text = PAGE.read_text(encoding="utf-8")
    for key, metric in METRICS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{key}` |"))
        assert not metric.goal or metric.goal in line


def metric(**goal):
    return Metric(title="", group="", definition="", ideal="1", unit="dB", **goal)


def test_goals_are_said_in_words():
    assert metric().goal == ""
    assert metric(lowest=0.92).goal == "at least 0.92 dB"
    assert metric(highest=0).goal == "at most 0 dB"
    assert metric(lowest=-0.02, highest=0.02).goal == "within ±0.02 dB"
    assert metric(lowest=0.95, highest=1.08).goal == "0.95 to 1.08 dB"


def test_goals_are_met_within_their_limits_and_unknown_without_a_value():
    looks = metric(lowest=0.95, highest=1.08)
    assert [looks.is_met(value) for value in (0.94, 0.95, 1.08, 1.09, math.nan)] == [False, True, True, False, None]
    assert metric().is_met(1.0) is None
    assert metric(lowest=0.9).is_met(math.inf) is True


@pytest.mark.parametrize("key", METRICS)
def test_a_copy_meets_every_goal(key):
    metric = METRICS[key]
    if metric.goal:
        assert metric.is_met(float(metric.ideal))
