"""What a decoder must know about a model beside its arrays: a small, strict JSON record inside the model file."""

import json
import math
import re
from dataclasses import asdict, dataclass, fields

from xsarcomp.errors import ModelError, ModelIntegrityError

CARD_FORMAT = 1
LARGEST_OFFSET_DB = 100.0  # keeps signals of +-500 dB within the range of the exact analysis
ARCHITECTURES = ("lapped", "lapped-residual")
CLASSIC = "classic"  # has model files of its own kind, which no store uses: classic_weights
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
MODEL_ID_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Everything but arrays that decides how a stream of this model is read."""

    name: str
    """Lower case letters, digits, dots and dashes, for example ``s1-grd-10m``."""
    architecture: str
    """"lapped": the lapped transform alone; "lapped-residual": with a network that refines decoded latents."""
    network: dict[str, int] | None
    """Sizes of the network (``channels``, ``blocks``); None without one."""
    offset_db: float
    """Level in dB that becomes signal 0: the mean of the training split."""
    lowest_db: float
    """Smallest value in dB of the training split."""
    highest_db: float
    """Largest value in dB of the training split."""
    anchor_steps_db: tuple[float, ...]
    """Quantization steps in dB that have their own tables, ascending."""
    lagrangian: float
    """Squared steps that one bit is worth to the encoder."""
    mean_corrections_db: tuple[float, ...]
    """Added to decoded values at each anchor, so that the mean power stays; interpolated between anchors."""
    texture_gains: tuple[float, ...]
    """Factor of all latents but the lowest at each anchor, which gives back variance that quantization took."""

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
            problems.append("anchor steps are not positive and ascending")
        if not abs(self.offset_db) <= LARGEST_OFFSET_DB:
            problems.append(f"the offset {self.offset_db} dB is beyond {LARGEST_OFFSET_DB}")
        if len(self.mean_corrections_db) != len(self.anchor_steps_db):
            problems.append("there must be one mean correction an anchor")
        if len(self.texture_gains) != len(self.anchor_steps_db) or not all(0 < gain < 4 for gain in self.texture_gains):
            problems.append("there must be one texture gain an anchor, between 0 and 4")
        if problems:
            raise ModelIntegrityError(f"the model card is not valid: {'; '.join(problems)}. Install the model again.")

    def to_json(self) -> str:
        """Canonical JSON text: keys sorted, no spaces."""
        return json.dumps({"format": CARD_FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card; unknown, missing or wrong fields are refused.

        Raises
        ------
        ModelIntegrityError
            If the text is not the JSON of a card of this format.
        ModelError
            If it is the card of a classic autoencoder.
        """
        try:
            record = json.loads(text)
            version = record.pop("format")
            architecture = record.get("architecture")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ModelIntegrityError(
                f"the model card is not readable JSON ({error}). Install the model again."
            ) from error
        if architecture == CLASSIC:
            raise ModelError(
                f"model {record.get('name')!r} is a classic autoencoder, expected one of the architectures {ARCHITECTURES}: its "
                "network computes in floating point, so no store can promise exact symbols with it. Choose another model, or "
                "use xsarcomp.models.classic.model_file.load_classic(...).encode_planes without a store"
            )
        if version != CARD_FORMAT:
            raise ModelIntegrityError(
                f"the model card has format {version!r}, this version of xsarcomp reads {CARD_FORMAT}: update xsarcomp"
            )
        names = {field.name for field in fields(cls)}
        if set(record) != names:
            raise ModelIntegrityError(
                f"the model card lacks {sorted(names - set(record))} or has unknown {sorted(set(record) - names)}"
            )
        try:
            for name in ("anchor_steps_db", "mean_corrections_db", "texture_gains"):
                if not isinstance(record[name], list):
                    raise TypeError(f"{name} is no list")
                record[name] = tuple(_number(value) for value in record[name])
            for name in ("offset_db", "lowest_db", "highest_db", "lagrangian"):
                record[name] = _number(record[name])
            return cls(**record)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelIntegrityError(f"the model card holds a value of the wrong type ({error})") from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
