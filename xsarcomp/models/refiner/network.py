"""The autoencoder of the default codec: lapped analysis, and a synthesis with a residual network at stride 8.

The linear path is the lapped transform and stays in float32 with its orthogonal basis; the network starts as zero, so
an untrained model *is* the linear codec. It refines the decoded latents: from the symbols around a latent it predicts
where in its quantization interval the latent lay. It has a finite reach and no normalization over space, so tiles
with a halo leave no seam. All of it runs at one position per 64 pixels.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
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

Quantizer = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, int]]


class StepCondition(nn.Module):
    """Gain and shift of each channel, polynomials of the logarithm of the step."""

    def __init__(self, channels: int):
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(2, channels, 4))

    def forward(self, features: Tensor, powers: Tensor) -> Tensor:
        """(tile, channel, y, x) scaled and shifted; ``powers`` as :func:`step_powers` gives them."""
        gain, shift = (self.coefficients @ powers)[:, :, None, None]
        return features * (1 + gain) + shift


class ResidualBlock(nn.Module):
    """3x3 convolution without padding, scaled and shifted by the step, then 1x1, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.entry_levels = ActivationQuantizer(4 / LARGEST_LEVEL)
        self.spatial = IntegerConv2d(channels, channels, 3)
        self.condition = StepCondition(channels)
        self.hidden_levels = ActivationQuantizer(4 / LARGEST_LEVEL)
        self.mix = IntegerConv2d(channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, features: Tensor, powers: Tensor) -> Tensor:
        """(tile, channel, y, x) -> (tile, channel, y - 2, x - 2)."""
        hidden = F.relu(self.condition(self.spatial(self.entry_levels(features)), powers))
        return features[:, :, 1:-1, 1:-1] + self.mix(self.hidden_levels(hidden))


class LatentRefiner(nn.Module):
    """Network that predicts the offset of latents from their reconstruction points, in steps."""

    def __init__(self, config: RefinerConfig):
        super().__init__()
        self.entry = IntegerConv2d(FEATURES, config.channels, 3)
        self.condition = StepCondition(config.channels)
        self.blocks = nn.ModuleList(ResidualBlock(config.channels) for _ in range(config.blocks))
        self.exit_levels = ActivationQuantizer(4 / LARGEST_LEVEL)
        self.exit = IntegerConv2d(config.channels, CHANNELS, 1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    @property
    def reach(self) -> int:
        """Latents on each side that an output depends on, from the layers."""
        kernels = [layer.kernel_size[0] for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        differences = 1  # of the lowest channel, taken before the entry
        return differences + sum((kernel - 1) // 2 for kernel in kernels)

    def forward(self, levels: Tensor, step_db: float) -> Tensor:
        """Offsets in steps, rounded as decoding rounds, with gradients.

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


class LappedAutoencoder(nn.Module):
    """Lapped analysis and synthesis with a residual network on the decoder's side.

    ::

        dB (tile, y, x) --lapped 16x16, stride 8--> latents (tile, 64, y/8, x/8) --round--> symbols
        symbols --centroids--> latents + step * refiner(latents) --lapped, transposed--> dB

    Parameters
    ----------
    config : RefinerConfig
    quantizer : callable, optional
        (latents of float64 (tile, latent, y, x), step in dB) -> (input of the network, restored latents, border that was
        cut); needed for training only. It quantizes exactly as the encoder does.
    offset_db : float
        Level in dB that becomes signal 0.
    """

    def __init__(self, config: RefinerConfig, quantizer: Quantizer | None = None, offset_db: float = 0.0):
        super().__init__()
        self.config = config
        self.quantizer = quantizer
        self.offset_db = offset_db
        self.refiner = LatentRefiner(config)
        basis = torch.from_numpy(lapped_basis() / BASIS_STEPS).float()
        kernel = torch.einsum("yv,xh->vhyx", basis, basis).reshape(CHANNELS, 1, 2 * BLOCK, 2 * BLOCK)
        self.register_buffer("kernel", kernel, persistent=False)

    def analyze(self, signal: Tensor) -> Tensor:
        """(tile, y, x) dB -> (tile, latent, y/8 - 1, x/8 - 1), blocks that lie inside with their overlap."""
        return F.conv2d(signal[:, None], self.kernel, stride=BLOCK)

    def refine(self, levels: np.ndarray, restored: np.ndarray, step_db: float) -> Tensor:
        """Restored latents in dB, cut by the reach of the network, with the network's offset added.

        Parameters
        ----------
        levels : ndarray of int8, shape (tile, y - 2, x - 2, feature=72)
            From :func:`~xsarcomp.codec.network.arithmetic.input_levels`.
        restored : ndarray of float32, shape (tile, latent=64, y, x), dB
            Reconstruction of the same symbols.
        step_db : float

        Returns
        -------
        Tensor of float32, shape (tile, latent=64, y - 2 reach, x - 2 reach)
        """
        reach, device = self.refiner.reach, self.kernel.device
        features = torch.from_numpy(levels).to(device, torch.float32).permute(0, 3, 1, 2)
        inside = torch.from_numpy(restored[:, :, reach:-reach, reach:-reach]).to(device)
        return inside + step_db * self.refiner(features, step_db).float()

    def synthesize(self, latents: Tensor) -> Tensor:
        """(tile, latent, y, x) -> (tile, 8 y + 8, 8 x + 8) dB; the outer 8 pixels lack their neighbors' share."""
        return F.conv_transpose2d(latents, self.kernel, stride=BLOCK)[:, 0]

    def loss(self, batch: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Squared error after refinement relative to centroids alone, at a random step for the batch.

        The transform is orthonormal, so the error of the latents is the error of the pixels. Dividing by the error of
        the centroids makes coarse and fine steps count alike.
        """
        low, high = np.log(self.config.smallest_step_db), np.log(self.config.largest_step_db)
        drawn = torch.rand((), generator=generator, device=generator.device).item()
        return self.loss_at(batch, float(np.exp(low + (high - low) * drawn)))

    def loss_at(self, batch: Tensor, step_db: float) -> dict[str, Tensor]:
        """:meth:`loss` at a given step in dB, with the gain in dB of squared error."""
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            latents = self.analyze(batch.float() - self.offset_db)
            levels, restored, border = self.quantizer(latents.double().cpu().numpy(), step_db)
        inside = slice(border + self.refiner.reach, -border - self.refiner.reach)
        target = latents[:, :, inside, inside]
        error = ((target - self.refine(levels, restored, step_db)) ** 2).mean()
        reach = slice(self.refiner.reach, -self.refiner.reach)
        centroids = torch.from_numpy(restored[:, :, reach, reach]).to(batch.device)
        centroid_error = ((target - centroids) ** 2).mean()
        ratio = error / (centroid_error + 1e-12)
        return {"loss": ratio, "gain_db": -10 * torch.log10(ratio.detach()), "rmse_db": error.detach().sqrt()}
