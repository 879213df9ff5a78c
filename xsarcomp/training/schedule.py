"""The schedule of a training: configuration of the loop, and the learning rate of each step."""

import math
from dataclasses import dataclass

from xsarcomp.errors import ConfigurationError

FINAL_LEARNING_RATE = 0.01
"""Learning rate of the last step, as a fraction of the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Length, rates and intervals of a training."""

    steps: int
    """Number of batches."""

    learning_rate: float = 1e-4
    """Peak learning rate of AdamW; deep autoencoders become unstable above some 1e-3."""

    warmup_steps: int = 0
    """Steps of linear warm-up to the peak."""

    gradient_clip: float = 1.0
    """Largest norm of the gradient over all parameters."""

    weight_decay: float = 0.0
    """Decoupled weight decay of matrices and kernels; vectors (biases, gains) get none."""

    seed: int = 0
    """Seed of all random numbers in the loop; the sampler has a seed of its own."""

    validate_every: int = 0
    """Steps between validations; 0 validates after the last step only."""

    checkpoint_every: int = 0
    """Steps between reports that contain the state; with 0 only those of the last and the best step do."""

    threads: int | None = None
    """CPU threads of torch while the loop runs; None leaves them unchanged. Bit-identical runs need the same number."""

    autocast_bfloat16: bool = False
    """Evaluate the loss in bfloat16 where torch considers that safe; weights stay in float32."""

    ema_decay: float = 0.999
    """Decay per step of the exponential moving average of the weights; 0 makes it equal the weights."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)!r}, expected {rule}"
            for name, rule, is_met in (
                ("steps", ">= 1", self.steps >= 1),
                ("learning_rate", "> 0", self.learning_rate > 0),
                ("warmup_steps", "0 to steps", 0 <= self.warmup_steps <= self.steps),
                ("gradient_clip", "> 0", self.gradient_clip > 0),
                ("weight_decay", ">= 0", self.weight_decay >= 0),
                ("validate_every", ">= 0", self.validate_every >= 0),
                ("checkpoint_every", ">= 0", self.checkpoint_every >= 0),
                ("threads", ">= 1 or None", self.threads is None or self.threads >= 1),
                ("ema_decay", "0 to below 1", 0 <= self.ema_decay < 1),
            )
            if not is_met
        ]
        if problems:
            raise ConfigurationError("; ".join(problems) + ". Correct the LoopConfig.")


def learning_rate_at(index: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine down to 1 % of the peak.

    Parameters
    ----------
    index : int
        Step, from 0 to ``config.steps - 1``.
    config : LoopConfig
        Peak, warm-up and length.

    Returns
    -------
    float
        Learning rate, > 0.

    References
    ----------
    Loshchilov and Hutter (2017), *SGDR*, equation 5, one period.
    """
    if index < config.warmup_steps:
        return config.learning_rate * (index + 1) / config.warmup_steps
    decay_steps = max(1, config.steps - 1 - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (index - config.warmup_steps) / decay_steps)))
    return config.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)
