"""The classic convolutional autoencoder: a bottleneck of 16 x 16 x C latents for 256 x 256 pixels.

It is meant for comparison and for users' own models, not for stores: its symbols come out of floating point, and pixels
decoded from them are not the same to the last bit on another machine. Its results are in ``docs/decisions/0014``.

Four stages of stride 2 on each side, group normalization, a sigmoid on [0, 1]. Convolutions continue their edges, and
upsampling repeats pixels before a convolution: so a constant image stays constant, and no checkerboard can appear.
Normalization and attention depend on the whole tile. Tiles must therefore overlap and be blended.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.interfaces import Trainable

STAGES = 4
STRIDE = 2**STAGES
"""Pixels per latent and axis."""
VARIANTS = ("plain", "residual", "attention")
NORM_GROUPS = 4
ATTENTION_HEADS = 4

SSIM_WINDOW = 7
SSIM_RANGE_DB = 50.0
"""Window and range of `xsarcomp.metrics.fidelity.structural_similarity`, so that training and measuring agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicConfig:
    """Sizes of the autoencoder, its loss, and the quantization that it is trained for."""

    latents: int = 16
    """Channels of the bottleneck, C; C / 256 latents a pixel."""
    width: int = 16
    """Channels after the first stage; each further stage doubles them. A multiple of 4."""
    variant: str = "plain"
    """"plain": one convolution a stage; "residual": a residual block after each; "attention": self-attention beside the
    bottleneck as well."""
    ssim_weight: float = 0.5
    """Share of 1 - SSIM in the loss, 0..1; the rest is the mean squared error on [0, 1]."""
    smallest_step: float = 0.05
    """Smallest quantization step in training; latents have variance 1."""
    largest_step: float = 1.5
    """Largest quantization step in training."""

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.latents <= 256:
            problems.append(f"latents is {self.latents}, expected 1 to 256")
        if not (NORM_GROUPS <= self.width <= 128 and self.width % NORM_GROUPS == 0):
            problems.append(f"width is {self.width}, expected a multiple of {NORM_GROUPS} up to 128")
        if self.variant not in VARIANTS:
            problems.append(f"variant is {self.variant!r}, expected one of {VARIANTS}")
        if not 0 <= self.ssim_weight <= 1:
            problems.append(f"ssim_weight is {self.ssim_weight}, expected 0 to 1")
        if not 0 < self.smallest_step <= self.largest_step <= 4:
            problems.append(
                f"steps from {self.smallest_step} to {self.largest_step}, expected 0 < smallest <= largest <= 4"
            )
        if problems:
            raise ConfigurationError("; ".join(problems) + ". Correct the network of the configuration.")

    def check_patch(self, pixels: int) -> None:
        """Refuse patches that are not a whole number of latents, at least two along each axis.

        Parameters
        ----------
        pixels : int
            Edge of a training patch.

        Raises
        ------
        ConfigurationError
            If the patch does not fit.
        """
        if pixels % STRIDE or pixels < 2 * STRIDE:
            raise ConfigurationError(
                f"patch is {pixels} pixels, expected a multiple of {STRIDE} of at least {2 * STRIDE}"
            )


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution that continues its input at the edges, so that a constant image stays constant.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel, stride : int
        Pixels along each axis.

    Returns
    -------
    torch.nn.Conv2d
    """
    return nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, padding_mode="replicate")


def _start_at_zero(layer: nn.Module) -> None:
    """Set all weights of a layer to zero, so that the branch that it ends adds nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ResidualBlock(nn.Module):
    """Twice normalization, ReLU and a 3x3 convolution, added to the input; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, channels), nn.ReLU(), convolution(channels, channels, 3),
            nn.GroupNorm(NORM_GROUPS, channels), nn.ReLU(), convolution(channels, channels, 3),
        )  # fmt: skip
        _start_at_zero(self.layers[-1])

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (tile, channel, y, x) to features of the same shape."""
        return features + self.layers(features)


class SelfAttention(nn.Module):
    """Attention of each place to all places of the tile, added to the input; starts as the identity.

    It has no encoding of positions, so tiles may have any size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.entry = nn.Conv2d(channels, 3 * channels, 1)
        self.exit = nn.Conv2d(channels, channels, 1)
        _start_at_zero(self.exit)

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (tile, channel, y, x) to features of the same shape."""
        tiles, channels, rows, columns = features.shape
        heads = self.entry(self.norm(features)).reshape(tiles, 3, ATTENTION_HEADS, -1, rows * columns).transpose(3, 4)
        mixed = F.scaled_dot_product_attention(*heads.unbind(1))
        return features + self.exit(mixed.transpose(2, 3).reshape(tiles, channels, rows, columns))


def _extra_layers(channels: int, config: ClassicConfig, *, bottleneck: bool) -> list[nn.Module]:
    """Layers that a variant adds after a stage."""
    layers: list[nn.Module] = [ResidualBlock(channels)] if config.variant != "plain" else []
    if config.variant == "attention" and bottleneck:
        layers.append(SelfAttention(channels))
    return layers


class ClassicAutoencoder(Trainable):
    """Convolutional encoder and decoder around a quantized bottleneck.

    ::

        dB --(dB - lowest) / (highest - lowest)--> [0, 1] --encoder, normalization--> latents --round--> integers
        integers * step --decoder, sigmoid--> [0, 1] --> dB

    In training, uniform noise of the width of the step replaces rounding: its variance is the same, gradients pass it
    exactly, and as a step is drawn for each patch, one model serves many rates. (Rounding with a straight-through gradient
    does not tell the encoder the cost of the width.) There is no rate in the loss, so something must keep the encoder from
    making latents so large that noise does not matter: all latents of a tile together are normalized to mean 0 and
    variance 1. (Bounding each latent does not suffice: channels that a tanh had driven to its ends did not come back, 3 of
    16 after 2000 steps.)

    Parameters
    ----------
    config : ClassicConfig
    lowest_db, highest_db : float
        Levels in dB that become 0 and 1; values outside are clipped. They come from the training split only.
    """

    def __init__(self, config: ClassicConfig, lowest_db: float, highest_db: float) -> None:
        super().__init__()
        if not (math.isfinite(lowest_db) and math.isfinite(highest_db) and lowest_db < highest_db):
            raise ConfigurationError(
                f"range from {lowest_db} to {highest_db} dB: expected finite, lowest below highest"
            )
        self.config = config
        self.lowest_db, self.highest_db = lowest_db, highest_db
        widths = [config.width * 2**stage for stage in range(STAGES)]
        encoder: list[nn.Module] = []
        for stage, (inputs, outputs) in enumerate(zip([1, *widths], widths, strict=False)):
            encoder.append(convolution(inputs, outputs, 4, stride=2))
            if stage:  # the first stage keeps the level, which normalization takes away
                encoder.append(nn.GroupNorm(NORM_GROUPS, outputs))
            encoder += [nn.ReLU(), *_extra_layers(outputs, config, bottleneck=stage == STAGES - 1)]
        self.encoder = nn.Sequential(*encoder, convolution(widths[-1], config.latents, 3))
        decoder: list[nn.Module] = [convolution(config.latents, widths[-1], 3), nn.ReLU()]
        for stage, (inputs, outputs) in enumerate(zip(widths[::-1], [*widths[-2::-1], 1], strict=True)):
            decoder += [*_extra_layers(inputs, config, bottleneck=stage == 0), nn.Upsample(scale_factor=2)]
            decoder.append(convolution(inputs, outputs, 3))
            if stage < STAGES - 1:
                decoder += [nn.GroupNorm(NORM_GROUPS, outputs), nn.ReLU()]
        self.decoder = nn.Sequential(*decoder)
        # a quarter faster on a CPU; torch's hints lack this overload of Module.to
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, decibel: Tensor) -> Tensor:
        """Compute latents of mean 0 and variance 1 over each tile.

        Parameters
        ----------
        decibel : Tensor of float32, shape (tile, y, x), dB
            Rows and columns are multiples of 16.

        Returns
        -------
        Tensor of float32, shape (tile, latent, y / 16, x / 16)
        """
        unit = ((decibel - self.lowest_db) / (self.highest_db - self.lowest_db)).clamp(0, 1)
        return F.group_norm(self.encoder(unit[:, None]).float(), 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Compute pixels on [0, 1] from latents.

        Parameters
        ----------
        latents : Tensor of float32, shape (tile, latent, y_latent, x_latent)

        Returns
        -------
        Tensor of float32, shape (tile, 16 y_latent, 16 x_latent)
        """
        return torch.sigmoid(self.decoder(latents).float())[:, 0]

    def decibel(self, unit: Tensor) -> Tensor:
        """Convert values on [0, 1] to dB."""
        return self.lowest_db + (self.highest_db - self.lowest_db) * unit

    def loss(self, batch: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Compute the loss with uniform noise of a random width for each patch; see the class.

        Parameters and returned value are those of `xsarcomp.training.interfaces.Trainable.loss`.
        """
        latents = self.encode(batch)
        low, high = math.log(self.config.smallest_step), math.log(self.config.largest_step)
        drawn = torch.rand((len(batch), 1, 1, 1), generator=generator, device=generator.device)
        noise = torch.rand(latents.shape, generator=generator, device=generator.device) - 0.5
        return self._losses(batch, latents + torch.exp(low + (high - low) * drawn) * noise)

    def loss_at(self, batch: Tensor, step: float) -> dict[str, Tensor]:
        """Compute the loss with latents rounded to multiples of a step, as the codec rounds.

        Parameters
        ----------
        batch : Tensor of float32, shape (tile, y, x), dB
        step : float

        Returns
        -------
        dict of str to Tensor
            "loss", "ssim", "rmse_db".
        """
        return self._losses(batch, step * torch.round(self.encode(batch) / step))

    def _losses(self, batch: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """Compare a batch with what decoding makes of latents."""
        unit = self.decode(latents)
        with torch.autocast(batch.device.type, enabled=False):
            target_db = batch.clamp(self.lowest_db, self.highest_db)
            similarity = structural_similarity(target_db, self.decibel(unit))
            error = ((target_db - self.decibel(unit)) ** 2).mean()  # dB squared
            weight, scale = self.config.ssim_weight, (self.highest_db - self.lowest_db) ** 2
            loss = (1 - weight) * error / scale + weight * (1 - similarity)
        return {"loss": loss, "ssim": similarity.detach(), "rmse_db": error.detach().sqrt()}


def structural_similarity(first_db: Tensor, second_db: Tensor) -> Tensor:
    """Compute the mean structural similarity of `xsarcomp.metrics.fidelity.structural_similarity`, with gradients.

    Parameters
    ----------
    first_db, second_db : Tensor of float32, shape (tile, y, x), dB
        At least 7 x 7 pixels.

    Returns
    -------
    Tensor of float32, scalar
        Mean over all windows of 7 x 7 pixels inside the tiles, -1..1.

    References
    ----------
    Wang et al. (2004), IEEE Trans. Image Processing 13(4); uniform window, sample covariance, range 50 dB.
    """
    level = first_db.detach().mean()  # squares of values near zero keep more digits
    values = torch.stack([first_db - level, second_db - level], dim=1)
    products = torch.cat([values, values**2, values[:, :1] * values[:, 1:]], dim=1)
    means = F.avg_pool2d(F.avg_pool2d(products, (SSIM_WINDOW, 1), stride=1), (1, SSIM_WINDOW), stride=1)
    first, second, first_square, second_square, product = means.unbind(1)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    variances = sample * (first_square - first**2 + second_square - second**2)
    covariance = sample * (product - first * second)
    first, second = first + level, second + level
    c1, c2 = (0.01 * SSIM_RANGE_DB) ** 2, (0.03 * SSIM_RANGE_DB) ** 2
    luminance = (2 * first * second + c1) / (first**2 + second**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean()
