"""The systems that can be trained, by the name that a training file gives as ``architecture``.

Parts are named as strings and imported when they are needed, so that no system loads or knows another.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from xsarcomp.codec.model_card import CLASSIC
from xsarcomp.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Parts of a system, each named as ``module:name``."""

    network: str
    """Frozen dataclass of the table ``[network]``, a `xsarcomp.models.config.NetworkConfig`."""
    train: str
    """Function ``(config, train_planes, validation_planes, *, resume, report) -> Path`` that trains and writes a model file."""


SYSTEMS = {
    "lapped-residual": System(
        network="xsarcomp.codec.network.config:RefinerConfig", train="xsarcomp.models.refiner.task:train_refiner"
    ),
    CLASSIC: System(
        network="xsarcomp.models.classic.network:ClassicConfig", train="xsarcomp.models.classic.task:train_classic"
    ),
}
"""Systems by architecture."""


def system(architecture: str) -> System:
    """Look up the system of an architecture.

    Parameters
    ----------
    architecture : str

    Returns
    -------
    System

    Raises
    ------
    ConfigurationError
        If no system has this name.
    """
    if architecture not in SYSTEMS:
        raise ConfigurationError(f"architecture is {architecture!r}, expected one of {', '.join(SYSTEMS)}")
    return SYSTEMS[architecture]


def load(part: str) -> Any:
    """Import a part of a system.

    Parameters
    ----------
    part : str
        ``module:name``.

    Returns
    -------
    object
        The class or function of this name.
    """
    module, _, name = part.partition(":")
    return getattr(importlib.import_module(module), name)
