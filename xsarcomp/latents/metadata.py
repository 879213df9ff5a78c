"""What a latents variable remembers of the variable it was made from: one attribute, plain JSON."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.error_bound import LARGEST_BOUND_DB
from xsarcomp.codec.frame import SCALES
from xsarcomp.codec.guarantees import LARGEST_SPACING_DB, Guarantees
from xsarcomp.codec.model_card import MODEL_ID_PATTERN
from xsarcomp.codec.window import Settings
from xsarcomp.errors import NotEncodedError, UnsupportedFormatError, callers_level
from xsarcomp.scenes.variables import ATTRIBUTE

LOSS_ATTRIBUTE = "sarcomp_lossy"
"""Attribute of decoded backscatter that says what was lost."""
RECORD_FORMAT = 1
GUARANTEED = ("max_error_db", "keep_means", "residual_spacing_db")
"""Fields of a record that are there where something was promised, all or none."""
OPTIONAL = ("calm_variances_db2", "fingerprint")
"""Fields that stand there only where they say something; earlier records lack them."""
LARGEST_DIMENSIONS = 64
"""As many as NumPy has."""
PARTS = ("latents", "mask", "exact", "residual", "gains", "coding")
"""Endings of the variables that stand for one variable in a latents store."""
KEPT_ENCODING = ("_FillValue", "grid_mapping")
"""Entries of ``encoding`` that describe the data and not how some file stored it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentsMetadata:
    """Everything that decoding a latents variable needs beside the latents, the mask and the model."""

    name: str | None
    """Name of the original variable."""
    dims: tuple[str, ...]
    """Its dimensions, in its order."""
    spatial: tuple[str, str]
    """Its vertical and horizontal dimension."""
    pixels: tuple[int, int]
    """Its size along them."""
    corners: tuple[float | None, ...]
    """First and last coordinate along them (y, y, x, x), times in seconds; None without one. Tells a flipped scene."""
    dtype: str
    """Its data type, as NumPy writes it."""
    scale: str
    """"power", "amplitude" or "decibel"."""
    scale_reason: str
    """How the scale was found."""
    nodata: float | None
    """Declared fill value among the values."""
    model: str
    """Name of the model, for people."""
    model_id: str
    """SHA-256 of the model file."""
    anchor: int
    """Table set of the entropy coder."""
    step_db: float
    """Quantization step in dB."""
    target: str
    """What the user asked for."""
    estimated_bits_per_pixel: float
    """Rate on the sample that chose the step."""
    estimated_rmse_db: float | None
    """Error on that sample, where it was measured."""
    outside_training_range: float
    """Share of the sample's valid values outside the range of the training data."""
    attributes: dict[str, Any]
    """Attributes of the original variable, see :func:`to_json`."""
    encoding: dict[str, Any]
    """The entries of its encoding named in ``KEPT_ENCODING``."""
    max_error_db: float | None = None
    """Bound on the error of a pixel; None without one."""
    keep_means: bool = False
    """Whether the mean power of each tile is kept."""
    residual_spacing_db: float = 0.0
    """Spacing of the residuals; 0 without a bound."""
    calm_variances_db2: tuple[float, ...] | None = None
    """Variances of its latents where it is calm, for :mod:`xsarcomp.codec.speckle`; None if it was too small to tell."""

    fingerprint: int | None = None
    """Tells what planes that are joined must have in common, see :mod:`xsarcomp.latents.plane_steps`; None without leading dimensions."""

    def to_attribute(self) -> dict[str, Any]:
        """Value for the attribute ``ATTRIBUTE``; optional fields stand there only where they say something."""
        left_out = set() if self.settings.guarantees else set(GUARANTEED)
        left_out |= {name for name in OPTIONAL if getattr(self, name) is None}
        values = {name: to_json(value) for name, value in asdict(self).items() if name not in left_out}
        return {"format": RECORD_FORMAT, **values}

    @classmethod
    def from_attribute(cls, value: Any) -> "LatentsMetadata":
        """LatentsMetadata from the attribute; strict about its format and fields.

        Raises
        ------
        NotEncodedError
            If the value is no record.
        UnsupportedFormatError
            If it is a record of another format.
        """
        if not isinstance(value, Mapping) or "format" not in value:
            raise NotEncodedError(
                f"the attribute {ATTRIBUTE!r} holds no record of xsarcomp: the variable was not encoded by it"
            )
        names = {field.name for field in fields(cls)}
        names -= set() if set(GUARANTEED) & set(value) else set(GUARANTEED)
        names -= set(OPTIONAL) - set(value)
        if value["format"] != RECORD_FORMAT or set(value) != {"format", *names}:
            raise UnsupportedFormatError(
                f"the record has format {value['format']!r} and fields {sorted(map(str, value))}, this version reads format "
                f"{RECORD_FORMAT}: update xsarcomp"
            )
        try:
            loaded = {name: from_json(value[name]) for name in names if name in value}
            loaded |= {name: tuple(loaded[name]) for name in ("dims", "spatial", "pixels", "corners")}
            loaded["calm_variances_db2"] = _calm_variances(loaded.get("calm_variances_db2"))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UnsupportedFormatError(
                f"a value of the record cannot be read ({error}): the store is damaged, or update xsarcomp"
            ) from error
        record = cls(**loaded)
        _check_values(record)
        return record

    @property
    def settings(self) -> Settings:
        """What the functions of a block need."""
        guarantees = Guarantees(**{name: getattr(self, name) for name in GUARANTEED})
        return Settings(step_db=self.step_db, scale=self.scale, nodata=self.nodata, guarantees=guarantees)

    @property
    def needed_parts(self) -> tuple[str, ...]:
        """Parts without which the variable cannot be decoded."""
        guarantees = self.settings.guarantees
        bounded = ("residual",) if guarantees.residual_spacing_db else ()
        joined = ("coding",) if self.fingerprint is not None else ()
        return ("latents", "mask", *bounded, *(("gains",) if guarantees.keep_means else ()), *joined)

    @property
    def part_names(self) -> dict[str, str]:
        """Names of its variables, by part; without guarantees a ``vv_gains`` is the user's own."""
        return {part: name for part, name in part_names(self.name).items() if part in (*self.needed_parts, "exact")}

    def loss(self, *, speckle_restored: bool = False) -> str:
        """What was lost, and made up again, in one line for the attributes of decoded data."""
        earlier = self.attributes.get(LOSS_ATTRIBUTE)
        keeps_means = self.keep_means and not speckle_restored  # noise has a mean of 1, but not in each tile
        return ("" if earlier is None else f"{earlier}; then ") + (
            f"xsarcomp: decoded from latents of model {self.model} ({self.model_id[:16]}), quantization step {self.step_db:.5g} dB"
            + ("" if self.fingerprint is None else " unless planes were joined from other encodings")
            + ", "
            f"asked for {self.target}"
            + ("" if self.max_error_db is None else f"; no valid pixel is off by more than {self.max_error_db:g} dB")
            + ("; the mean power of tiles of 64 x 64 pixels is kept" if keeps_means else "")
            + ("; speckle restored: noise was made up and added" if speckle_restored else "")
        )


def _calm_variances(values: Any) -> tuple[float, ...] | None:
    """Variances of latents; anything else is refused."""
    if values is None:
        return None
    if len(values) != CHANNELS or not all(isinstance(value, int | float) and 0 <= value < math.inf for value in values):
        raise ValueError(f"calm_variances_db2 holds {str(values)[:80]}, expected {CHANNELS} variances")
    return tuple(values)


def _check_values(record: LatentsMetadata) -> None:
    """Refuse values that no encoder writes: a type of a million numbers a pixel would ask for that much memory."""
    names = all(isinstance(name, str) for name in (*record.dims, *record.spatial))
    numbers = (int, float, np.integer, np.floating)
    right = {
        "name": record.name is None or isinstance(record.name, str),
        "dims": names and len(set(record.dims)) == len(record.dims) <= LARGEST_DIMENSIONS,
        "spatial": names
        and len(set(record.spatial)) == 2 == len(record.spatial)
        and {*record.spatial} <= {*record.dims},
        "pixels": len(record.pixels) == 2 and all(type(size) is int and size >= 0 for size in record.pixels),
        "corners": len(record.corners) == 4 and all(one is None or type(one) in (int, float) for one in record.corners),
        "dtype": _is_number_dtype(record.dtype),
        "scale": isinstance(record.scale, str) and record.scale in SCALES[1:],
        "nodata": record.nodata is None or isinstance(record.nodata, numbers),
        "model_id": isinstance(record.model_id, str) and MODEL_ID_PATTERN.fullmatch(record.model_id),
        "anchor": type(record.anchor) is int and 0 <= record.anchor < 256,
        "step_db": type(record.step_db) in (int, float) and 0 < record.step_db < 1000,
        "attributes": isinstance(record.attributes, dict),
        "encoding": isinstance(record.encoding, dict) and {*record.encoding} <= {*KEPT_ENCODING},
        "max_error_db": record.max_error_db is None or _is_between(record.max_error_db, LARGEST_BOUND_DB),
        "keep_means": type(record.keep_means) is bool,
        "residual_spacing_db": _is_between(record.residual_spacing_db, LARGEST_SPACING_DB)
        and (record.residual_spacing_db > 0) == (record.max_error_db is not None),
        "fingerprint": record.fingerprint is None
        or (type(record.fingerprint) is int and 0 <= record.fingerprint < 2**48),
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    if wrong or not isinstance(record.encoding.get("grid_mapping"), str | None):
        raise UnsupportedFormatError(
            f"the record holds values that cannot be ({', '.join(wrong) or 'encoding'}): the store is damaged, or update xsarcomp"
        )


def _is_between(value: Any, highest: float) -> bool:
    return type(value) in (int, float) and 0 <= value <= highest


def _is_number_dtype(name: Any) -> bool:
    """Whether this is the name of a type of single numbers."""
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except (TypeError, ValueError, SyntaxError):
        return False
    return dtype is not None and dtype.kind in "fiu" and dtype.str == name


def part_names(name: str | None) -> dict[str, str]:
    """Names of the variables that stand for a variable in a latents store, by part."""
    return {part: f"{name}_{part}" for part in PARTS}


def corner_coordinates(dataset: Any, spatial: tuple[Any, Any]) -> tuple[float | None, ...]:
    """First and last coordinate along the vertical and the horizontal dimension of a dataset or array."""
    corners: list[float | None] = []
    for name in spatial:
        values = dataset.coords[name].values if name in dataset.coords else np.empty(0)
        if values.dtype.kind == "M":
            values = values.astype("datetime64[ns]").astype(np.int64) / 1e9
        usable = values.ndim == 1 and values.size and values.dtype.kind in "iuf"
        usable = usable and bool(np.isfinite(values[[0, -1]]).all())
        corners += [float(values[0]), float(values[-1])] if usable else [None, None]
    return tuple(corners)


def to_json(value: Any) -> Any:
    """Plain JSON from an attribute; NumPy values, tuples and numbers that are not finite are tagged.

    Raises
    ------
    TypeError
        If a value has no JSON form.
    """
    if value is None or isinstance(value, bool | str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return {"float": repr(value)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
        array = np.asarray(value)
        return {
            "numpy": array.dtype.str,
            "shape": list(array.shape),
            "values": [repr(item) for item in array.ravel().tolist()],
        }
    if isinstance(value, np.str_ | np.ndarray) and np.asarray(value).dtype.kind == "U":
        return np.asarray(value).tolist()
    if isinstance(value, tuple):
        return {"tuple": [to_json(item) for item in value]}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {"mapping": {str(key): to_json(item) for key, item in value.items()}}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(value: Any) -> Any:
    """Attribute from its JSON; the inverse of :func:`to_json`."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "float" in value:
        return float(value["float"])
    if "tuple" in value:
        return tuple(from_json(item) for item in value["tuple"])
    if "mapping" in value:
        return {key: from_json(item) for key, item in value["mapping"].items()}
    dtype = np.dtype(value["numpy"])
    if dtype.kind not in "fiub":
        raise UnsupportedFormatError(f"the record holds a value of type {dtype}: update xsarcomp")
    parse = {"b": lambda text: text == "True", "f": float}.get(dtype.kind, int)
    array = np.array([parse(item) for item in value["values"]], dtype).reshape(value["shape"])
    return array if array.ndim else array[()]


def kept_attributes(attributes: Mapping[Any, Any], name: Any) -> dict[str, Any]:
    """Attributes that can be stored; objects of Python are left out with a warning that names them."""
    kept, lost = {}, []
    for key, value in attributes.items():
        if type(value).__module__.startswith("stackstac."):
            continue  # its RasterSpec says what crs, transform and resolution beside it say
        value = tuple(value)[:6] if type(value).__name__ == "Affine" else value
        try:
            to_json(value)
        except TypeError:
            lost.append(f"{key} ({type(value).__name__})")
        else:
            kept[str(key)] = value
    if lost:
        warnings.warn(
            f"attributes of {name!r} that are Python objects cannot be stored and are left out: {', '.join(lost)}",
            stacklevel=callers_level(),
        )
    return kept
