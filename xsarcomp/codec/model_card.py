"""The card of a model: the numbers and names that a decoder needs beside the arrays, as strict JSON in the model file.

A model has one set of entropy tables for each of several quantization steps. The card calls the index of a set the *anchor*
and its step an anchor step.
"""

import json
import math
import re
from dataclasses import asdict, dataclass, fields

from xsarcomp.codec.trellis import BLOCK_TRELLIS, Trellis
from xsarcomp.errors import ModelError, ModelIntegrityError

CARD_FORMAT = 1
LARGEST_OFFSET_DB = 100.0
"""Largest magnitude of the offset: signals of +-500 dB stay within the range of the exact analysis."""
ARCHITECTURES = ("lapped", "lapped-residual")
"""Architectures that stores can use."""
CLASSIC = "classic"
"""Architecture with model files of its own kind, see :mod:`xsarcomp.models.classic.model_file`; no store uses it."""
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
MODEL_ID_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Numbers and names that determine, with the arrays, how a stream of a model is decoded."""

    name: str
    """Lower case letters, digits, dots and dashes, for example ``s1-grd-10m``."""
    architecture: str
    """"lapped": only the lapped transform; "lapped-residual": with a network that refines decoded latents."""
    network: dict[str, int] | None
    """Sizes of the network (``channels``, ``blocks``); None without one."""
    offset_db: float
    """Decibels that become signal 0: the mean of the training split."""
    lowest_db: float
    """Smallest value in dB of the training split."""
    highest_db: float
    """Largest value in dB of the training split."""
    anchor_steps_db: tuple[float, ...]
    """Quantization step in dB of each table set, ascending."""
    lagrangian: float
    """Squared steps that one bit is worth to the encoder."""
    mean_corrections_db: tuple[float, ...]
    """Decibels added to decoded values at the step of each table set, so that the mean power stays; interpolated between."""
    texture_gains: tuple[float, ...]
    """Factor of all latents but the lowest at the step of each table set, which restores variance that quantization removed;
    interpolated between."""
    trellis: Trellis = BLOCK_TRELLIS
    """States and cells of trellis-coded quantization."""

    def __post_init__(self) -> None:
        numbers = (self.offset_db, self.lowest_db, self.highest_db, self.lagrangian)
        problems = []
        if not NAME_PATTERN.fullmatch(self.name):
            problems.append(f"name {self.name!r} has other characters than a-z, 0-9, dot and dash")
        if self.architecture not in ARCHITECTURES:
            problems.append(f"architecture {self.architecture!r} is none of {ARCHITECTURES}")
        if (self.network is None) != (self.architecture == "lapped"):
            problems.append("only the architecture 'lapped' has no network")
        if self.network is not None and (
            set(self.network) != {"channels", "blocks"}
            or not all(type(size) is int for size in self.network.values())
            or not (1 <= self.network["channels"] <= 1024 and 1 <= self.network["blocks"] <= 32)
        ):
            problems.append(f"network {self.network} is not channels of 1 to 1024 and blocks of 1 to 32")
        if not all(
            math.isfinite(number)
            for number in numbers + self.anchor_steps_db + self.mean_corrections_db + self.texture_gains
        ):
            problems.append("a number is not finite")
        elif not (
            self.anchor_steps_db
            and self.anchor_steps_db[0] > 0
            and list(self.anchor_steps_db) == sorted(set(self.anchor_steps_db))
        ):
            problems.append("anchor_steps_db are not positive and ascending")
        if not abs(self.offset_db) <= LARGEST_OFFSET_DB:
            problems.append(f"offset_db {self.offset_db} is beyond {LARGEST_OFFSET_DB}")
        if len(self.mean_corrections_db) != len(self.anchor_steps_db):
            problems.append("mean_corrections_db must have one number for each of anchor_steps_db")
        if len(self.texture_gains) != len(self.anchor_steps_db) or not all(0 < gain < 4 for gain in self.texture_gains):
            problems.append("texture_gains must have one number between 0 and 4 for each of anchor_steps_db")
        if problems:
            raise ModelIntegrityError(f"the model card is not valid: {'; '.join(problems)}. Install the model again.")

    def to_json(self) -> str:
        """Canonical JSON text: keys sorted, no spaces. Cards of the first models name no trellis."""
        content = asdict(self)
        if self.trellis == BLOCK_TRELLIS:
            del content["trellis"]
        return json.dumps({"format": CARD_FORMAT, **content}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card, and refuse unknown, missing or wrong fields.

        Parameters
        ----------
        text : str
            As :meth:`to_json` wrote it.

        Returns
        -------
        ModelCard

        Raises
        ------
        ModelIntegrityError
            If the text is not the JSON of a card of this format.
        ModelError
            If it is the card of a classic autoencoder.
        """
        try:
            content = json.loads(text)
            version = content.pop("format")
            architecture = content.get("architecture")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ModelIntegrityError(
                f"the model card is not readable JSON ({error}). Install the model again."
            ) from error
        if architecture == CLASSIC:
            raise ModelError(
                f"model {content.get('name')!r} is a classic autoencoder, expected one of the architectures {ARCHITECTURES}: its "
                "network computes in floating point, so no store can guarantee exact symbols with it. Choose another model, or "
                "use xsarcomp.models.classic.model_file.load_classic(...).encode_planes without a store"
            )
        if version != CARD_FORMAT:
            raise ModelIntegrityError(
                f"the model card has format {version!r}, this version of xsarcomp reads {CARD_FORMAT}: update xsarcomp"
            )
        names = {field.name for field in fields(cls)}
        if set(content) | {"trellis"} != names:
            raise ModelIntegrityError(
                f"the model card lacks {sorted(names - set(content))} or has unknown {sorted(set(content) - names)}"
            )
        try:
            for name in ("anchor_steps_db", "mean_corrections_db", "texture_gains"):
                if not isinstance(content[name], list):
                    raise TypeError(f"{name} is not a list")
                content[name] = tuple(_number(value) for value in content[name])
            for name in ("offset_db", "lowest_db", "highest_db", "lagrangian"):
                content[name] = _number(content[name])
            if "trellis" in content:
                content["trellis"] = Trellis.from_json(content["trellis"])
            return cls(**content)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelIntegrityError(f"the model card holds a value of the wrong type ({error})") from error


def _number(value: object) -> float:
    """A number of JSON as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
