"""Sizes of the network that refines latents."""

from dataclasses import dataclass

from xsarcomp.codec.lapped import BLOCK
from xsarcomp.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerConfig:
    """Sizes of the residual network and the range of quantization steps that it is trained for.

    Raises
    ------
    ConfigurationError
        If a size or a step is out of range.
    """

    channels: int = 128
    """Width of the network, 1 to 1024."""
    blocks: int = 3
    """Number of residual blocks, 1 to 32; each adds one latent (8 pixels) to the halo."""
    smallest_step_db: float = 0.3
    """Smallest quantization step in training, dB."""
    largest_step_db: float = 20.0
    """Largest quantization step in training, dB."""
    start_from: str | None = None
    """Name or id of an installed model, of the same sizes, whose network the training starts from; zero if not given."""

    def __post_init__(self) -> None:
        if not (1 <= self.channels <= 1024 and 1 <= self.blocks <= 32):
            raise ConfigurationError(f"channels {self.channels} and blocks {self.blocks}: expected 1..1024 and 1..32")
        if not 0 < self.smallest_step_db <= self.largest_step_db:
            raise ConfigurationError(
                f"steps from {self.smallest_step_db} to {self.largest_step_db} dB: expected 0 < smallest <= largest"
            )

    @property
    def reach(self) -> int:
        """Latents on each side that an output depends on.

        One for the differences of the lowest channel, one for the entry layer, and one for each block.
        """
        return self.blocks + 2

    def check_patch(self, pixels: int) -> None:
        """Refuse training patches of which no latents remain once the borders are cut off.

        Parameters
        ----------
        pixels : int
            Edge of a training patch.

        Raises
        ------
        ConfigurationError
            If the patch is too small.
        """
        smallest = BLOCK * (2 * self.reach + 3)
        if pixels < smallest:
            raise ConfigurationError(f"patch is {pixels} pixels, expected at least {smallest} for {self.blocks} blocks")
