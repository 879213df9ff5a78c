"""The autoencoder of the default codec: lapped analysis, and a synthesis with a residual network at stride 8.

The linear path is the lapped transform and stays in float32 with its orthogonal basis; the network starts as zero, so
an untrained model *is* the linear codec. It refines the decoded latents: from the symbols around a latent it predicts
where in its quantisation interval the latent lay. It has a finite reach and no normalisation over space, so tiles
with a halo leave no seam. All of it runs at one position per 64 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsarcomp.errors import ConfigurationError
from xsarcomp.lapped import BASIS_STEPS, BLOCK, CHANNELS, lapped_basis

INPUT_CHANNELS = CHANNELS - 1 + 4 + 2
LEVEL_UNIT_DB = 80.0  # the lowest channel is 8 times the mean in dB: ten dB become one
STEP_UNIT = 2.0  # natural logarithms

Quantizer = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the residual network and the range of steps that it is trained for."""

    channels: int = 128
    """Width of the network."""
    blocks: int = 3
    """Number of residual blocks; each adds one latent (8 pixels) to the halo."""
    smallest_step_db: float = 0.3
    """Smallest quantisation step in training, dB."""
    largest_step_db: float = 20.0
    """Largest quantisation step in training, dB."""

    def __post_init__(self) -> None:
        if not (1 <= self.channels <= 1024 and 1 <= self.blocks <= 32):
            raise ConfigurationError(f"channels {self.channels} and blocks {self.blocks}: expected 1..1024 and 1..32")
        if not 0 < self.smallest_step_db <= self.largest_step_db:
            raise ConfigurationError(
                f"steps from {self.smallest_step_db} to {self.largest_step_db} dB: expected 0 < smallest <= largest"
            )


class ResidualBlock(nn.Module):
    """3x3 convolution without padding, scaled and shifted by the step, then 1x1, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3)
        self.condition = nn.Linear(3, 2 * channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, features: Tensor, step_features: Tensor) -> Tensor:
        """(tile, channel, y, x) -> (tile, channel, y - 2, x - 2)."""
        gain, shift = self.condition(step_features)[:, None, None].chunk(2)
        hidden = F.gelu(self.spatial(features) * (1 + gain) + shift, approximate="tanh")
        return features[:, :, 1:-1, 1:-1] + self.mix(hidden)


class LatentRefiner(nn.Module):
    """Network that predicts the offset of latents from their symbols, in steps."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.entry = nn.Conv2d(INPUT_CHANNELS, config.channels, 3)
        self.blocks = nn.ModuleList(ResidualBlock(config.channels) for _ in range(config.blocks))
        self.exit = nn.Conv2d(config.channels, CHANNELS, 1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    @property
    def reach(self) -> int:
        """Latents on each side that an output depends on, from the layers."""
        kernels = [layer.kernel_size[0] for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        differences = 1  # of the lowest channel, taken before the entry
        return differences + sum((kernel - 1) // 2 for kernel in kernels)

    def forward(self, latents: Tensor, step_db: float) -> Tensor:
        """Offsets in steps, (tile, latent, y - 2 reach, x - 2 reach), of latents in dB, (tile, latent, y, x)."""
        scaled = latents / step_db
        lowest, inside = scaled[:, :1], scaled[:, :1, 1:-1, 1:-1]
        differences = torch.cat(
            [lowest[:, :, :-2, 1:-1], lowest[:, :, 2:, 1:-1], lowest[:, :, 1:-1, :-2], lowest[:, :, 1:-1, 2:]], 1
        )
        compressed = torch.cat([scaled[:, 1:, 1:-1, 1:-1], differences - inside], 1)
        compressed = compressed.sign() * compressed.abs().log1p()
        log_step = float(np.log(step_db)) / STEP_UNIT
        level = latents[:, :1, 1:-1, 1:-1] / LEVEL_UNIT_DB
        features = self.entry(torch.cat([compressed, level, torch.full_like(level, log_step)], 1))
        powers = latents.new_tensor([log_step, log_step**2, log_step**3])
        for block in self.blocks:
            features = block(features, powers)
        return self.exit(F.gelu(features, approximate="tanh"))


class LappedAutoencoder(nn.Module):
    """Lapped analysis and synthesis with a residual network on the decoder's side.

    ::

        dB (tile, y, x) --lapped 16x16, stride 8--> latents (tile, 64, y/8, x/8) --round--> symbols
        symbols --centroids--> latents + step * refiner(latents) --lapped, transposed--> dB

    Parameters
    ----------
    config : AutoencoderConfig
    quantizer : callable, optional
        (latents of float64 (tile, latent, y, x), step in dB) -> (latents restored from symbols, valid border to cut);
        needed for training only. It quantises exactly as the encoder does.
    offset_db : float
        Level in dB that becomes signal 0.
    """

    def __init__(self, config: AutoencoderConfig, quantizer: Quantizer | None = None, offset_db: float = 0.0):
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

    def refine(self, latents: Tensor, step_db: float) -> Tensor:
        """Restored latents in dB, cut by the reach of the network, with the network's offset added."""
        reach = self.refiner.reach
        return latents[:, :, reach:-reach, reach:-reach] + step_db * self.refiner(latents, step_db).float()

    def synthesize(self, latents: Tensor) -> Tensor:
        """(tile, latent, y, x) -> (tile, 8 y + 8, 8 x + 8) dB; the outer 8 pixels lack their neighbours' share."""
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
            restored, border = self.quantizer(latents.double().cpu().numpy(), step_db)
            restored = torch.from_numpy(restored).to(batch.device)
            latents = latents[:, :, border:-border, border:-border]
        reach = self.refiner.reach
        target = latents[:, :, reach:-reach, reach:-reach]
        error = ((target - self.refine(restored, step_db)) ** 2).mean()
        centroid_error = ((target - restored[:, :, reach:-reach, reach:-reach]) ** 2).mean()
        ratio = error / (centroid_error + 1e-12)
        return {"loss": ratio, "gain_db": -10 * torch.log10(ratio.detach()), "rmse_db": error.detach().sqrt()}
