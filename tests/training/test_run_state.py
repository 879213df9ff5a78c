"""The state of a run: what the optimizer treats differently, and a round trip through a snapshot."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from xsarcomp.training.interfaces import Trainable
from xsarcomp.training.run_state import average_weights, snapshot, start_run
from xsarcomp.training.schedule import LoopConfig


class Two(Trainable):
    """A matrix and a vector, no more."""

    def __init__(self):
        super().__init__()
        self.matrix, self.gain = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def start(model, state=None):
    plan = LoopConfig(steps=5, learning_rate=0.1, weight_decay=0.5)
    return start_run(model, itertools.repeat(np.zeros(1)), plan, state)


def step(run):
    run.optimizer.zero_grad()
    (0.0 * sum(value.sum() for value in run.parameters().values())).backward()
    run.optimizer.step()


def test_weight_decay_shrinks_matrices_and_spares_vectors():
    model = Two()
    run = start(model)
    step(run)
    torch.testing.assert_close(model.matrix, torch.full((2, 2), 1 - 0.1 * 0.5))
    assert torch.equal(model.gain, torch.ones(2))


def test_a_snapshot_names_the_moments_after_their_parameters_and_comes_back():
    run = start(Two())
    step(run)
    run.step, run.best_loss, run.best_step = 3, 0.25, 2
    state = snapshot(run)
    assert state["optimizer"].keys() == {"matrix", "gain"}
    again = snapshot(start(Two(), state))
    assert (again["step"], again["best"]) == (3, {"value": 0.25, "step": 2})
    for name, moments in state["optimizer"].items():
        for key, moment in moments.items():
            assert torch.equal(again["optimizer"][name][key], moment)


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_average_moves_by_one_minus_the_decay_and_copies_counters(decay):
    model = Two()
    run = start(model)
    with torch.no_grad():
        model.matrix += 2
        model.count += 7
    average_weights(run, decay, index=100)
    torch.testing.assert_close(run.averaged.matrix, torch.full((2, 2), 1 + 2 * (1 - decay)))
    assert run.averaged.count == 7
    assert not run.averaged.matrix.requires_grad
