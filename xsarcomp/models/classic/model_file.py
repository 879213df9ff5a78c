"""Model files of classic autoencoders: written, read and found by name.

Such a file is found, named and verified like any model (:mod:`xsarcomp.codec.installed_models`), but contains weights in
floating point and a card of its own. Stores refuse it, because they guarantee exact symbols.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from xsarcomp.codec.installed_models import model_content, resolve_model
from xsarcomp.codec.model_card import CLASSIC, NAME_PATTERN
from xsarcomp.codec.model_file import arrays_and_card
from xsarcomp.errors import MissingDependencyError, ModelError, ModelIntegrityError

if TYPE_CHECKING:
    from xsarcomp.models.classic.codec import ClassicCodec

CARD_FORMAT = 1
"""Version of the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicCard:
    """Description of a classic autoencoder in its model file, beside the weights."""

    name: str
    """Lower case letters, digits, dots and dashes."""
    network: Mapping[str, Any]
    """Fields of `xsarcomp.models.classic.network.ClassicConfig`."""
    offset_db: float
    """Mean of the training split, dB."""
    lowest_db: float
    """Level that becomes 0 at the input of the network, dB."""
    highest_db: float
    """Level that becomes 1, dB."""

    def __post_init__(self) -> None:
        levels = (self.lowest_db, self.offset_db, self.highest_db)
        if not (
            isinstance(self.name, str)
            and NAME_PATTERN.fullmatch(self.name)
            and isinstance(self.network, Mapping)
            and all(type(level) is float and math.isfinite(level) for level in levels)
            and self.lowest_db < self.highest_db
        ):
            raise ModelIntegrityError(
                f"the card of the classic autoencoder is not valid: {self}. Install the model again."
            )


def classic_model_bytes(card: ClassicCard, weights: Mapping[str, NDArray]) -> bytes:
    """Write a model file to bytes; the same input gives the same bytes.

    Parameters
    ----------
    card : ClassicCard
    weights : mapping of str to ndarray of float32
        State of a `xsarcomp.models.classic.network.ClassicAutoencoder`.

    Returns
    -------
    bytes
        A safetensors file.
    """
    record = {"architecture": CLASSIC, "format": CARD_FORMAT, **asdict(card)}
    # safetensors writes the memory of an array and ignores its strides
    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(weights.items())}
    return safetensors.numpy.save(arrays, metadata={"card": json.dumps(record, sort_keys=True, separators=(",", ":"))})


def classic_codec_from_bytes(content: bytes) -> "ClassicCodec":
    """Build the codec from the bytes of a model file, as :func:`classic_model_bytes` writes it.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    ClassicCodec

    Raises
    ------
    ModelIntegrityError
        If the bytes are no such file or a value breaks a rule.
    ModelError
        If they are a model of another architecture.
    """
    arrays, text = arrays_and_card(content)
    entries = _card_entries(text)
    architecture = entries.pop("architecture", None)
    if architecture != CLASSIC:
        raise ModelError(
            f"the model has the architecture {architecture!r}, expected {CLASSIC!r}: "
            "load it with xsarcomp.codec.installed_models.load_coder"
        )
    if entries.pop("format", None) != CARD_FORMAT or set(entries) != {field.name for field in fields(ClassicCard)}:
        raise ModelIntegrityError(
            f"the card of the classic autoencoder has the fields {sorted(entries)}, expected those of format {CARD_FORMAT}: "
            "update xsarcomp, or install the model again"
        )
    return _codec(ClassicCard(**entries), arrays, hashlib.sha256(content).hexdigest())


def _card_entries(text: str) -> dict[str, Any]:
    """Parse the card of a model of any architecture."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelIntegrityError(f"the model card is not readable JSON ({error}). Install the model again.") from error
    if not isinstance(entries, dict):
        raise ModelIntegrityError(
            f"the model card is of type {type(entries).__name__}, expected fields. Install the model again."
        )
    return entries


def is_classic(model: str) -> bool:
    """Return True if an installed model is a classic autoencoder.

    Parameters
    ----------
    model : str
        Name or 64-digit id.

    Returns
    -------
    bool

    Raises
    ------
    ModelNotFoundError
        If no installed model has that name or id.
    ModelIntegrityError
        If the file is damaged.
    """
    _, text = arrays_and_card(model_content(resolve_model(model)))
    return _card_entries(text).get("architecture") == CLASSIC


def _codec(card: ClassicCard, arrays: Mapping[str, NDArray], model_id: str) -> "ClassicCodec":
    """Build the codec from a card and weights that must fit it."""
    try:
        from xsarcomp.models.classic.codec import ClassicCodec
    except ImportError as error:
        raise MissingDependencyError(
            f"model {card.name!r} needs PyTorch, which is not installed. Install it with: pip install torch"
        ) from error
    return ClassicCodec.from_weights(
        arrays,
        network=card.network,
        levels_db=(card.lowest_db, card.offset_db, card.highest_db),
        name=card.name,
        model_id=model_id,
    )


def load_classic(model: str) -> "ClassicCodec":
    """Load an installed classic autoencoder.

    Parameters
    ----------
    model : str
        Name or 64-digit id of a model in the folders of ``XSARCOMP_MODEL_PATH``.

    Returns
    -------
    ClassicCodec

    Raises
    ------
    ModelNotFoundError
        If no installed model has that name or id.
    ModelIntegrityError
        If the file is not the one that its id says, or breaks a rule.
    ModelError
        If it is a model of another architecture.
    """
    return classic_codec_from_bytes(model_content(resolve_model(model)))
