"""Quantization step of each plane of a latents store, so that latents of several encodings can be joined.

A latents variable has one metadata attribute, but its planes may come from several calls of ``encode``: dates that were
appended, polarizations that were concatenated. Their steps differ, so each plane carries its own. Everything else that
decoding needs must be the same; a fingerprint verifies that.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.settings import Settings
from xsarcomp.errors import CorruptStreamError, NotEncodedError
from xsarcomp.latents.metadata import LatentsMetadata, to_json

CODING = "coding"
"""Dimension of a step and a fingerprint."""
STEP, FINGERPRINT = range(2)
"""Positions along that dimension."""
SHARED_KEYS = ("model_id", "dtype", "scale", "nodata", "max_error_db", "keep_means", "residual_spacing_db")
"""Keys of the metadata whose values planes must have in common."""


@dataclass(frozen=True, slots=True)
class PlaneRun:
    """Successive planes that were encoded with one step."""

    planes: slice
    """Positions of the planes, all leading dimensions flattened."""
    settings: Settings
    """Settings of the metadata, with the step of these planes."""


def with_fingerprint(metadata: LatentsMetadata) -> LatentsMetadata:
    """Add the fingerprint to metadata of a variable with leading dimensions, along which planes may be joined.

    Parameters
    ----------
    metadata : LatentsMetadata

    Returns
    -------
    LatentsMetadata
        Unchanged for a single plane.
    """
    if len(metadata.dims) == 2:
        return metadata
    digest = hashlib.blake2b(json.dumps(_shared(metadata), sort_keys=True).encode(), digest_size=6).digest()
    return replace(metadata, fingerprint=int.from_bytes(digest, "little"))


def describe_differences(metadata: LatentsMetadata, other: LatentsMetadata) -> list[str]:
    """Describe the differences that keep the planes of two variables from being joined.

    Parameters
    ----------
    metadata, other : LatentsMetadata

    Returns
    -------
    list of str
        Such as ``scale 'decibel' instead of 'power'``; empty if the planes can be joined.
    """
    values, others = metadata.to_dict(), other.to_dict()
    shared, other_shared = _shared(metadata), _shared(other)
    return [
        f"{name} {values[name]!r} instead of {others[name]!r}"
        for name in (*SHARED_KEYS, "mean_levels")
        if shared.get(name) != other_shared.get(name)
    ]


def _shared(metadata: LatentsMetadata) -> dict[str, Any]:
    """Values that planes must share, as JSON; nodata as text, so that NaN and numbers of any data type compare."""
    values = metadata.to_dict()
    shared = {name: to_json(values[name]) for name in SHARED_KEYS}
    if values["nodata"] is not None:
        shared["nodata"] = repr(float(values["nodata"]))
    # fingerprints of older stores know no levels
    return shared | ({"mean_levels": True} if values["mean_levels"] else {})


def make_coding(metadata: LatentsMetadata, planes: tuple[int, ...]) -> NDArray[np.float64]:
    """Make the coding of planes that were encoded together.

    Parameters
    ----------
    metadata : LatentsMetadata
        With a fingerprint.
    planes : tuple of int
        Sizes of the leading dimensions.

    Returns
    -------
    ndarray of float64, shape (..., coding=2)
        Step in dB and fingerprint of each plane.
    """
    values = np.empty((*planes, 2), np.float64)
    values[..., STEP], values[..., FINGERPRINT] = metadata.settings.step_db, metadata.fingerprint
    return values


def plane_runs(coding: Any, metadata: LatentsMetadata, planes: int) -> list[PlaneRun]:
    """Divide planes into runs of one step.

    Parameters
    ----------
    coding : ndarray of float64, shape (..., coding=2), or None
        Step in dB and fingerprint of each plane; None where a store has none.
    metadata : LatentsMetadata
        Metadata of the variable.
    planes : int
        Number of planes.

    Returns
    -------
    list of PlaneRun

    Raises
    ------
    CorruptStreamError
        If a chunk of the coding is missing, or a step is not between 0 and 1000 dB.
    NotEncodedError
        If planes were encoded with settings other than those of the metadata.
    """
    if coding is None:
        return [PlaneRun(slice(0, planes), metadata.settings)]
    values = np.asarray(coding, np.float64).reshape(-1, 2)
    steps, fingerprints = values[:, STEP], values[:, FINGERPRINT]
    if not np.isfinite(values).all():
        raise CorruptStreamError(
            f"a chunk of the coding of {metadata.name!r} is missing, so the steps of its planes are unknown: "
            "they were not written yet, or restore it from a copy"
        )
    if (fingerprints != metadata.fingerprint).any():
        raise NotEncodedError(
            f"{int((fingerprints != metadata.fingerprint).sum())} of {planes} planes of {metadata.name!r} were encoded with another "
            f"model, scale, nodata value, data type or bound than the metadata ({metadata.model}, {metadata.settings.scale}, nodata "
            f"{metadata.settings.nodata}, {metadata.dtype}): decode the others, and encode these again with encode(like=store)"
        )
    if not ((steps > 0) & (steps < 1000)).all():
        raise CorruptStreamError(
            f"the coding of {metadata.name!r} holds steps of {steps.min()} to {steps.max()} dB, expected 0 to 1000: the store is "
            "damaged"
        )
    starts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist()] if planes else []
    stops = [*starts[1:], planes]
    return [
        PlaneRun(slice(start, stop), replace(metadata.settings, step_db=float(steps[start])))
        for start, stop in zip(starts, stops, strict=False)
    ]
