"""What a compressed store holds and how large it is."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.description import describe
from xsarcomp.errors import ConfigurationError, ModelNotFoundError, NotEncodedError
from xsarcomp.files import is_zarr, open_store
from xsarcomp.record import ATTRIBUTE, Record, part_names
from xsarcomp.weights import model_name


def open_compressed(path: str) -> tuple[xr.Dataset, dict[str, dict[str, Any]]]:
    """Open a compressed store as it is, and say what its variables are.

    Raises
    ------
    FileNotFoundError
        If a local store does not exist.
    NotEncodedError
        If the store holds nothing that xsarcomp compressed.
    """
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not is_zarr(path):
        raise NotEncodedError(f"{path} is no Zarr store: expected one that xsarcomp encode wrote")
    dataset = open_store(path)
    variables = describe(dataset)
    if not variables:
        raise NotEncodedError(
            f"{path} holds nothing that xsarcomp compressed: variables {list(map(str, dataset.data_vars))}"
        )
    return dataset, variables


def check_decodable(path: str, restore: str | None = None) -> None:
    """Say what is wrong with a store that is to be decoded.

    Raises
    ------
    FileNotFoundError, NotEncodedError
        As :func:`open_compressed` does.
    ConfigurationError
        If something is to be restored in a transparent store, whose chunks are decoded inside Zarr.
    """
    _, variables = open_compressed(path)
    if restore is not None and not any(described["store"] == "latents" for described in variables.values()):
        raise ConfigurationError(
            f"{path} is a transparent store, whose chunks are decoded inside Zarr: restore={restore!r} needs a latents store, "
            "which encode() makes"
        )


def store_report(path: str) -> dict[str, Any]:
    """Sizes and settings of a compressed store.

    Parameters
    ----------
    path : str
        Local Zarr store.

    Returns
    -------
    dict
        ``bits_per_pixel`` and ``ratio`` (against float32) from ``payload_bytes``, the coded chunks with their masks;
        ``stored_bytes`` and ``stored_bits_per_pixel``, everything in the store; ``pixels``, ``model``, ``variables``.

    Raises
    ------
    NotEncodedError
        If the store holds nothing that xsarcomp compressed.
    """
    if "://" in path:
        raise ConfigurationError(f"{path} is a URL: sizes are measured on local stores. Copy the store first")
    dataset, variables = open_compressed(path)
    pixels = payload = 0
    for name, described in variables.items():
        is_latents = described["store"] == "latents"
        # a variable that only looks like a part is the user's own
        parts = (
            Record.from_attribute(dataset[part_names(name)["latents"]].attrs[ATTRIBUTE]).part_names
            if is_latents
            else {}
        )
        pixels += int(np.prod(dataset[parts.get("mask", name)].shape))
        payload += sum(_chunk_bytes(Path(path) / part) for part in (parts.values() or [name]))
    stored = sum(_size(folder, name) for folder, _, names in os.walk(path) for name in names)
    models = sorted({_model_name(described.get("model_id", described["model"])) for described in variables.values()})
    return {
        "bits_per_pixel": 8 * payload / pixels if pixels else 0.0,
        "ratio": 4 * pixels / payload if payload else float("inf"),
        "payload_bytes": payload,
        "stored_bytes": stored,
        "stored_bits_per_pixel": 8 * stored / pixels if pixels else 0.0,
        "pixels": pixels,
        "model": models[0] if len(models) == 1 else models,
        "variables": variables,
    }


def _model_name(model_id: str) -> str:
    """Name of an installed model, else its id."""
    try:
        return model_name(model_id)
    except ModelNotFoundError:
        return model_id


def _chunk_bytes(array_folder: Path) -> int:
    """Bytes of the chunks of an array, without its metadata."""
    metadata = {"zarr.json", ".zarray", ".zattrs"}
    return sum(
        _size(folder, name) for folder, _, names in os.walk(array_folder) for name in names if name not in metadata
    )


def _size(folder: str, name: str) -> int:
    return (Path(folder) / name).stat().st_size
