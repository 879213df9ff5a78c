"""What changes while a loop runs: set up, copied for a checkpoint, put back."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.schedule import LoopConfig


@dataclass(slots=True)
class Run:
    """The things that change while a loop runs."""

    model: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    batches: Iterator[Any]
    step: int = 0
    best: dict[str, Any] = field(default_factory=lambda: {"value": None, "step": None})

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}


def start_run(model: nn.Module, batches: Iterator[Any], config: LoopConfig, state: Mapping[str, Any] | None) -> Run:
    """Set up a fresh run, or one that goes on where `state` was taken."""
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
            restore(run, state)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"the state to resume from does not fit this model, device or sampler: {error}. "
                "Build them from the configuration saved beside the state, or start without a state."
            ) from error
    return run


def snapshot(run: Run) -> dict[str, Any]:
    """Copy everything that the next step depends on: tensors and JSON values in nested dictionaries."""
    moments = run.optimizer.state
    return {
        "step": run.step,
        "best": dict(run.best),
        "model": _copied(run.model.state_dict()),
        "ema": _copied(run.averaged.state_dict()),
        # By name: the positions that torch's own state_dict uses change with the order of definition in a
        # model.
        "optimizer": {name: _copied(moments[value]) for name, value in run.parameters().items() if value in moments},
        "generator": run.generator.get_state(),
        "sampler": run.batches.state_dict() if hasattr(run.batches, "state_dict") else None,
    }


def restore(run: Run, state: Mapping[str, Any]) -> None:
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
    run.step, run.best = int(state["step"]), dict(state["best"])
    if state["sampler"] is not None:
        run.batches.load_state_dict(state["sampler"])


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that later steps do not change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


@torch.no_grad()
def average_weights(run: Run, decay: float, index: int) -> None:
    """Move the averaged weights towards the weights."""
    # The early average would otherwise remember the random start for 1 / (1 - decay) steps.
    decay = min(decay, (1 + index) / (10 + index))
    current = run.model.state_dict()
    for name, averaged in run.averaged.state_dict().items():
        if averaged.is_floating_point():
            averaged.lerp_(current[name], 1 - decay)
        else:
            averaged.copy_(current[name])
