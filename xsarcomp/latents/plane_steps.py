"""Quantization step of each plane of a latents store, so that latents of several encodings can be joined.

A latents variable has one metadata attribute, but its planes may come from several calls of ``encode``: dates that were
appended, polarizations that were concatenated, a scene that was written over an older one. Their steps differ, so each plane
carries its own; a scene without leading dimensions carries it at each place of the latents, because regions of it can be
written. Everything else that decoding needs must be the same; a fingerprint verifies that.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import latent_count
from xsarcomp.errors import CorruptStreamError, NotEncodedError
from xsarcomp.latents.metadata import LatentsMetadata, to_json

CODING = "coding"
"""Dimension of a step and a fingerprint."""
STEP, CHECK = range(2)
"""Positions along that dimension."""
FINGERPRINT_BITS = np.uint64(2**48 - 1)
"""Bits that a fingerprint can have."""
SHARED_KEYS = ("model_id", "dtype", "scale", "nodata", "max_error_db", "keep_means", "residual_spacing_db")
"""Keys of the metadata whose values planes must have in common."""
GRID_KEYS = ("name", "spatial", "pixels")
"""Keys that the fingerprint covers besides: planes of another grid do not fit, nor those of another variable."""


@dataclass(frozen=True, slots=True)
class PlaneRun:
    """Successive planes that were encoded with one step."""

    planes: slice
    """Positions of the planes, all leading dimensions flattened."""
    settings: Settings
    """Settings of the metadata, with the step of these planes."""


def with_fingerprint(metadata: LatentsMetadata) -> LatentsMetadata:
    """Add the fingerprint to metadata.

    Parameters
    ----------
    metadata : LatentsMetadata

    Returns
    -------
    LatentsMetadata
    """
    values = metadata.to_dict()
    return replace(metadata, fingerprint=_hash(_shared(metadata) | {name: to_json(values[name]) for name in GRID_KEYS}))


def accepted_fingerprints(metadata: LatentsMetadata) -> tuple[int, ...]:
    """Fingerprints of planes that fit metadata.

    The first encoders left the grid out of the hash; what is encoded now can still be appended to their stores.

    Parameters
    ----------
    metadata : LatentsMetadata
        With a fingerprint.

    Returns
    -------
    tuple of int
        That of the metadata, and the one that an encoder gives to such metadata now.
    """
    return tuple(
        number for number in (metadata.fingerprint, with_fingerprint(metadata).fingerprint) if number is not None
    )


def check_fingerprint(metadata: LatentsMetadata) -> None:
    """Refuse metadata whose fingerprint is not made from their values: one of them was changed since.

    Parameters
    ----------
    metadata : LatentsMetadata

    Raises
    ------
    NotEncodedError
        If the fingerprint fits neither the way of today nor that of the first encoders.
    """
    if metadata.fingerprint not in (None, with_fingerprint(metadata).fingerprint, _hash(_shared(metadata))):
        raise NotEncodedError(
            f"the fingerprint of {metadata.name!r} does not fit the values of its metadata ({', '.join(SHARED_KEYS + GRID_KEYS)}): "
            "one of them was changed since it was encoded. Restore the attribute from a copy"
        )


def check_numbers(fingerprint: int, steps_db: Any) -> NDArray[np.float64]:
    """Check numbers of planes: they hold fingerprint and step, and are negative, so that arithmetic does not pass unnoticed.

    Parameters
    ----------
    fingerprint : int
        Of the metadata.
    steps_db : array-like of float64, any shape

    Returns
    -------
    ndarray of float64, same shape
        Whole numbers from -2^48 to -1.
    """
    bits = np.asarray(steps_db, np.float64).view(np.uint64)
    return -1.0 - ((bits ^ (bits >> np.uint64(16)) ^ np.uint64(fingerprint)) & FINGERPRINT_BITS).astype(np.float64)


def _hash(values: dict[str, Any]) -> int:
    """Hash of plain JSON, 48 bits."""
    digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "little")


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
    ndarray of float64, shape (..., coding=2), or (coding=2, y_latent, x_latent) without leading dimensions
        Step in dB and check number of each plane. The second is a read-only view of two numbers.
    """
    step_db = metadata.settings.step_db
    pair = np.array([step_db, check_numbers(metadata.fingerprint or 0, step_db)], np.float64)
    if metadata.leading:
        return np.broadcast_to(pair, (*planes, 2)).copy()
    return np.broadcast_to(pair[:, None, None], (2, *(latent_count(size) for size in metadata.pixels)))


def plane_runs(coding: Any, metadata: LatentsMetadata, planes: int) -> list[PlaneRun]:
    """Divide planes into runs of one step.

    Parameters
    ----------
    coding : ndarray of float64, shape (..., coding=2), or None
        Step in dB and check number of each plane, the fingerprint in the first stores; None where a store has none.
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
    _check_coding(values, metadata, planes)
    steps = values[:, STEP]
    starts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist()] if planes else []
    stops = [*starts[1:], planes]
    return [
        PlaneRun(slice(start, stop), replace(metadata.settings, step_db=float(steps[start])))
        for start, stop in zip(starts, stops, strict=False)
    ]


def runs_of_parts(parts: Mapping[str, Any], metadata: LatentsMetadata, planes: int) -> list[PlaneRun]:
    """Divide the planes of a window into runs of one step, by the coding among its parts.

    Parameters
    ----------
    parts : mapping of str to array
        ``coding``, for :func:`plane_runs`, or ``plane_coding``, for :func:`plane_step`; other parts do not matter.
    metadata : LatentsMetadata
        Metadata of the variable.
    planes : int
        Number of planes.

    Returns
    -------
    list of PlaneRun
    """
    if "plane_coding" not in parts:
        return plane_runs(parts.get("coding"), metadata, planes)
    step_db = plane_step(parts["plane_coding"], metadata)
    return [PlaneRun(slice(0, planes), replace(metadata.settings, step_db=step_db))]


def plane_step(coding: Any, metadata: LatentsMetadata) -> float:
    """Step of a part of a plane without leading dimensions.

    Parameters
    ----------
    coding : ndarray of float64, shape (coding=2, y_latent, x_latent)
        Step in dB and check number at each place.
    metadata : LatentsMetadata
        Metadata of the variable.

    Returns
    -------
    float
        In dB.

    Raises
    ------
    CorruptStreamError
        As :func:`plane_runs` does.
    NotEncodedError
        If latents of several encodings stand beside each other, or of other settings than those of the metadata.
    """
    values = np.asarray(coding, np.float64)
    if 0 in values.shape:
        return metadata.settings.step_db
    if any(values.strides[1:]):  # not the view that encode() makes of two numbers
        first = values[:, :1, :1]
        if not (values == first).all():
            _check_coding(values.reshape(2, -1).T, metadata)
            steps = np.unique(values[STEP])
            raise NotEncodedError(
                f"latents of {len(steps)} encodings stand beside each other in {metadata.name!r}, with steps of "
                f"{', '.join(f'{step:.5g}' for step in steps[:5])} dB: a region was written from another encode(). Encode the whole "
                "scene at once, lazily, and write it region by region"
            )
        values = first
    pair = values[:, 0, 0]
    _check_coding(pair[None], metadata)
    return float(pair[STEP])


def _check_coding(values: NDArray[np.float64], metadata: LatentsMetadata, planes: int | None = None) -> None:
    """Refuse pairs of step and check number that are missing, impossible or foreign; of so many planes, or of places in one."""
    steps = values[:, STEP]
    if not np.isfinite(values).all():
        raise CorruptStreamError(
            f"a chunk of the coding of {metadata.name!r} is missing, so the steps of its planes are unknown: "
            "they were not written yet, or processes wrote regions inside the same 2048 pixels at the same time. Write them again, one "
            "after the other, or restore it from a copy"
        )
    if not ((steps > 0) & (steps < 1000)).all():
        raise CorruptStreamError(
            f"the coding of {metadata.name!r} holds steps of {steps.min()} to {steps.max()} dB, expected 0 to 1000: the store is "
            "damaged"
        )
    accepted = accepted_fingerprints(metadata)
    is_foreign = np.ones(len(values), bool) if planes is None else ~np.isin(values[:, CHECK], accepted)
    for fingerprint in accepted:
        is_foreign &= values[:, CHECK] != check_numbers(fingerprint, steps)
    if is_foreign.any():
        found = "latents of" if planes is None else f"{int(is_foreign.sum())} of {planes} planes of"
        advice = (
            "write the scene anew, mode='w', where it was written over an earlier one, and decode before you compute"
            if planes is None
            else "decode the others, and encode these again with encode(like=store)"
        )
        raise NotEncodedError(
            f"{found} {metadata.name!r} were encoded with another model, scale, nodata value, data type, bound or grid than the "
            f"metadata ({metadata.model}, {metadata.settings.scale}, nodata {metadata.settings.nodata}, {metadata.dtype}), or computed "
            f"with since: {advice}"
        )
