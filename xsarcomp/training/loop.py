"""One training loop for every model: a generator that trains one step and reports.

The loop knows nothing about a model but its `loss`; the caller decides what to do with the reports::

    for report in log_to_tensorboard(training_loop(model, sampler, config, validate=validate), "runs"):
        if report.state is not None:
            save_checkpoint(folder, "last", report.state, metadata)
        if report.is_best:
            save_checkpoint(folder, "best", report.state, metadata)
"""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xsarcomp.errors import ConfigurationError, ModelError
from xsarcomp.training.interfaces import Model, ValidationResult
from xsarcomp.training.run_state import Run, average_weights, snapshot, start_run
from xsarcomp.training.schedule import LoopConfig, learning_rate_at

Validate = Callable[[Model], ValidationResult]
"""Function that measures a model with averaged weights, without changing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Report of one training step or one validation."""

    step: int
    """Number of finished training steps, from 1."""

    scalars: Mapping[str, float]
    """Finite numbers by name; "loss" is always among them, "gradient_norm" (before clipping) in training."""

    learning_rate: float
    """Learning rate of this step."""

    seconds: float
    """Wall-clock time that the step or the validation took."""

    is_validation: bool = False
    """Whether the numbers come from `validate` with the averaged weights."""

    is_best: bool = False
    """Whether this is the lowest validation loss so far."""

    images: Mapping[str, NDArray] = field(default_factory=dict)
    """Gray images (y, x) of the validation, float in 0..1 or uint8."""

    histograms: Mapping[str, NDArray] = field(default_factory=dict)
    """Values of the validation to draw histograms of."""

    state: dict[str, Any] | None = None
    """Copy of everything that is needed to resume after this step; None where no checkpoint is due."""


def training_loop(
    model: Model,
    batches: Iterable[NDArray[np.float32] | Tensor],
    config: LoopConfig,
    *,
    state: Mapping[str, Any] | None = None,
    validate: Validate[Model] | None = None,
) -> Iterator[StepReport]:
    """Train a model and report after each step.

    The same model, data, configuration and thread count give the same bits on one machine, also across an
    interruption: resume with `state` from any report. After each step the global random states are what they were
    before it.

    Parameters
    ----------
    model : Trainable
        Trained in place.
    batches : iterable of array or Tensor of float32, shape (batch, y, x)
        Backscatter in dB. To resume exactly it must be a `xsarcomp.training.interfaces.ResumableBatches`, as
        `xsarcomp.training.patches.PatchSampler` is.
    config : LoopConfig
        Length, rates and intervals; the same when resuming.
    state : mapping, optional
        `StepReport.state` of an earlier run, as saved by `save_checkpoint`.
    validate : callable, optional
        Takes the model with averaged weights, in evaluation mode, and returns a `ValidationResult`. It is called
        without gradients and must not change the model.

    Yields
    ------
    StepReport
        One for each step, and one for each validation after the report of its step.

    Raises
    ------
    ModelError
        If a loss or a gradient is not finite; the weights are then still those of the step before.
    ConfigurationError
        If `state` does not fit the model or the batches, or the batches end.
    """
    with _threads(config.threads):
        run = start_run(model, iter(batches), config, state)
        for index in range(run.step, config.steps):
            report = _train_step(run, config, index)
            step = run.step = index + 1
            is_last = step == config.steps
            is_checkpoint = is_last or _is_due(step, config.checkpoint_every)
            if validate is not None and (is_last or _is_due(step, config.validate_every)):
                yield report
                report = _validate(run, config, validate, report.learning_rate)
                is_checkpoint = is_checkpoint or report.is_best
            yield replace(report, state=snapshot(run)) if is_checkpoint else report


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch globally, before a model draws its first weights.

    Parameters
    ----------
    seed : int
        Any number from 0 to 2**32 - 1.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _train_step(run: Run[Model], config: LoopConfig, index: int) -> StepReport:
    """Do one optimizer step."""
    started = time.perf_counter()
    try:
        batch = torch.as_tensor(next(run.batches), device=run.device)  # (batch, y, x)
    except StopIteration:
        raise ConfigurationError(
            f"the batches ended after {index} steps, expected {config.steps}. "
            "Pass an endless iterator such as PatchSampler, or itertools.cycle over a list."
        ) from None
    rate = learning_rate_at(index, config)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.model.train()
    with _seeded(config.seed, index + 1, run.device):
        with torch.autocast(run.device.type, torch.bfloat16, enabled=config.autocast_bfloat16):
            losses = run.model.loss(batch, run.generator, index / max(1, config.steps - 1))
        run.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(run.parameters().values(), config.gradient_clip)
    names = [*losses, "gradient_norm"]
    # One transfer for all numbers: a GPU is waited for once a step.
    numbers = torch.stack([value.detach().float().reshape(()) for value in (*losses.values(), norm)]).tolist()
    scalars = dict(zip(names, numbers, strict=True))
    _require_finite(scalars, batch, index + 1)
    run.optimizer.step()
    average_weights(run, config.ema_decay, index)
    return StepReport(step=index + 1, scalars=scalars, learning_rate=rate, seconds=time.perf_counter() - started)


def _validate(run: Run[Model], config: LoopConfig, validate: Validate[Model], rate: float) -> StepReport:
    """Measure the averaged weights, and remember the loss and the step of the best."""
    started = time.perf_counter()
    with torch.no_grad(), _seeded(config.seed, 0, run.device):
        result = validate(run.averaged.eval())
    loss = result.scalars.get("loss", math.nan)
    if not math.isfinite(loss):
        raise ModelError(
            f"validation after step {run.step} gave {dict(result.scalars)}, expected a finite 'loss'. "
            "Check the validation patches, or lower the learning rate."
        )
    is_best = run.best_loss is None or loss < run.best_loss
    if is_best:
        run.best_loss, run.best_step = loss, run.step
    return StepReport(
        step=run.step,
        scalars=result.scalars,
        learning_rate=rate,
        seconds=time.perf_counter() - started,
        is_validation=True,
        is_best=is_best,
        images=result.images,
        histograms=result.histograms,
    )


def _require_finite(scalars: Mapping[str, float], batch: Tensor, step: int) -> None:
    """Raise before a number that is not finite reaches the weights."""
    if math.isfinite(scalars["loss"]) and math.isfinite(scalars["gradient_norm"]):
        return
    finite = batch[torch.isfinite(batch)]
    extent = f"{finite.min():.1f} to {finite.max():.1f}" if len(finite) else "nothing finite"
    raise ModelError(
        f"step {step} gave {scalars}, expected a finite loss and gradient. Its batch holds "
        f"{batch.numel() - len(finite)} values that are not finite, and {extent} dB otherwise. "
        f"The weights are those of step {step - 1}: lower the learning rate, lengthen the warm-up, "
        "or look for invalid pixels."
    )


def _is_due(step: int, interval: int) -> bool:
    """Return True at the last step of each interval; an interval of 0 means never."""
    return interval > 0 and step % interval == 0


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set the CPU threads of torch, and put them back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators from the step (dropout uses them), and put them back.

    Seeding each step from its number is what lets a resumed run repeat an undisturbed one.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        yield
