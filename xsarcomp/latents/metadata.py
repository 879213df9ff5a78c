"""Metadata of a latents variable: one attribute of plain JSON, from which the original variable is decoded.

The keys of the JSON are part of the format, and so are the fields that are named after them.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.error_bound import LARGEST_BOUND_DB
from xsarcomp.codec.frame import SCALES
from xsarcomp.codec.guarantees import LARGEST_SPACING_DB
from xsarcomp.codec.model_card import MODEL_ID_PATTERN
from xsarcomp.codec.settings import Guarantees, Settings
from xsarcomp.errors import NotEncodedError, UnsupportedFormatError, caller_stacklevel
from xsarcomp.scenes.variables import ATTRIBUTE

METADATA_FORMAT = 1
"""Version of the attribute."""
GUARANTEE_KEYS = ("max_error_db", "keep_means", "residual_spacing_db")
"""Keys of the guarantees: all are present where there is a guarantee, else none."""
OPTIONAL_KEYS = ("calm_variances_db2", "speckle_scales", "fingerprint", "mean_levels")
"""Keys that are present only with a value; stores of older formats lack them."""
KEYS = (
    "name", "dims", "spatial", "pixels", "corners", "dtype", "scale", "scale_reason", "nodata", "model", "model_id", "anchor",
    "step_db", "target", "estimated_bits_per_pixel", "estimated_rmse_db", "outside_training_range", "attributes", "encoding",
    *GUARANTEE_KEYS, *OPTIONAL_KEYS,
)  # fmt: skip
"""Keys of the attribute beside "format", in their order."""
LARGEST_SPECKLE_SCALE = 100.0
"""Largest factor of the variance of synthetic speckle that a reader accepts."""
LARGEST_DIMENSIONS = 64
"""Largest number of dimensions of a NumPy array."""
PARTS = ("latents", "mask", "exact", "residual", "gains", "coding")
"""Parts of a variable in a latents store: endings of the names of its variables, see :mod:`xsarcomp.latents.layout`."""
KEPT_ENCODING_KEYS = ("_FillValue", "grid_mapping")
"""Entries of ``encoding`` that describe the data and not how a file stored it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentsMetadata:
    """Metadata that decoding a latents variable needs beside its parts and the model."""

    name: str | None
    """Name of the original variable."""
    dims: tuple[str, ...]
    """Dimensions of the original variable, in their order."""
    spatial: tuple[str, str]
    """Vertical and horizontal dimension."""
    pixels: tuple[int, int]
    """Size along the vertical and the horizontal dimension."""
    corners: tuple[float | None, ...]
    """First and last coordinate of both (y, y, x, x), times in seconds; None without one. Detects a flipped scene."""
    dtype: str
    """Data type of the original variable, as NumPy writes it, such as ``<f4``."""
    settings: Settings
    """Quantization step, scale, nodata and guarantees."""
    scale_reason: str
    """Evidence for the scale, in words."""
    model: str
    """Name of the model, for people."""
    model_id: str
    """SHA-256 of the model file."""
    anchor: int
    """Number of the table set that the entropy coder uses."""
    target: str
    """Request of the user, in words."""
    estimated_bits_per_pixel: float
    """Rate on the sample that chose the step, bits per pixel."""
    estimated_rmse_db: float | None
    """RMS error on that sample, dB; None where it was not measured."""
    outside_training_range: float
    """Share of the sample's valid values outside the range of the training data, 0 to 1."""
    attributes: dict[str, Any]
    """Attributes of the original variable, see :func:`to_json`."""
    encoding: dict[str, Any]
    """Entries of the encoding of the original variable that ``KEPT_ENCODING_KEYS`` names."""
    calm_variances_db2: tuple[float, ...] | None = None
    """Variances of the latents in homogeneous areas, dB2, for :mod:`xsarcomp.codec.speckle`; None if too few to measure."""
    speckle_scales: dict[str, float] | None = None
    """Factors of the variance of synthetic speckle at the step of the settings: of all planes under the empty text, and beside
    that of positions such as "band=2"; see :mod:`xsarcomp.latents.speckle_scales`. None where nothing was measured."""
    fingerprint: int | None = None
    """Hash of the settings that joined planes must share, see :mod:`xsarcomp.latents.plane_steps`; None in single planes of the
    first stores."""
    uses_network: bool = True
    """Choice of a reader, never stored: False to decode without the network, see :mod:`xsarcomp.latents.quality`."""

    @property
    def leading(self) -> tuple[str, ...]:
        """Dimensions beside the spatial ones, such as time and polarization."""
        return tuple(dim for dim in self.dims if dim not in self.spatial)

    def to_dict(self) -> dict[str, Any]:
        """All values by the keys of the attribute, as Python objects."""
        settings = self.settings
        nested = {"step_db": settings.step_db, "scale": settings.scale, "nodata": settings.nodata}
        nested |= {key: getattr(settings.guarantees, key) for key in GUARANTEE_KEYS}
        nested["mean_levels"] = settings.guarantees.mean_levels or None
        return {key: nested[key] if key in nested else getattr(self, key) for key in KEYS}

    def to_attribute(self) -> dict[str, Any]:
        """Value of the attribute ``ATTRIBUTE``: plain JSON, with optional keys only where they have a value."""
        left_out = set() if self.settings.guarantees else set(GUARANTEE_KEYS)
        values = self.to_dict()
        left_out |= {key for key in OPTIONAL_KEYS if values[key] is None}
        return {"format": METADATA_FORMAT} | {key: to_json(values[key]) for key in values if key not in left_out}

    @classmethod
    def from_attribute(cls, value: Any) -> "LatentsMetadata":
        """Read metadata from the attribute; strict about its format, keys and values.

        Parameters
        ----------
        value : object
            Attribute of a latents variable as Zarr gives it.

        Returns
        -------
        LatentsMetadata

        Raises
        ------
        NotEncodedError
            If the value holds no metadata of xsarcomp.
        UnsupportedFormatError
            If it has another format or other keys, or a value that no encoder writes.
        """
        if not isinstance(value, Mapping) or "format" not in value:
            raise NotEncodedError(
                f"the attribute {ATTRIBUTE!r} holds no metadata of xsarcomp: the variable was not encoded by it"
            )
        keys = set(KEYS) - (set() if set(GUARANTEE_KEYS) & set(value) else set(GUARANTEE_KEYS))
        keys -= set(OPTIONAL_KEYS) - set(value)
        if value["format"] != METADATA_FORMAT or set(value) != {"format", *keys}:
            raise UnsupportedFormatError(
                f"the metadata have format {value['format']!r} and keys {sorted(map(str, value))}, this version reads format "
                f"{METADATA_FORMAT}: update xsarcomp"
            )
        try:
            loaded: dict[str, Any] = dict.fromkeys(OPTIONAL_KEYS) | {key: from_json(value[key]) for key in keys}
            loaded |= {name: tuple(loaded[name]) for name in ("dims", "spatial", "pixels", "corners")}
            loaded["calm_variances_db2"] = _homogeneous_variances(loaded["calm_variances_db2"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UnsupportedFormatError(
                f"a value of the metadata cannot be read ({error}): the store is damaged, or update xsarcomp"
            ) from error
        guarantees = {key: loaded.pop(key) for key in GUARANTEE_KEYS if key in loaded}
        guarantees["mean_levels"] = False if (levels := loaded.pop("mean_levels")) is None else levels
        settings = {key: loaded.pop(key) for key in ("step_db", "scale", "nodata")}
        metadata = cls(settings=Settings(**settings, guarantees=Guarantees(**guarantees)), **loaded)
        _check_values(metadata)
        return metadata

    @property
    def required_parts(self) -> tuple[str, ...]:
        """Parts without which the variable cannot be decoded."""
        guarantees = self.settings.guarantees
        bounded = ("residual",) if guarantees.residual_spacing_db else ()
        joined = ("coding",) if self.fingerprint is not None else ()
        gains = ("gains",) if guarantees.keep_means and not guarantees.mean_levels else ()
        return ("latents", "mask", *bounded, *gains, *joined)

    @property
    def channels(self) -> int:
        """Size of the dimension ``latent``: 64, and one for the mean levels of tiles where there are some."""
        return CHANNELS + self.settings.guarantees.mean_levels

    @property
    def part_names(self) -> dict[str, str]:
        """Names of the variables of the parts, by part; without guarantees a variable ``vv_gains`` is the user's own."""
        return {part: name for part, name in part_names(self.name).items() if part in (*self.required_parts, "exact")}


def _homogeneous_variances(values: Any) -> tuple[float, ...] | None:
    """Variances of latents from JSON; anything else is refused."""
    if values is None:
        return None
    if len(values) != CHANNELS or not all(isinstance(value, int | float) and 0 <= value < math.inf for value in values):
        raise ValueError(f"calm_variances_db2 holds {str(values)[:80]}, expected {CHANNELS} variances")
    return tuple(values)


def _check_values(metadata: LatentsMetadata) -> None:
    """Refuse values that no encoder writes: a data type of a million numbers a pixel would allocate that much memory."""
    settings, guarantees = metadata.settings, metadata.settings.guarantees
    dims, spatial = metadata.dims, metadata.spatial
    are_names = all(isinstance(name, str) for name in (*dims, *spatial))
    numbers = (int, float, np.integer, np.floating)
    is_right = {
        "name": metadata.name is None or isinstance(metadata.name, str),
        "dims": are_names and len(set(dims)) == len(dims) <= LARGEST_DIMENSIONS,
        "spatial": are_names and len(set(spatial)) == 2 == len(spatial) and {*spatial} <= {*dims},
        "pixels": len(metadata.pixels) == 2 and all(type(size) is int and size >= 0 for size in metadata.pixels),
        "corners": len(metadata.corners) == 4
        and all(corner is None or type(corner) in (int, float) for corner in metadata.corners),
        "dtype": _is_number_dtype(metadata.dtype),
        "scale": isinstance(settings.scale, str) and settings.scale in SCALES[1:],
        "nodata": settings.nodata is None or isinstance(settings.nodata, numbers),
        "model_id": isinstance(metadata.model_id, str) and bool(MODEL_ID_PATTERN.fullmatch(metadata.model_id)),
        "anchor": type(metadata.anchor) is int and 0 <= metadata.anchor < 256,
        "step_db": type(settings.step_db) in (int, float) and 0 < settings.step_db < 1000,
        "attributes": isinstance(metadata.attributes, dict),
        "encoding": isinstance(metadata.encoding, dict) and {*metadata.encoding} <= {*KEPT_ENCODING_KEYS},
        "max_error_db": guarantees.max_error_db is None or _is_between(guarantees.max_error_db, LARGEST_BOUND_DB),
        "keep_means": type(guarantees.keep_means) is bool,
        "mean_levels": type(guarantees.mean_levels) is bool
        and not (guarantees.mean_levels and (guarantees.max_error_db is not None or not guarantees.keep_means)),
        "residual_spacing_db": _is_between(guarantees.residual_spacing_db, LARGEST_SPACING_DB)
        and (guarantees.residual_spacing_db > 0) == (guarantees.max_error_db is not None),
        "speckle_scales": metadata.speckle_scales is None or _are_scales(metadata.speckle_scales),
        "fingerprint": metadata.fingerprint is None
        or (type(metadata.fingerprint) is int and 0 <= metadata.fingerprint < 2**48),
    }
    wrong = [name for name, right in is_right.items() if not right]
    if wrong or not isinstance(metadata.encoding.get("grid_mapping"), str | None):
        raise UnsupportedFormatError(
            f"the metadata have impossible values ({', '.join(wrong) or 'encoding'}): the store is damaged, or update xsarcomp"
        )


def _are_scales(value: Any) -> bool:
    """Check for positive factors by text."""
    return isinstance(value, dict) and all(
        isinstance(key, str) and _is_between(factor, LARGEST_SPECKLE_SCALE) and factor > 0
        for key, factor in value.items()
    )


def _is_between(value: Any, highest: float) -> bool:
    """Check for a number from 0 to ``highest``."""
    return type(value) in (int, float) and 0 <= value <= highest


def _is_number_dtype(name: Any) -> bool:
    """Check for the name of a NumPy data type of real numbers."""
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except (TypeError, ValueError, SyntaxError):
        return False
    return dtype is not None and dtype.kind in "fiu" and dtype.str == name


def part_names(name: str | None) -> dict[str, str]:
    """Names of the variables of all parts that a variable can have in a latents store, by part."""
    return {part: f"{name}_{part}" for part in PARTS}


def corner_coordinates(dataset: Any, spatial: tuple[Any, Any]) -> tuple[float | None, ...]:
    """First and last coordinate along the vertical and the horizontal dimension of a dataset or array.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataArray
    spatial : tuple of two dimension names

    Returns
    -------
    tuple of four float or None
        (y, y, x, x), times in seconds since 1970; None where there is no finite one-dimensional coordinate.
    """
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
    """Convert an attribute to plain JSON; NumPy values, tuples and numbers that are not finite are tagged.

    Parameters
    ----------
    value : object
        None, number, text, list, tuple, mapping, NumPy number or array.

    Returns
    -------
    None, bool, int, float, str, list or dict

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
    """Restore an attribute from its JSON; the inverse of :func:`to_json`.

    Parameters
    ----------
    value : None, bool, int, float, str, list or dict

    Returns
    -------
    object

    Raises
    ------
    UnsupportedFormatError, KeyError, TypeError, ValueError, AttributeError, OverflowError
        If the value is no JSON of :func:`to_json`.
    """
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
        raise UnsupportedFormatError(f"the metadata hold a value of type {dtype}: update xsarcomp")
    parse = {"b": lambda text: text == "True", "f": float}.get(dtype.kind, int)
    array = np.array([parse(item) for item in value["values"]], dtype).reshape(value["shape"])
    return array if array.ndim else array[()]


def storable_attributes(attributes: Mapping[Any, Any], name: Any) -> dict[str, Any]:
    """Select the attributes that can be stored; other Python objects are left out with a warning that names them.

    Parameters
    ----------
    attributes : mapping
        Attributes or encoding of a variable.
    name : str or None
        Name of the variable, for the warning.

    Returns
    -------
    dict of str to object
        Values that :func:`to_json` takes; an ``Affine`` becomes its six numbers.
    """
    storable, left_out = {}, []
    for key, value in attributes.items():
        if type(value).__module__.startswith("stackstac."):
            continue  # its RasterSpec repeats the attributes crs, transform and resolution
        value = tuple(value)[:6] if type(value).__name__ == "Affine" else value
        try:
            to_json(value)
        except TypeError:
            left_out.append(f"{key} ({type(value).__name__})")
        else:
            storable[str(key)] = value
    if left_out:
        warnings.warn(
            f"attributes of {name!r} that are Python objects cannot be stored and are left out: {', '.join(left_out)}",
            stacklevel=caller_stacklevel(),
        )
    return storable
