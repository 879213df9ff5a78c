"""The result of a comparison: a dictionary like any other, that leads with goals and shows itself."""

import copy
import json
import pickle

import numpy as np
import pytest
import xarray as xr

from tests.support.markup import checked_markup
from xsarcomp.evaluation.compare import compare
from xsarcomp.evaluation.comparison import GOALS, LEADING, Comparison, verdict
from xsarcomp.evaluation.glossary import METRICS
from xsarcomp.scenes.simulation import simulated_dataset


@pytest.fixture(scope="module")
def comparison():
    scene = simulated_dataset((64, 72), 1)
    generator = np.random.default_rng(0)
    return compare(
        scene, scene.map(lambda plane: plane * 10 ** generator.normal(0, 0.08, plane.shape), keep_attrs=True)
    )


def test_metrics_with_goals_come_first_and_none_is_lost(comparison):
    assert tuple(comparison)[: len(GOALS)] == GOALS
    assert {"bias_db", "enl_ratio", "edge_preservation"} <= {*GOALS}
    assert tuple(comparison)[: len(LEADING)] == LEADING
    assert comparison.keys() == {*METRICS, "scale"}


def test_a_comparison_stays_a_dictionary(comparison):
    plain = dict(comparison)
    assert isinstance(comparison, dict)
    assert comparison == plain
    assert json.dumps(comparison) == json.dumps(plain)
    for other in (copy.copy(comparison), copy.deepcopy(comparison), pickle.loads(pickle.dumps(comparison))):
        assert json.dumps(other) == json.dumps(plain)
        assert repr(other) == repr(comparison)
    assert type(comparison | {"rmse_db": 1}) is dict
    assert {**comparison}["scale"] == "power"


def test_the_text_has_value_unit_goal_and_whether_it_is_met(comparison):
    first, *lines = repr(comparison).splitlines()
    answers = [METRICS[key].is_met(comparison[key]) for key in GOALS]
    assert f"{answers.count(True)} of {len(answers) - answers.count(None)} goals met" in first
    assert f"RMSE {comparison['rmse_db']:.4g} dB" in first
    assert [line.split()[0] for line in lines] == list(comparison)
    for line, key, is_met in zip(lines, GOALS, answers, strict=False):
        assert METRICS[key].goal in line
        assert line.endswith({True: "   met", False: "   not met"}[is_met])
    assert "undefined" in lines[list(comparison).index("change_fraction")]
    assert lines[list(comparison).index("valid_pixels")].split()[1] == f"{comparison['valid_pixels']:,}"


def test_the_markup_has_goals_open_and_the_others_folded(comparison):
    page = checked_markup(comparison._repr_html_())
    assert page.tags.count("details") == 1
    assert len(page.rows) == len(comparison) + 2
    met = {row[-1]: row[3] for row in page.rows}
    for key in GOALS:
        assert met[key] == ("✓ met" if METRICS[key].is_met(comparison[key]) else "✗ not met")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"rmse_db": "x", "scale": None},
        {"rmse_db": float("nan"), "bias_db": float("inf"), 1: {"a": [2]}},
        {"<script>alert(1)</script>": "<img src=x onerror=y>\x1b[31m", "scale": "\u202e</td>"},
    ],
)
def test_whatever_a_user_puts_in_is_shown_as_text(content):
    changed = Comparison(content)
    assert "\x1b" not in repr(changed)
    page = checked_markup(changed._repr_html_())
    assert not {"script", "img"} & {*page.tags}


def test_without_a_valid_pixel_nothing_is_praised():
    plane = xr.DataArray(np.full((30, 30), np.nan), dims=("y", "x"), name="vv")
    nothing = compare(plane, plane, scale="power")
    assert "nothing was measured" in repr(nothing).splitlines()[0]
    assert "goals met" not in repr(nothing)
    assert verdict(nothing).known == 0
