"""Configuration of a training: one TOML file for each model, read by ``xsarcomp train``."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from xsarcomp.codec.model_card import NAME_PATTERN
from xsarcomp.errors import ConfigurationError
from xsarcomp.models.registry import load, system
from xsarcomp.training.augmentation import AugmentationConfig
from xsarcomp.training.patches import PatchConfig
from xsarcomp.training.scenes import SceneSource
from xsarcomp.training.schedule import LoopConfig

DEFAULT_ARCHITECTURE = "lapped-residual"
"""Architecture of a file that names none: the default codec."""


class NetworkConfig(Protocol):
    """Table ``[network]`` of a system: a frozen dataclass of the sizes of its network."""

    def check_patch(self, pixels: int) -> None:
        """Raise ConfigurationError if the network cannot be trained on patches of this edge in pixels."""


Network = TypeVar("Network", bound=NetworkConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(Generic[Network]):
    """Configuration of a training, for a system with a given type of network."""

    name: str
    """Name of the model. The default codec also writes a profile without the network, ``<name>-lapped``."""
    output: Path
    """Folder for checkpoints, tables, the log and the finished model files."""
    data: Path
    """Root of the scenes, or the folder ``planes`` that an earlier run wrote."""
    train: tuple[SceneSource, ...]
    """Scenes to train on."""
    validation: tuple[SceneSource, ...]
    """Scenes that choose the best weights and gate the model; no scene of the training split."""
    network: Network
    architecture: str = DEFAULT_ARCHITECTURE
    """One of `xsarcomp.models.registry.SYSTEMS`."""
    lagrangian: float = 0.12
    """Squared steps that one bit is worth to the encoder of the default codec; other systems ignore it."""
    patches: PatchConfig = field(default_factory=PatchConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1000))
    description: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the model's JSON file: data, license, limits."""

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(f"{self.name}-lapped"):
            raise ConfigurationError(f"name is {self.name!r}, expected at most 57 of a-z, 0-9, dot and dash")
        self.network.check_patch(self.patches.patch)


def read_config(path: Path, data: Path | None = None) -> TrainConfig[Any]:
    """Read a training configuration.

    Parameters
    ----------
    path : Path
        TOML file; relative folders in it start from the folder of the file.
    data : Path, optional
        Root of the scenes, instead of the one in the file.

    Returns
    -------
    TrainConfig
        Its network is of the type that the registry names for the architecture.

    Raises
    ------
    ConfigurationError
        If the file is no TOML, or a field is unknown, missing or wrong.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the training configuration {path.name}: {error}") from error
    architecture = table.get("architecture", DEFAULT_ARCHITECTURE)
    parsers: dict[str, Callable[[Any], Any]] = {
        "output": lambda value: (path.parent / value).resolve(),
        "data": lambda value: (path.parent / value).resolve(),
        "train": lambda value: tuple(SceneSource(**source) for source in value),
        "validation": lambda value: tuple(SceneSource(**source) for source in value),
        "network": lambda value: load(system(architecture).network)(**value),
        "patches": lambda value: PatchConfig(
            **{**value, "augmentation": AugmentationConfig(**value.get("augmentation", {}))}
        ),
        "loop": lambda value: LoopConfig(**value),
    }
    if data is not None:
        table["data"] = str(data.resolve())
    table.setdefault("network", {})
    try:
        return TrainConfig(**{name: parsers.get(name, lambda value: value)(value) for name, value in table.items()})
    except TypeError as error:
        known = ", ".join(config_field.name for config_field in dataclasses.fields(TrainConfig))
        raise ConfigurationError(f"{path.name}: {error}. The fields are: {known}") from error
