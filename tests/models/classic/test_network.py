"""The classic autoencoder: shapes, what its structure guarantees, and its loss against the measures of the evaluation."""

import itertools
import math

import numpy as np
import pytest
import torch

from xsarcomp.errors import ConfigurationError
from xsarcomp.metrics import fidelity
from xsarcomp.models.classic.network import (
    VARIANTS,
    ClassicAutoencoder,
    ClassicConfig,
    ResidualBlock,
    SelfAttention,
    structural_similarity,
)
from xsarcomp.training.loop import training_loop
from xsarcomp.training.schedule import LoopConfig

pytestmark = pytest.mark.slow

LOWEST_DB, HIGHEST_DB = -60.0, 20.0


def autoencoder(seed=0, **config):
    """A small network with random weights everywhere, also where training starts from zero."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = ClassicAutoencoder(ClassicConfig(**{"latents": 6, "width": 4, **config}), LOWEST_DB, HIGHEST_DB)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def speckle(shape, seed=0):
    """Gamma speckle of four looks around -14 dB, smoothed a little, dB."""
    generator = np.random.default_rng(seed)
    power = generator.gamma(4, 0.25, shape)
    power = (power + np.roll(power, 1, -1) + np.roll(power, 1, -2)) / 3
    return torch.from_numpy((10 * np.log10(power) - 14).astype(np.float32))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_latent_stands_for_sixteen_by_sixteen_pixels(variant):
    model = autoencoder(variant=variant)
    latents = model.encode(speckle((2, 256, 256)))
    assert latents.shape == (2, 6, 16, 16)
    np.testing.assert_allclose(latents.detach().mean((1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(latents.detach().std((1, 2, 3)), 1, atol=1e-3)
    unit = model.decode(latents)
    assert unit.shape == (2, 256, 256)
    assert 0 < unit.min() <= unit.max() < 1
    assert model.encode(speckle((1, 48, 80))).shape == (1, 6, 3, 5)


def test_variants_add_layers_to_the_plain_network():
    counts = [sum(value.numel() for value in autoencoder(variant=variant).parameters()) for variant in VARIANTS]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("layer", [ResidualBlock, SelfAttention])
def test_added_layers_start_as_the_identity(layer):
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 4, 5)).astype(np.float32))
    with torch.random.fork_rng([]):
        assert torch.equal(layer(8)(features), features)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter(variant):
    model = autoencoder(variant=variant)
    model.loss(speckle((2, 64, 64)), torch.Generator().manual_seed(0), 0.0)["loss"].backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_constant_image_stays_constant(variant):
    model = autoencoder(variant=variant)
    with torch.no_grad():
        unit = model.decode(model.encode(torch.full((1, 96, 96), -11.0)))
    assert np.ptp(model.decibel(unit).numpy()) < 1e-3


def test_attention_and_normalization_look_at_the_whole_tile():
    batch = speckle((1, 256, 256))
    changed = batch.clone()
    changed[:, :16, :16] += 6
    for variant in VARIANTS:
        model = autoencoder(variant=variant)
        with torch.no_grad():
            assert (model.encode(batch) - model.encode(changed))[:, :, -1, -1].abs().max() > 1e-6


def test_values_outside_the_range_are_cut():
    model = autoencoder()
    with torch.no_grad():
        beyond = model.encode(torch.full((1, 32, 32), HIGHEST_DB + 40))
        assert torch.equal(beyond, model.encode(torch.full((1, 32, 32), HIGHEST_DB)))


@pytest.mark.parametrize("level", [-14.0, 0.0, 6.0])
def test_similarity_is_that_of_the_evaluation(level):
    first, second = speckle((2, 40, 56), 1) + 14 + level, speckle((2, 40, 56), 2) + 14 + level
    second = 0.7 * first + 0.3 * second
    valid = np.ones(first.shape[1:], bool)
    pairs = zip(first.double().numpy(), second.double().numpy(), strict=True)
    expected = np.mean([fidelity.structural_similarity(*pair, valid) for pair in pairs])
    assert structural_similarity(first, second).item() == pytest.approx(expected, abs=1e-5)
    assert structural_similarity(first, first).item() == pytest.approx(1, abs=1e-6)


def test_gradient_of_the_similarity_is_its_slope():
    first, second = (speckle((1, 12, 12), seed).double() for seed in (1, 2))
    assert torch.autograd.gradcheck(structural_similarity, (first, second.requires_grad_()), atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_loss_is_the_weighted_sum_of_squared_error_and_dissimilarity(weight):
    model, batch, step = autoencoder(ssim_weight=weight), speckle((2, 64, 64)), 0.25
    with torch.no_grad():
        losses = {name: value.item() for name, value in model.loss_at(batch, step).items()}
        restored = model.decibel(model.decode(step * torch.round(model.encode(batch) / step)))
    unit = [(values.double().numpy() - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB) for values in (batch, restored)]
    squared = np.mean((unit[0] - unit[1]) ** 2)
    valid = np.ones((64, 64), bool)
    pairs = zip(batch.double().numpy(), restored.double().numpy(), strict=True)
    similarity = np.mean([fidelity.structural_similarity(*pair, valid) for pair in pairs])
    assert losses["loss"] == pytest.approx((1 - weight) * squared + weight * (1 - similarity), rel=1e-4)
    assert losses["rmse_db"] == pytest.approx(80 * math.sqrt(squared), rel=1e-4)
    assert losses["ssim"] == pytest.approx(similarity, abs=1e-5)


def test_noise_in_training_is_as_wide_as_the_step_and_comes_from_the_generator():
    model, batch = autoencoder(smallest_step=0.25, largest_step=0.25), speckle((4, 64, 64))
    seen = []
    model.decode = lambda latents: (seen.append(latents), torch.full(batch.shape, 0.5))[1]
    with torch.no_grad():
        for _ in range(2):
            model.loss(batch, torch.Generator().manual_seed(3), 0.0)
        noise = seen[0] - model.encode(batch)
    assert torch.equal(seen[0], seen[1])
    assert noise.abs().max() <= 0.125 + 1e-6
    assert noise.std().item() == pytest.approx(0.25 / math.sqrt(12), rel=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_some_steps_of_the_common_loop_lower_the_loss_of_a_batch(variant):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = ClassicAutoencoder(ClassicConfig(latents=8, width=4, variant=variant), LOWEST_DB, HIGHEST_DB)
    batch = speckle((2, 64, 64)) + 5 * torch.sin(torch.arange(64) / 6)  # something larger than speckle
    before = model.loss_at(batch, 0.1)["loss"].item()
    config = LoopConfig(steps=15, learning_rate=5e-3, threads=1, ema_decay=0.5)
    last = list(training_loop(model, itertools.cycle([batch]), config))[-1]
    assert set(last.scalars) == {"loss", "ssim", "rmse_db", "gradient_norm"}
    assert model.loss_at(batch, 0.1)["loss"].item() < 0.9 * before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": 0}, "latents is 0"),
        ({"width": 6}, "multiple of 4"),
        ({"variant": "transformer"}, "expected one of"),
        ({"ssim_weight": 1.5}, "ssim_weight is 1.5"),
        ({"smallest_step": 0.5, "largest_step": 0.1}, "smallest <= largest"),
    ],
    ids=str,
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        ClassicConfig(**changes)


@pytest.mark.parametrize("levels", [(0.0, 0.0), (5.0, -5.0), (math.nan, 0.0)])
def test_an_empty_range_is_refused(levels):
    with pytest.raises(ConfigurationError, match="expected finite, lowest below highest"):
        ClassicAutoencoder(ClassicConfig(), *levels)
