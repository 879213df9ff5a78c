"""Descriptions of encoded, transparent and decoded variables, in words and numbers."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.codec.model_card import MODEL_ID_PATTERN
from xsarcomp.codec.settings import Guarantees
from xsarcomp.display import html_block, html_table, listed, number, short, text_table
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS, loss_note
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.part_checks import with_added_coding
from xsarcomp.latents.plane_steps import CODING, STEP

_LABELS = {
    "store": "kind",
    "target": "asked for",
    "estimated_bits_per_pixel": "expected bits per pixel",
    "estimated_rmse_db": "expected RMSE",
    "step_db": "quantization step",
    "steps_db": "quantization steps",
    "max_error_db": "largest error allowed",
    "outside_training_range": "outside the training data",
    "scale_reason": "reason for the scale",
    "residual_spacing_db": "spacing of residuals",
    "keep_means": "means of tiles kept",
}
_FIRST = (
    "store",
    "target",
    "estimated_bits_per_pixel",
    "estimated_rmse_db",
    "model",
    "scale",
    "scale_reason",
    "step_db",
)


class Description(dict[str, dict[str, Any]]):
    """Settings of compressed variables by name: a dictionary that terminals and notebooks show as a table."""

    __slots__ = ()

    def _rows(self) -> list[list[str]]:
        """Words for each setting of at least one variable: a row for each setting, a column for each variable."""
        settings = [each if isinstance(each, Mapping) else {"value": each} for each in self.values()]
        found = dict.fromkeys(key for each in settings for key in each)
        keys = [*(key for key in _FIRST if key in found), *(key for key in found if key not in _FIRST)]
        rows = [[_label(key), *(_setting(key, each.get(key)) for each in settings)] for key in keys]
        return [row for row in rows if any(row[1:])]

    def _title(self) -> str:
        return f"info: {f'settings of {listed(self)}' if self else 'nothing was compressed by xsarcomp'}"

    def __repr__(self) -> str:
        rows = self._rows()
        same: dict[str, list[str]] = {}
        for column, name in enumerate(self, start=1):
            settings = text_table([[row[0], row[column]] for row in rows if row[column]], indent=2)
            same.setdefault(settings, []).append(name)
        parts = [f"{listed(names)}\n{settings}" for settings, names in same.items()]
        return "\n".join([f"<xsarcomp> {self._title()}", *parts])

    def _repr_html_(self) -> str:
        table = html_table(self._rows(), header=("setting", *map(short, self))) if self else ""
        return html_block(f"xsarcomp {self._title()}", table)


def _label(key: Any) -> str:
    return _LABELS.get(key) or short(key).replace("_", " ") if isinstance(key, str) else short(key)


def _setting(key: Any, value: Any) -> str:
    """Words for a setting; empty for None and for what is nothing."""
    is_nothing = value is None or (isinstance(value, str | list | tuple | dict) and not value)
    if is_nothing or (key == "residual_spacing_db" and value == 0):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return listed(map(number, value))
    if isinstance(value, Mapping):
        return short(dict(value))
    if str(key).startswith("model") and _is_id(value):
        return short(value, 17)
    if key == "dtype":
        return type_words(value)
    if key == "outside_training_range" and isinstance(value, int | float):
        return f"{value:.3%} of the sample's values"
    if isinstance(value, str):
        return short(value, 500)
    return f"{number(value)} dB" if str(key).endswith("_db") else number(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and MODEL_ID_PATTERN.fullmatch(value) is not None


def type_words(name: Any) -> str:
    """Data type in words: "float32" for "<f4"; short text for what is none."""
    try:
        return np.dtype(name).name
    except (TypeError, ValueError, SyntaxError):
        return short(name)


def guarantee_words(guarantees: Guarantees) -> str:
    """Words for guarantees.

    Parameters
    ----------
    guarantees : Guarantees

    Returns
    -------
    str
        "none" without one.
    """
    words = []
    if guarantees.max_error_db is not None:
        words.append(f"no valid pixel is off by more than {number(guarantees.max_error_db)} dB")
    if guarantees.keep_means:
        words.append("mean power of each tile of 64 x 64 pixels is kept")
    return "; ".join(words) or "none"


def describe(dataset: xr.Dataset) -> Description:
    """Describe encoded, transparent and decoded variables; see ``.sarcomp.info``.

    Parameters
    ----------
    dataset : xarray.Dataset

    Returns
    -------
    Description
        A dictionary of dictionaries, by the name of the backscatter variable. ``store`` is "latents", "transparent" or
        "decoded"; the other keys are those of the metadata, of the codec's configuration, or ``loss`` and, until it is written
        to a file, ``settings``. ``steps_db`` lists the steps of joined planes that differ.
    """
    described = Description()
    for name, array in dataset.variables.items():
        if ATTRIBUTE in array.attrs:
            metadata = with_added_coding(dataset, LatentsMetadata.from_attribute(array.attrs[ATTRIBUTE]))
            left_out = ("attributes", "encoding", "name", "calm_variances_db2", "speckle_scales", "fingerprint")
            described[str(metadata.name)] = {"store": "latents"} | {
                key: value for key, value in metadata.to_dict().items() if key not in left_out
            }
            steps = _steps(dataset, metadata)
            if len(steps) == 1:
                described[str(metadata.name)]["step_db"] = steps[0]
            elif steps:
                described[str(metadata.name)]["steps_db"] = steps
        else:
            configuration = transparent_configuration(array)
            if configuration is not None:
                described[str(name)] = {"store": "transparent", **configuration}
            elif LOSS_ATTRIBUTE in array.attrs:
                described[str(name)] = {"store": "decoded", "loss": array.attrs[LOSS_ATTRIBUTE]}
                if LOSS_SETTINGS in array.encoding:
                    described[str(name)]["settings"] = array.encoding[LOSS_SETTINGS]
    return described


def _steps(dataset: xr.Dataset, metadata: LatentsMetadata) -> list[float]:
    """Different steps of the planes, in the order of the planes; empty without a coding. One place stands for a single plane."""
    coding = dataset.variables.get(metadata.part_names.get("coding"))
    if coding is None:
        return []
    steps = coding.isel({CODING: STEP})
    if not metadata.leading:
        steps = steps[:1, :1]
    return list(dict.fromkeys(np.asarray(steps.values, np.float64).ravel().tolist()))


def transparent_configuration(variable: xr.Variable) -> dict[str, Any] | None:
    """Configuration of the transparent codec from which a variable was opened.

    Parameters
    ----------
    variable : xarray.Variable
        With the encoding that xarray keeps on opening; codecs of Zarr, of numcodecs, or as dictionaries.

    Returns
    -------
    dict or None
        None if the variable was not opened from a transparent store.
    """
    return _configuration(variable.encoding)


def transparent_scales(encoding: Mapping[Hashable, Mapping[str, Any]]) -> dict[Hashable, str]:
    """Scale of each variable that an encoding for ``to_zarr`` compresses with the transparent codec."""
    found = ((name, _configuration(entries)) for name, entries in encoding.items())
    return {name: str(configuration["scale"]) for name, configuration in found if configuration}


def _configuration(encoding: Mapping[str, Any]) -> dict[str, Any] | None:
    """Configuration of the transparent codec in an encoding; None without one."""
    compressors = encoding.get("compressors")
    for candidate in [
        encoding.get("serializer"),
        *(compressors if isinstance(compressors, list | tuple) else [compressors]),
    ]:
        metadata = candidate if isinstance(candidate, dict) else None
        if hasattr(candidate, "to_dict"):
            metadata = candidate.to_dict()
        elif hasattr(candidate, "get_config"):
            settings = candidate.get_config()
            metadata = {"name": settings.pop("id"), "configuration": settings}
        if metadata and metadata.get("name") == "xsarcomp.backscatter":
            return dict(metadata["configuration"])
    return None


def mark_transparent(dataset: xr.Dataset) -> xr.Dataset:
    """Note the loss on variables that were opened from a transparent store, which a plain ``to_zarr`` wrote without a note.

    Parameters
    ----------
    dataset : xarray.Dataset
        Not changed.

    Returns
    -------
    xarray.Dataset
        Shallow copy.
    """
    return mark_lossy(dataset, transparent_scales({name: array.encoding for name, array in dataset.variables.items()}))


def mark_lossy(dataset: xr.Dataset, scales: Mapping[Hashable, str]) -> xr.Dataset:
    """Note on variables of some scales that they were compressed with loss, where they do not say so; on a shallow copy."""
    result = dataset.copy()
    for name in scales.keys() & result.variables.keys():
        result[name].attrs.setdefault(LOSS_ATTRIBUTE, loss_note(scales[name]))
    return result
