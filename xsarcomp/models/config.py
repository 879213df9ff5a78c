"""What ``xsarcomp train`` reads: one TOML file a model."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from xsarcomp.codec.model_card import NAME_PATTERN
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.errors import ConfigurationError
from xsarcomp.models.registry import load, system
from xsarcomp.training.augmentation import AugmentationConfig
from xsarcomp.training.patches import PatchConfig
from xsarcomp.training.scenes import SceneSource
from xsarcomp.training.schedule import LoopConfig

DEFAULT_ARCHITECTURE = "lapped-residual"
"""Architecture of a file that names none: the default codec."""


class Network(Protocol):
    """Table ``[network]`` of a system: a frozen dataclass of its sizes."""

    def check_patch(self, pixels: int) -> None:
        """Refuse training patches of an edge that does not fit, with a ConfigurationError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What ``xsarcomp train`` reads from a TOML file."""

    name: str
    """Name of the model with the network; the profile without it is called ``<name>-lapped``."""
    output: Path
    """Folder for checkpoints, tables, the log and the finished model files."""
    data: Path
    """Root of the scenes, or the folder ``planes`` that an earlier run wrote."""
    train: tuple[SceneSource, ...]
    """Scenes to train on."""
    validation: tuple[SceneSource, ...]
    """Scenes that choose the best weights and gate the model; no scene of the training split."""
    architecture: str = DEFAULT_ARCHITECTURE
    """The default codec, or "classic": the convolutional autoencoder, which no store uses."""
    lagrangian: float = 0.12
    """Squared steps that one bit is worth to the encoder; the classic autoencoder has no such choice."""
    network: Network = field(default_factory=RefinerConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1000))
    description: Mapping[str, Any] = field(default_factory=dict)
    """Copied into the model's JSON file: data, license, limits."""

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(f"{self.name}-lapped"):
            raise ConfigurationError(f"name is {self.name!r}, expected at most 57 of a-z, 0-9, dot and dash")
        self.network.check_patch(self.patches.patch)


def read_config(path: Path, data: Path | None = None) -> TrainConfig:
    """Read a training configuration.

    Parameters
    ----------
    path : Path
        TOML file; relative folders in it start from the file's own folder.
    data : Path, optional
        Root of the scenes, instead of the one in the file.

    Raises
    ------
    ConfigurationError
        If the file is no TOML, or a field is unknown, missing or wrong.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the training configuration {path.name}: {error}") from error
    network_type = load(system(record.get("architecture", DEFAULT_ARCHITECTURE)).network)
    parsers: dict[str, Callable] = {
        "output": lambda value: (path.parent / value).resolve(),
        "data": lambda value: (path.parent / value).resolve(),
        "train": lambda value: tuple(SceneSource(**source) for source in value),
        "validation": lambda value: tuple(SceneSource(**source) for source in value),
        "network": lambda value: network_type(**value),
        "patches": lambda value: PatchConfig(
            **{**value, "augmentation": AugmentationConfig(**value.get("augmentation", {}))}
        ),
        "loop": lambda value: LoopConfig(**value),
    }
    if data is not None:
        record["data"] = str(data.resolve())
    record.setdefault("network", {})
    try:
        return TrainConfig(**{name: parsers.get(name, lambda value: value)(value) for name, value in record.items()})
    except TypeError as error:
        known = ", ".join(config_field.name for config_field in dataclasses.fields(TrainConfig))
        raise ConfigurationError(f"{path.name}: {error}. The fields are: {known}") from error
