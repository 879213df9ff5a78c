"""The learning rate at the points where it is known, and the configurations that cannot be."""

import itertools

import numpy as np
import pytest

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.schedule import LoopConfig, learning_rate_at


def config(**changes):
    return LoopConfig(**{"steps": 40, "learning_rate": 0.05, **changes})


def test_learning_rate_warms_up_linearly_then_falls_as_a_cosine_to_one_percent():
    plan = LoopConfig(steps=111, learning_rate=2.0, warmup_steps=10)
    rates = [learning_rate_at(index, plan) for index in range(111)]
    assert rates[:10] == pytest.approx(np.linspace(0.2, 2.0, 10))
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx((2.0 + 0.02) / 2)
    assert rates[110] == pytest.approx(0.02)
    assert all(left > right for left, right in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (5, 5), (2, 1)])
def test_very_short_schedules_stay_between_zero_and_the_peak(steps, warmup):
    plan = LoopConfig(steps=steps, learning_rate=1.0, warmup_steps=warmup)
    assert all(0 < learning_rate_at(index, plan) <= 1 for index in range(steps))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"warmup_steps": 41},
        {"gradient_clip": 0.0},
        {"threads": 0},
        {"ema_decay": 1.0},
        {"validate_every": -1},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is .*expected"):
        config(**wrong)


def test_all_problems_of_a_configuration_are_named_at_once():
    with pytest.raises(ConfigurationError, match=r"steps.*threads"):
        config(steps=0, threads=0)
