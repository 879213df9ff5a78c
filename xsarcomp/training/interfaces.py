"""Interfaces of the training loop: a model to train, batches that can be resumed, the result of a validation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Trainable(nn.Module):
    """Base class of the networks that the training loop can train; they implement `loss`."""

    def loss(self, batch: Tensor, generator: torch.Generator, progress: float) -> Mapping[str, Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch : Tensor of float32, shape (batch, y, x), dB
        generator : torch.Generator
            Source of randomness, on the device of the model.
        progress : float
            0 at the first step, 1 at the last.

        Returns
        -------
        mapping of str to Tensor
            "loss", a scalar to be minimized, and other scalars to log.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss: implement it to train this network")


Model = TypeVar("Model", bound=Trainable)


@runtime_checkable
class ResumableBatches(Protocol):
    """Iterator over batches whose position can be stored, as `xsarcomp.training.patches.PatchSampler` is."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position as JSON values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Numbers, images and values that a validation measured."""

    scalars: Mapping[str, float]
    """Numbers by name; "loss", finite, chooses the best weights."""

    images: Mapping[str, NDArray] = field(default_factory=dict)
    """Gray images (y, x), float in 0..1 or uint8."""

    histograms: Mapping[str, NDArray] = field(default_factory=dict)
    """Values to draw histograms of."""
