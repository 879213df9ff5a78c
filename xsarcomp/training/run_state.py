"""The state of a training run: set up, copied for a checkpoint, put back."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.interfaces import Model, ResumableBatches
from xsarcomp.training.schedule import LoopConfig


@dataclass(slots=True)
class Run(Generic[Model]):
    """Everything that changes from step to step."""

    model: Model
    averaged: Model
    """The model with the exponential moving average of its weights, in evaluation mode, without gradients."""
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    """Source of randomness of the loss, on the device of the model."""
    batches: Iterator[NDArray[np.float32] | Tensor]
    step: int = 0
    """Number of finished steps."""
    best_loss: float | None = None
    """Lowest validation loss so far."""
    best_step: int | None = None
    """Step of the lowest validation loss."""

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}


def start_run(
    model: Model,
    batches: Iterator[NDArray[np.float32] | Tensor],
    config: LoopConfig,
    state: Mapping[str, Any] | None,
) -> Run[Model]:
    """Set up a fresh run, or resume one from its state.

    Parameters
    ----------
    model : Trainable
        Trained in place.
    batches : iterator of array or Tensor of float32, shape (batch, y, x), dB
    config : LoopConfig
    state : mapping or None
        From `snapshot`; None starts a fresh run.

    Returns
    -------
    Run

    Raises
    ------
    ConfigurationError
        If the state does not fit the model, the device or the batches.
    """
    parameters = [value for value in model.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in parameters if value.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [value for value in parameters if value.ndim < 2], "weight_decay": 0.0},
    ]
    run = Run(
        model=model,
        averaged=copy.deepcopy(model).requires_grad_(False).eval(),
        optimizer=torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate),
        generator=torch.Generator(device=next(model.parameters()).device).manual_seed(config.seed),
        batches=batches,
    )
    if state is not None:
        try:
            _restore(run, state)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"the state to resume from does not fit this model, device or sampler: {error}. "
                "Build them from the configuration saved beside the state, or start without a state."
            ) from error
    return run


def snapshot(run: Run[Model]) -> dict[str, Any]:
    """Copy everything that the next step depends on.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict
        Nested dictionaries of tensors and JSON values, as `xsarcomp.training.checkpoint.save_checkpoint` stores them.
    """
    moments = run.optimizer.state
    return {
        "step": run.step,
        "best": {"value": run.best_loss, "step": run.best_step},
        "model": _copied(run.model.state_dict()),
        "ema": _copied(run.averaged.state_dict()),
        # By name: the positions that torch's own state_dict uses change with the order of definition in a
        # model.
        "optimizer": {name: _copied(moments[value]) for name, value in run.parameters().items() if value in moments},
        "generator": run.generator.get_state(),
        "sampler": run.batches.state_dict() if isinstance(run.batches, ResumableBatches) else None,
    }


def _restore(run: Run[Model], state: Mapping[str, Any]) -> None:
    """Put a snapshot back: the inverse of `snapshot`."""
    run.model.load_state_dict(state["model"])
    run.averaged.load_state_dict(state["ema"])
    parameters = run.parameters()
    for name, moments in state["optimizer"].items():
        value = parameters[name]
        # The step count stays on the CPU, where AdamW wants it; the moments go where the parameter is.
        run.optimizer.state[value] = {
            key: moment.clone() if moment.ndim == 0 else moment.to(value, copy=True) for key, moment in moments.items()
        }
    run.generator.set_state(state["generator"])
    run.step = int(state["step"])
    run.best_loss, run.best_step = state["best"]["value"], state["best"]["step"]
    if state["sampler"] is not None:
        if not isinstance(run.batches, ResumableBatches):
            raise TypeError(f"the state has a position of a sampler, {type(run.batches).__name__} cannot take it")
        run.batches.load_state_dict(state["sampler"])


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, so that later steps do not change them."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


@torch.no_grad()
def average_weights(run: Run[Model], decay: float, index: int) -> None:
    """Move the averaged weights towards the weights, and copy integer buffers.

    Parameters
    ----------
    run : Run
        Its averaged model is changed.
    decay : float
        Decay of the exponential moving average per step, 0 to below 1.
    index : int
        Number of the step, from 0; the first steps use a lower decay.
    """
    # The early average would otherwise remember the random start for 1 / (1 - decay) steps.
    decay = min(decay, (1 + index) / (10 + index))
    current = run.model.state_dict()
    for name, averaged in run.averaged.state_dict().items():
        if averaged.is_floating_point():
            averaged.lerp_(current[name], 1 - decay)
        else:
            averaged.copy_(current[name])
