"""The training loop on models small enough that the answer is known."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from xsarcomp.errors import ConfigurationError, ModelError
from xsarcomp.training.augmentation import AugmentationConfig
from xsarcomp.training.checkpoint import load_checkpoint, save_checkpoint
from xsarcomp.training.interfaces import Trainable, ValidationResult
from xsarcomp.training.loop import seed_everything, training_loop
from xsarcomp.training.patches import PatchConfig, PatchSampler
from xsarcomp.training.planes import Plane
from xsarcomp.training.schedule import LoopConfig, learning_rate_at

TRUE_WEIGHTS = torch.tensor([[2.0, -1.0, 0.5]])


class LinearModel(Trainable):
    """Learns y = A x + 3 from the batch itself: x is the batch, so the answer is known exactly."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.seen = []

    def loss(self, batch, generator, progress):
        if self.training:
            self.calls += 1
            self.seen.append(progress)
        values = batch.reshape(-1, 3)
        wanted = values @ TRUE_WEIGHTS.T + 3
        jitter = 1e-3 * torch.randn(values.shape, generator=generator)
        error = self.linear(self.dropout(values + jitter)) - wanted
        return {"loss": error.square().mean(), "largest": error.abs().max()}


class Batches:
    """An endless sampler with a state, as PatchSampler is."""

    def __init__(self, seed=0):
        self.generator = np.random.default_rng(seed)

    def __iter__(self):
        return self

    def __next__(self):
        return self.generator.normal(size=(4, 3, 3)).astype(np.float32)

    def state_dict(self):
        return {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, state):
        self.generator.bit_generator.state = state["generator"]


def validate(model):
    assert not model.training
    assert not torch.is_grad_enabled()
    error = (model.linear.weight - TRUE_WEIGHTS).square().sum() + (model.linear.bias - 3).square().sum()
    return ValidationResult(scalars={"loss": error.item()})


def config(**changes):
    return LoopConfig(**{"steps": 40, "learning_rate": 0.05, "threads": 1, "ema_decay": 0.9, **changes})


def all_tensors(tree, path=""):
    for key, value in tree.items():
        if isinstance(value, torch.Tensor):
            yield f"{path}/{key}", value
        elif isinstance(value, dict):
            yield from all_tensors(value, f"{path}/{key}")


@pytest.mark.slow
def test_a_linear_model_finds_the_weights_that_made_the_data():
    model = LinearModel()
    reports = list(training_loop(model, Batches(), config(steps=600, warmup_steps=20), validate=validate))
    torch.testing.assert_close(model.linear.weight, TRUE_WEIGHTS, atol=0.02, rtol=0)
    torch.testing.assert_close(model.linear.bias, torch.tensor([3.0]), atol=0.02, rtol=0)
    assert reports[-1].is_validation
    assert reports[-1].scalars["loss"] < 1e-3


def test_every_step_is_reported_once_with_its_numbers():
    model = LinearModel()
    reports = list(training_loop(model, Batches(), config(steps=7)))
    assert [report.step for report in reports] == list(range(1, 8))
    for report in reports:
        assert set(report.scalars) == {"loss", "largest", "gradient_norm"}
        assert report.seconds > 0
        assert not report.is_validation
    assert model.seen == pytest.approx(np.linspace(0, 1, 7))


def test_validations_and_checkpoints_come_at_their_intervals_and_at_the_end():
    plan = config(steps=10, validate_every=4, checkpoint_every=5)
    reports = list(training_loop(LinearModel(), Batches(), plan, validate=validate))
    assert [report.step for report in reports if report.is_validation] == [4, 8, 10]
    # 4, 8 and 10 improve on what was before, 5 and 10 are due
    assert [report.step for report in reports if report.state is not None] == [4, 5, 8, 10]
    assert [report.step for report in reports if not report.is_validation] == list(range(1, 11))
    assert reports[-1].state["best"]["step"] == 10


def test_only_lower_validation_losses_are_best():
    losses = iter([3.0, 5.0, 2.0, 2.0, 4.0])
    reports = training_loop(
        LinearModel(),
        Batches(),
        config(steps=5, validate_every=1),
        validate=lambda _: ValidationResult(scalars={"loss": next(losses)}),
    )
    best = [report.is_best for report in reports if report.is_validation]
    assert best == [True, False, True, False, False]


@pytest.mark.parametrize("interruption", [1, 13, 20])
def test_a_run_resumed_from_a_checkpoint_ends_in_the_same_bits_as_an_undisturbed_one(tmp_path, interruption):
    plan = config(steps=40, warmup_steps=15, weight_decay=0.1, validate_every=10, checkpoint_every=1)
    undisturbed = list(training_loop(LinearModel(dropout=0.2), Batches(), plan, validate=validate))

    for report in training_loop(LinearModel(dropout=0.2), Batches(), plan, validate=validate):
        if report.step == interruption and report.state is not None:
            save_checkpoint(tmp_path, "last", report.state, {})
            break
    state, _ = load_checkpoint(tmp_path, "last")
    # another process: other weights, another sampler seed, another global random state
    torch.manual_seed(99)
    model = LinearModel(dropout=0.2)
    nn.init.normal_(model.linear.weight)
    resumed = list(training_loop(model, Batches(5), plan, state=state, validate=validate))

    expected = [report for report in undisturbed if report.step > interruption]
    assert [report.step for report in resumed] == [report.step for report in expected]
    assert [report.scalars for report in resumed] == [report.scalars for report in expected]
    assert [report.is_best for report in resumed] == [report.is_best for report in expected]
    left, right = dict(all_tensors(undisturbed[-1].state)), dict(all_tensors(resumed[-1].state))
    assert left.keys() == right.keys()
    assert len(left) >= 12
    for name in left:
        assert torch.equal(left[name], right[name]), name
    assert undisturbed[-1].state["sampler"] == resumed[-1].state["sampler"]


def test_the_patch_sampler_resumes_with_the_loop():
    generator = np.random.default_rng(0)
    decibel = generator.normal(-12, 3, (40, 40)).astype(np.float32)
    plane = Plane("scene", "vv", decibel, np.ones((40, 40), bool))
    patches = PatchConfig(patch=9, batch=2, augmentation=AugmentationConfig(gain_db=1, speckle_looks=5))
    plan = config(steps=8, checkpoint_every=3, learning_rate=1e-3)
    first = list(training_loop(LinearModel(), PatchSampler([plane], patches), plan))
    second = list(training_loop(LinearModel(), PatchSampler([plane], patches), plan, state=first[2].state))
    assert [report.scalars for report in second] == [report.scalars for report in first[3:]]


def test_a_state_is_a_copy_that_later_steps_leave_alone():
    reports = training_loop(LinearModel(), Batches(), config(steps=6, checkpoint_every=1))
    first = next(reports).state
    before = {name: tensor.clone() for name, tensor in all_tensors(first)}
    list(reports)
    for name, tensor in all_tensors(first):
        assert torch.equal(tensor, before[name]), name


def test_the_average_follows_its_recurrence_and_serves_validation():
    plan = config(steps=30, checkpoint_every=1, ema_decay=0.5)
    seen = []

    def remember(model):
        seen.append(model.linear.bias.clone())
        return ValidationResult(scalars={"loss": 1.0})

    average = torch.zeros(1)
    for report in training_loop(LinearModel(), Batches(), plan, validate=remember):
        if report.state is not None:
            decay = min(0.5, report.step / (report.step + 9))
            average = decay * average + (1 - decay) * report.state["model"]["linear.bias"]
            torch.testing.assert_close(report.state["ema"]["linear.bias"], average)
            assert report.state["ema"]["calls"] == report.step
    torch.testing.assert_close(seen[-1], average)


def test_the_reported_learning_rate_is_the_one_of_the_schedule():
    plan = config(steps=9, warmup_steps=4)
    rates = [report.learning_rate for report in training_loop(LinearModel(), Batches(), plan)]
    assert rates == [learning_rate_at(index, plan) for index in range(9)]


def test_clipping_limits_the_gradient_that_reaches_the_optimizer():
    model = LinearModel()
    for report in training_loop(model, Batches(), config(steps=3, gradient_clip=0.01)):
        norm = math.sqrt(sum(float(value.grad.square().sum()) for value in model.parameters()))
        assert norm <= 0.0101
        assert report.scalars["gradient_norm"] > 1


def test_parameters_that_are_frozen_stay_frozen():
    model = LinearModel()
    model.linear.weight.requires_grad_(False)
    list(training_loop(model, Batches(), config(steps=5)))
    assert (model.linear.weight == 0).all()
    assert model.linear.bias != 0


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(poison):
    model = LinearModel()
    good = np.ones((1, 3, 3), np.float32)
    bad = good.copy()
    bad[0, 0, 0] = poison
    reports = training_loop(model, iter([good, bad]), config(steps=2))
    next(reports)
    weights = model.linear.weight.clone()
    with pytest.raises(ModelError, match=r"step 2 .*expected a finite loss.*1 values .*learning rate"):
        next(reports)
    assert torch.equal(model.linear.weight, weights)


def test_a_validation_without_a_finite_loss_is_refused():
    for scalars in ({"loss": math.nan}, {"rmse_db": 1.0}):
        result = ValidationResult(scalars=scalars)
        with pytest.raises(ModelError, match="finite 'loss'"):
            list(training_loop(LinearModel(), Batches(), config(steps=1), validate=lambda _, r=result: r))


def test_images_and_histograms_of_a_validation_reach_its_report():
    image, values = np.zeros((6, 8)), np.arange(9.0)

    def with_images(model):
        return ValidationResult(scalars={"loss": 0.5}, images={"difference": image}, histograms={"latents": values})

    report = list(training_loop(LinearModel(), Batches(), config(steps=1), validate=with_images))[-1]
    assert report.scalars == {"loss": 0.5}
    assert report.images["difference"] is image
    assert report.histograms["latents"] is values


def test_batches_that_end_are_an_error_not_a_silent_stop():
    with pytest.raises(ConfigurationError, match="ended after 2 steps, expected 40"):
        list(training_loop(LinearModel(), itertools.islice(Batches(), 2), config()))


def test_a_state_of_another_model_is_refused():
    state = list(training_loop(LinearModel(), Batches(), config(steps=1)))[-1].state

    wider = LinearModel()
    wider.linear = nn.Linear(4, 1)
    with pytest.raises(ConfigurationError, match="does not fit"):
        next(training_loop(wider, Batches(), config(), state=state))


def test_a_state_with_a_sampler_needs_a_sampler_that_can_be_set():
    state = list(training_loop(LinearModel(), Batches(), config(steps=1)))[-1].state
    with pytest.raises(ConfigurationError, match="sampler"):
        next(training_loop(LinearModel(), iter([np.ones((1, 3, 3))]), config(), state=state))


def test_global_random_states_and_threads_are_left_as_they_were():
    model = LinearModel(dropout=0.5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    list(training_loop(model, Batches(), config(steps=3), validate=validate))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_bfloat16_autocast_reaches_the_model_and_not_its_weights():
    class Watching(LinearModel):
        def loss(self, batch, generator, progress):
            self.product = self.linear(batch).dtype
            return super().loss(batch, generator, progress)

    model = Watching()
    list(training_loop(model, Batches(), config(steps=2, autocast_bfloat16=True)))
    assert model.product == torch.bfloat16
    assert model.linear.weight.dtype == torch.float32


def test_seeding_everything_repeats_all_three_generators():
    saved = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    draws = []
    try:
        for _ in range(2):
            seed_everything(3)
            draws.append((random.random(), np.random.random(), torch.rand(1).item()))
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.random.set_rng_state(saved[2])
    assert draws[0] == draws[1]
