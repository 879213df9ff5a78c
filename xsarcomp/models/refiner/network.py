"""The autoencoder of the default codec: lapped analysis, and a synthesis with a residual network at stride 8.

The linear path is the lapped transform and stays in float32 with its orthogonal basis; the network starts as zero, so
an untrained model *is* the linear codec. It refines the decoded latents: from the symbols around a latent it predicts
where in its quantization interval the latent lay. It has a finite reach and no normalization over space, so tiles
with a halo leave no seam. It runs at one position per 64 pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xsarcomp.codec.lapped import BASIS_STEPS, BLOCK, CHANNELS, lapped_basis
from xsarcomp.codec.network.arithmetic import (
    FEATURE_UNITS,
    FEATURES,
    LARGEST_LEVEL,
    ActivationQuantizer,
    IntegerConv2d,
    step_powers,
)
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.errors import ConfigurationError
from xsarcomp.training.interfaces import Trainable


class QuantizedLatents(NamedTuple):
    """Latents as decoding meets them."""

    levels: NDArray[np.int8]
    """Input of the network, shape (tile, y - 2, x - 2, feature=72)."""
    restored: NDArray[np.float32]
    """Reconstruction points, shape (tile, latent=64, y, x), dB."""
    border: int
    """Latents on each side that quantization needs as neighbors and cuts off."""


Quantizer = Callable[[NDArray[np.float64], float], QuantizedLatents]
"""Function that quantizes latents of shape (tile, latent=64, y, x) with a step in dB, exactly as the encoder does."""


def _start_at_zero(convolution: nn.Conv2d) -> None:
    """Set all weights of a convolution to zero, so that the branch that it ends adds nothing at first."""
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)


class StepCondition(nn.Module):
    """Gain and shift of each channel: polynomials of the logarithm of the step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(2, channels, 4))

    def forward(self, features: Tensor, powers: Tensor) -> Tensor:
        """Scale and shift features of shape (tile, channel, y, x); ``powers`` are those of :func:`step_powers`."""
        gain, shift = (self.coefficients @ powers)[:, :, None, None]
        return features * (1 + gain) + shift


class ResidualBlock(nn.Module):
    """3x3 convolution without padding, scaled and shifted by the step, then 1x1, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.entry_levels = ActivationQuantizer(4 / LARGEST_LEVEL)
        self.spatial = IntegerConv2d(channels, channels, 3)
        self.condition = StepCondition(channels)
        self.hidden_levels = ActivationQuantizer(4 / LARGEST_LEVEL)
        self.mix = IntegerConv2d(channels, channels, 1)
        _start_at_zero(self.mix)

    def forward(self, features: Tensor, powers: Tensor) -> Tensor:
        """Map features of shape (tile, channel, y, x) to (tile, channel, y - 2, x - 2)."""
        hidden = F.relu(self.condition(self.spatial(self.entry_levels(features)), powers))
        return features[:, :, 1:-1, 1:-1] + self.mix(self.hidden_levels(hidden))


class LatentRefiner(nn.Module):
    """Network that predicts the offset of latents from their reconstruction points, in steps.

    Parameters
    ----------
    config : RefinerConfig
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.entry = IntegerConv2d(FEATURES, config.channels, 3)
        self.condition = StepCondition(config.channels)
        self.blocks = nn.ModuleList(ResidualBlock(config.channels) for _ in range(config.blocks))
        self.exit_levels = ActivationQuantizer(4 / LARGEST_LEVEL)
        self.exit = IntegerConv2d(config.channels, CHANNELS, 1)
        _start_at_zero(self.exit)

    @property
    def reach(self) -> int:
        """Latents on each side that an output depends on, counted from the layers."""
        kernels = [layer.kernel_size[0] for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        differences = 1  # of the lowest channel, taken before the entry
        return differences + sum((kernel - 1) // 2 for kernel in kernels)

    def forward(self, levels: Tensor, step_db: float) -> Tensor:
        """Compute offsets in steps, rounded as decoding rounds, with gradients.

        Parameters
        ----------
        levels : Tensor of float32, shape (tile, feature=72, y - 2, x - 2)
            From :func:`input_levels`.
        step_db : float

        Returns
        -------
        Tensor of float32, shape (tile, latent=64, y - 2 reach, x - 2 reach)
        """
        powers = levels.new_tensor(step_powers(step_db))
        features = self.condition(self.entry(levels / FEATURE_UNITS), powers)
        for block in self.blocks:
            features = block(features, powers)
        return self.exit(self.exit_levels(F.relu(features)))


class LappedAutoencoder(Trainable):
    """Lapped analysis and synthesis with a residual network on the decoder's side.

    ::

        dB (tile, y, x) --lapped 16x16, stride 8--> latents (tile, 64, y/8, x/8) --round--> symbols
        symbols --reconstruction points--> latents + step * refiner(latents) --lapped, transposed--> dB

    Parameters
    ----------
    config : RefinerConfig
    quantizer : callable, optional
        `Quantizer`; only the loss needs it.
    offset_db : float
        Level in dB that becomes signal 0.
    """

    kernel: Tensor
    """Products of the basis, shape (latent=64, 1, y=16, x=16); a buffer that is not among the weights."""

    def __init__(self, config: RefinerConfig, quantizer: Quantizer | None = None, offset_db: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.quantizer = quantizer
        self.offset_db = offset_db
        self.refiner = LatentRefiner(config)
        basis = torch.from_numpy(lapped_basis() / BASIS_STEPS).float()
        kernel = torch.einsum("yv,xh->vhyx", basis, basis).reshape(CHANNELS, 1, 2 * BLOCK, 2 * BLOCK)
        self.register_buffer("kernel", kernel, persistent=False)

    def analyze(self, signal: Tensor) -> Tensor:
        """Compute the latents of all blocks that lie inside with their overlap.

        Parameters
        ----------
        signal : Tensor of float32, shape (tile, y, x), dB above the offset

        Returns
        -------
        Tensor of float32, shape (tile, latent=64, y / 8 - 1, x / 8 - 1)
        """
        return F.conv2d(signal[:, None], self.kernel, stride=BLOCK)

    def quantize(self, latents: NDArray[np.float64], step_db: float) -> QuantizedLatents:
        """Quantize latents exactly as the encoder does.

        Parameters
        ----------
        latents : ndarray of float64, shape (tile, latent=64, y, x), dB
        step_db : float

        Returns
        -------
        QuantizedLatents

        Raises
        ------
        ConfigurationError
            If the model was built without a quantizer.
        """
        if self.quantizer is None:
            raise ConfigurationError("this model has no quantizer, which its loss needs: pass one to LappedAutoencoder")
        return self.quantizer(latents, step_db)

    def refine(self, levels: NDArray[np.int8], restored: NDArray[np.float32], step_db: float) -> Tensor:
        """Add the offsets of the network to restored latents, cut by the reach of the network.

        Parameters
        ----------
        levels : ndarray of int8, shape (tile, y - 2, x - 2, feature=72)
            From :func:`~xsarcomp.codec.network.arithmetic.input_levels`.
        restored : ndarray of float32, shape (tile, latent=64, y, x), dB
            Reconstruction points of the same symbols.
        step_db : float

        Returns
        -------
        Tensor of float32, shape (tile, latent=64, y - 2 reach, x - 2 reach), dB
        """
        reach, device = self.refiner.reach, self.kernel.device
        features = torch.from_numpy(levels).to(device, torch.float32).permute(0, 3, 1, 2)
        inside = torch.from_numpy(restored[:, :, reach:-reach, reach:-reach]).to(device)
        return inside + step_db * self.refiner(features, step_db).float()

    def synthesize(self, latents: Tensor) -> Tensor:
        """Compute the signal of latents; the outer 8 pixels lack the share of their neighbors.

        Parameters
        ----------
        latents : Tensor of float32, shape (tile, latent=64, y, x), dB

        Returns
        -------
        Tensor of float32, shape (tile, 8 y + 8, 8 x + 8), dB above the offset
        """
        return F.conv_transpose2d(latents, self.kernel, stride=BLOCK)[:, 0]

    def loss(self, batch: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Squared error with the network relative to that without it, at a random step for the batch.

        The transform is orthonormal, so the error of the latents is the error of the pixels. Dividing by the error of
        the reconstruction points makes coarse and fine steps count alike.

        Parameters and returned value are those of `xsarcomp.training.interfaces.Trainable.loss`.
        """
        low, high = np.log(self.config.smallest_step_db), np.log(self.config.largest_step_db)
        drawn = torch.rand((), generator=generator, device=generator.device).item()
        return self.loss_at(batch, float(np.exp(low + (high - low) * drawn)))

    def loss_at(self, batch: Tensor, step_db: float) -> dict[str, Tensor]:
        """:meth:`loss` at a given step.

        Parameters
        ----------
        batch : Tensor of float32, shape (tile, y, x), dB
        step_db : float

        Returns
        -------
        dict of str to Tensor
            "loss"; "gain_db", the reduction of the squared error in dB; "rmse_db".
        """
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            latents = self.analyze(batch.float() - self.offset_db)
            quantized = self.quantize(latents.double().cpu().numpy(), step_db)
        cut = quantized.border + self.refiner.reach
        target = latents[:, :, cut:-cut, cut:-cut]
        error = ((target - self.refine(quantized.levels, quantized.restored, step_db)) ** 2).mean()
        inside = slice(self.refiner.reach, -self.refiner.reach)
        unrefined = torch.from_numpy(quantized.restored[:, :, inside, inside]).to(batch.device)
        unrefined_error = ((target - unrefined) ** 2).mean()
        ratio = error / (unrefined_error + 1e-12)
        return {"loss": ratio, "gain_db": -10 * torch.log10(ratio.detach()), "rmse_db": error.detach().sqrt()}
