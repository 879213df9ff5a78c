"""Report on a compressed store: its variables, their settings, and its size."""

import contextlib
import math
import os
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import xarray as xr

from xsarcomp.codec.installed_models import model_name
from xsarcomp.codec.rate_control import REACH
from xsarcomp.codec.target import Target
from xsarcomp.errors import (
    ConfigurationError,
    ModelNotFoundError,
    NotEncodedError,
    RateError,
    SarcompError,
    caller_stacklevel,
)
from xsarcomp.latents.append import latents_of
from xsarcomp.latents.info import describe, transparent_scales
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata, part_names
from xsarcomp.latents.plan import LARGE_SCENE
from xsarcomp.stores.files import is_zarr
from xsarcomp.stores.listing import stored_sizes
from xsarcomp.stores.locations import expanded
from xsarcomp.stores.opening import open_zarr_store, readable_store
from xsarcomp.stores.stored_array import METADATA

ABOVE = 0.02
"""Share above the bytes that were asked for, up to which nothing is said."""


def open_compressed(
    store: Any, *, storage_options: dict[str, Any] | None = None
) -> tuple[xr.Dataset, dict[str, dict[str, Any]]]:
    """Open a compressed store as it is, and describe its variables.

    Parameters
    ----------
    store : str, path or Zarr store
        A URL ends in ``.zarr``.
    storage_options : dict, optional
        Passed to the file system of a URL.

    Returns
    -------
    dataset : xarray.Dataset
        Latents stay latents, lazily.
    variables : dict
        Settings of each compressed variable, see :func:`xsarcomp.latents.info.describe`.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    NotEncodedError
        If the store holds nothing that xsarcomp compressed.
    """
    if isinstance(store, str | os.PathLike):
        store = os.fspath(store)
        _check_path(store)
    with readable_store(store):
        dataset = open_zarr_store(store, chunks={}, storage_options=storage_options)
    described = describe(dataset)
    variables = {name: settings for name, settings in described.items() if settings["store"] != "decoded"}
    if not variables:
        state = f"decoded backscatter, {', '.join(described)}: it can be read as it is" if described else ""
        raise NotEncodedError(
            f"{store} holds nothing that xsarcomp compressed: {state or f'variables {list(map(str, dataset.data_vars))}'}"
        )
    return dataset, variables


def _check_path(path: str) -> None:
    """Refuse a path at which there is no Zarr store; a URL is only judged by its ending."""
    is_url = "://" in path
    if not is_url and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not is_zarr(path) or (not is_url and not Path(path).is_dir()):
        expected = "the URL of one ends in .zarr" if is_url else "expected the folder that xsarcomp encode wrote"
        raise NotEncodedError(f"{path} is no Zarr store: {expected}")


def check_decodable(path: str, restore: str | None = None, quality: str = "best") -> None:
    """Refuse a store that cannot be decoded.

    Parameters
    ----------
    path : str
        Path or URL.
    restore : {"speckle"}, optional
        Synthetic speckle to add, see ``.sarcomp.decode``.
    quality : {"best", "fast"}
        Quality of decoding.

    Raises
    ------
    FileNotFoundError, NotEncodedError
        As :func:`open_compressed` does.
    ConfigurationError
        If another quality or speckle is asked of a transparent store, whose chunks are decoded inside Zarr.
    """
    _, variables = open_compressed(path)
    asked = [f"restore={restore!r}"] if restore is not None else []
    asked += [f"quality={quality!r}"] if quality != "best" else []
    if asked and not any(described["store"] == "latents" for described in variables.values()):
        raise ConfigurationError(
            f"{path} is a transparent store, whose chunks are decoded inside Zarr: {' and '.join(asked)} needs a latents store, "
            "which encode() makes"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """Sizes and settings of a compressed store."""

    target: str | None
    """Request of the user, in words; None if it is not known, as for transparent stores, or variables have several."""
    asked_bytes: int | None
    """Bytes that were asked for; None if no rate was."""
    got_bytes: int
    """Bytes to compare with them: coded chunks and masks, or the whole store where the target is a size of stores."""
    bits_per_pixel: float
    """Bits of the payload over pixels times polarizations (times dates)."""
    ratio: float
    """Size in float32 over the payload."""
    payload_bytes: int
    """Bytes of coded chunks and masks."""
    stored_bytes: int
    """Bytes of everything in the store, metadata and coordinates included."""
    stored_bits_per_pixel: float
    """Bits of everything in the store over pixels times polarizations."""
    objects: int
    """Number of files or objects."""
    pixels: int
    """Pixels of all variables and planes."""
    model: str | list[str]
    """Name of the model, or its id if it is not installed; a list if there are several."""
    variables: dict[str, dict[str, Any]]
    """Settings of each variable, see :func:`xsarcomp.latents.info.describe`."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON, as ``xsarcomp info --json`` prints it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def store_report(
    store: Any, *, storage_options: dict[str, Any] | None = None, target: str | None = None
) -> StoreReport:
    """Measure a compressed store.

    Parameters
    ----------
    store : str, path or Zarr store
        Any store that lists its objects; of a URL that ends in ``.zarr``, each object is asked for its size.
    storage_options : dict, optional
        Passed to the file system of a URL.
    target : str, optional
        Request in words; that in the metadata of latents if not given.

    Returns
    -------
    StoreReport

    Raises
    ------
    FileNotFoundError
        If there is no store.
    NotEncodedError
        If the store holds nothing that xsarcomp compressed.
    ConfigurationError
        If the store cannot list its objects.
    """
    dataset, variables = open_compressed(store, storage_options=storage_options)
    sizes = stored_sizes(store, storage_options=storage_options)
    pixels = payload = 0
    for name, described in variables.items():
        parts = _parts(dataset, name) if described["store"] == "latents" else {}
        pixels += math.prod(dataset[parts.get("mask", name)].shape)
        payload += sum(_chunk_bytes(sizes, part) for part in (parts.values() or [name]))
    stored = sum(sizes.values())
    models = sorted({_model_name(described.get("model_id", described["model"])) for described in variables.values()})
    targets = {described.get("target") for described in variables.values()}
    target = target or (targets.pop() if len(targets) == 1 else None)
    asked = _asked(target)
    return StoreReport(
        target=target,
        asked_bytes=None if asked is None else asked.asked_bytes(pixels),
        got_bytes=stored if asked is not None and asked.counts_metadata else payload,
        bits_per_pixel=8 * payload / pixels if pixels else 0.0,
        ratio=4 * pixels / payload if payload else float("inf"),
        payload_bytes=payload,
        stored_bytes=stored,
        stored_bits_per_pixel=8 * stored / pixels if pixels else 0.0,
        objects=len(sizes),
        pixels=pixels,
        model=models[0] if len(models) == 1 else models,
        variables=variables,
    )


def warn_if_missed(report: StoreReport) -> None:
    """Warn if a large store takes other bytes than were asked for: more than 2 % above, or more than 5 % below.

    Parameters
    ----------
    report : StoreReport
    """
    if report.asked_bytes and report.pixels >= LARGE_SCENE:
        _warn_of_miss(report.target, report.asked_bytes, report.got_bytes)


def _warn_of_miss(target: str | None, asked: int, got: int) -> None:
    """Warn if bytes are not those that were asked for."""
    miss = got / asked - 1
    if not -REACH <= miss <= ABOVE:
        warnings.warn(
            f"{target} was asked for, {asked} bytes, and the store has {got}, {miss:+.1%}: its parts differ much, and the sample that "
            "chose the step did not hold them as the scene does",
            stacklevel=caller_stacklevel(),
        )


def warn_after_writing(
    dataset: xr.Dataset,
    store: Any,
    encoding: Mapping[Hashable, Mapping[str, Any]],
    *,
    sizes: Mapping[str, int] | None,
    group: str | None,
    storage_options: dict[str, Any] | None,
) -> None:
    """Warn of a missed rate as :func:`warn_if_missed` does; the store is asked only where the writer does not know.

    Parameters
    ----------
    dataset : xarray.Dataset
        What was written.
    store, group, storage_options
        As for ``.sarcomp.to_zarr``.
    encoding : mapping
        Variable name to its encoding.
    sizes : mapping of str to int, optional
        Bytes of the chunks of each array, if all of them were written now.
    """
    if group is None and sum(array.size for array in dataset.values()) >= LARGE_SCENE:
        # nothing compressed, parts that no longer are latents, or a URL of another ending
        with contextlib.suppress(SarcompError, FileNotFoundError):
            _warn_after_writing(dataset, store, encoding, sizes, storage_options)


def _warn_after_writing(
    dataset: xr.Dataset,
    store: Any,
    encoding: Mapping[Hashable, Mapping[str, Any]],
    sizes: Mapping[str, int] | None,
    storage_options: dict[str, Any] | None,
) -> None:
    """Warn of a missed rate of a large dataset."""
    latents, transparent = latents_of(dataset), transparent_scales(encoding)
    requests = {metadata.target for metadata in latents.values()}
    request = getattr(encoding, "target", None) or (requests.pop() if len(requests) == 1 else None)
    if (target := _asked(request)) is None or target.asked_bytes(1) is None:
        return
    if sizes is None or target.counts_metadata:
        warn_if_missed(store_report(expanded(store), storage_options=storage_options, target=request))
        return
    parts = [metadata.part_names for metadata in latents.values()]
    pixels = sum(dataset[name].size for name in [*(names["mask"] for names in parts), *transparent])
    got = sum(
        sizes.get(name, 0) for name in [*(name for names in parts for name in names.values()), *map(str, transparent)]
    )
    if pixels >= LARGE_SCENE:
        _warn_of_miss(request, target.asked_bytes(pixels) or 0, got)


def _parts(dataset: xr.Dataset, name: str) -> dict[str, str]:
    """Names of the arrays of a latents variable by part, from its metadata: other variables may have names like them."""
    attribute = dataset[part_names(name)["latents"]].attrs[ATTRIBUTE]
    return LatentsMetadata.from_attribute(attribute).part_names


def _model_name(model_id: str) -> str:
    """Name of an installed model, else its id."""
    try:
        return model_name(model_id)
    except ModelNotFoundError:
        return model_id


def _chunk_bytes(sizes: dict[str, int], array: str) -> int:
    """Bytes of the chunks of an array without its metadata."""
    metadata = {name for names in METADATA.values() for name in names}
    prefix = f"{array}/"
    return sum(size for key, size in sizes.items() if key.startswith(prefix) and key.rpartition("/")[2] not in metadata)


def _asked(request: str | None) -> Target | None:
    """Target of a request; None without one, or where a store holds another text."""
    try:
        return None if request is None else Target.from_request(request)
    except RateError:
        return None


def coded_sizes(encoded: xr.Dataset) -> dict[str, int]:
    """Bytes that latents take in a store, for each variable: they are coded into a store in memory.

    Parameters
    ----------
    encoded : xarray.Dataset
        As ``.sarcomp.encode`` returns it, of a size that fits in memory.

    Returns
    -------
    dict of str to int
        Coded chunks and masks, without metadata: :attr:`StoreReport.payload_bytes` of a store of this variable alone.
    """
    store: dict[str, Any] = {}
    encoded.to_zarr(store, consolidated=False)
    sizes = stored_sizes(store)
    variables = [name for name, described in describe(encoded).items() if described["store"] == "latents"]
    return {name: sum(_chunk_bytes(sizes, part) for part in _parts(encoded, name).values()) for name in variables}
