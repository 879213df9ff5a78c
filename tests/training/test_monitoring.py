"""Monitoring: statistics against NumPy, and what TensorBoard's own reader finds in the files."""

import sys

import numpy as np
import pytest
import torch

from xsarcomp.errors import DimensionError, MissingDependencyError
from xsarcomp.training.loop import StepReport
from xsarcomp.training.monitoring import latent_health, log_to_tensorboard


def test_latent_health_counts_the_channels_that_carry_nothing():
    latents = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    latents[:, 1] = 0
    latents[:, 3] = 7.5
    statistics = latent_health(latents)
    assert statistics["latent_dead"] == 2
    assert statistics["latent_mean"] == pytest.approx(float(latents.numpy().mean()), abs=1e-6)
    assert statistics["latent_std"] == pytest.approx(float(latents.numpy().std()), rel=1e-5)
    assert statistics["latent_min"] == latents.min()
    assert statistics["latent_max"] == 7.5


@pytest.mark.parametrize("shape", [(3,), (0, 4, 2, 2)])
def test_latents_without_channels_or_elements_are_refused(shape):
    with pytest.raises(DimensionError, match="expected"):
        latent_health(torch.zeros(shape))


def test_scalars_images_and_histograms_arrive_in_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    image = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)

    plain = [StepReport(step=step, scalars={"loss": 1.0 / step}, learning_rate=0.1, seconds=1) for step in (1, 2, 3)]
    plain.append(
        StepReport(
            step=3,
            scalars={"loss": 0.5},
            learning_rate=0.1,
            seconds=1,
            is_validation=True,
            images={"difference": image},
            histograms={"latents": np.arange(9.0)},
        )
    )
    reports = list(log_to_tensorboard(plain, tmp_path))
    assert all(passed is report for passed, report in zip(reports, plain, strict=True))
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    written = events.Scalars("training/loss")
    assert [event.step for event in written] == [1, 2, 3]
    assert [event.value for event in written] == pytest.approx([r.scalars["loss"] for r in reports[:3]])
    assert events.Scalars("validation/loss")[0].value == 0.5
    assert (
        events.Images("validation/difference")[0].height,
        events.Images("validation/difference")[0].width,
    ) == (6, 8)
    assert events.Histograms("validation/latents")[0].histogram_value.num == 9


def test_missing_tensorboard_is_told_at_once_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install"):
        log_to_tensorboard(iter([StepReport(step=1, scalars={}, learning_rate=0, seconds=0)]), tmp_path)
