"""Descriptions of encoded, transparent and decoded variables, in words and numbers."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS, loss_note
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.part_checks import with_added_coding
from xsarcomp.latents.plane_steps import CODING, STEP


def describe(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Describe encoded, transparent and decoded variables; see ``.sarcomp.info``.

    Parameters
    ----------
    dataset : xarray.Dataset

    Returns
    -------
    dict of str to dict
        By the name of the backscatter variable. ``store`` is "latents", "transparent" or "decoded"; the other keys are those
        of the metadata, of the codec's configuration, or ``loss`` and, until it is written to a file, ``settings``.
        ``steps_db`` lists the steps of joined planes that differ.
    """
    described: dict[str, dict[str, Any]] = {}
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
