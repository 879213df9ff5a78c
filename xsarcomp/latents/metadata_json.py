"""Attributes of arrays as plain JSON, and back."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from xsarcomp.errors import UnsupportedFormatError, callers_level


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
