"""What each plane of a latents store was encoded with: latents of several encodings can be joined, and are never mixed up.

A store has one record, but its planes may come from several calls of ``encode``: dates that were appended, polarizations
that were concatenated. Their steps differ, so each plane carries its own. Everything else that decoding needs must be the
same, and a fingerprint tells whether it is.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import CorruptStreamError, NotEncodedError
from xsarcomp.latents.metadata import LatentsMetadata, to_json

CODING = "coding"
"""Dimension of a step and a fingerprint."""
STEP, FINGERPRINT = range(2)
SHARED = ("model_id", "dtype", "scale", "nodata", "max_error_db", "keep_means", "residual_spacing_db")
"""What planes must have in common."""


def fingerprinted(record: LatentsMetadata) -> LatentsMetadata:
    """LatentsMetadata with its fingerprint, where it has leading dimensions along which planes may be joined."""
    if len(record.dims) == 2:
        return record
    shared = {name: _comparable(record, name) for name in SHARED}
    digest = hashlib.blake2b(json.dumps(shared, sort_keys=True).encode(), digest_size=6).digest()
    return replace(record, fingerprint=int.from_bytes(digest, "little"))


def differences(record: LatentsMetadata, other: LatentsMetadata) -> list[str]:
    """What keeps the planes of two records apart, in words; empty if they can be joined."""
    return [
        f"{name} {getattr(record, name)!r} instead of {getattr(other, name)!r}"
        for name in SHARED
        if _comparable(record, name) != _comparable(other, name)
    ]


def _comparable(record: LatentsMetadata, name: str) -> Any:
    """A setting as JSON; a nodata value as text, because the same number in another type, and NaN, are the same."""
    value = getattr(record, name)
    return repr(float(value)) if name == "nodata" and value is not None else to_json(value)


def coding_values(record: LatentsMetadata, planes: tuple[int, ...]) -> NDArray[np.float64]:
    """Step in dB and fingerprint of each plane, shape (..., coding=2)."""
    values = np.empty((*planes, 2), np.float64)
    values[..., STEP], values[..., FINGERPRINT] = record.step_db, record.fingerprint
    return values


def own_records(coding: Any, record: LatentsMetadata, planes: int) -> list[tuple[slice, LatentsMetadata]]:
    """Runs of planes that have one step, and the record of each.

    Parameters
    ----------
    coding : ndarray of float64, shape (..., coding=2), or None
        Of the planes; None where a store does not hold it.
    record : LatentsMetadata
        Of the variable.
    planes : int
        Their number.

    Raises
    ------
    CorruptStreamError
        If it is missing, or holds no steps.
    NotEncodedError
        If planes were encoded with other settings than the record says.
    """
    if coding is None:
        return [(slice(0, planes), record)]
    values = np.asarray(coding, np.float64).reshape(-1, 2)
    steps, fingerprints = values[:, STEP], values[:, FINGERPRINT]
    if not np.isfinite(values).all():
        raise CorruptStreamError(
            f"a chunk of the coding of {record.name!r} is missing, so that nothing says with which step its planes were encoded: "
            "they were not written yet, or restore it from a copy"
        )
    if (fingerprints != record.fingerprint).any():
        raise NotEncodedError(
            f"{int((fingerprints != record.fingerprint).sum())} of {planes} planes of {record.name!r} were encoded with another "
            f"model, scale, nodata value, data type or bound than the record says ({record.model}, {record.scale}, nodata "
            f"{record.nodata}, {record.dtype}): decode the others, and encode these again with encode(like=store)"
        )
    if not ((steps > 0) & (steps < 1000)).all():
        raise CorruptStreamError(f"the coding of {record.name!r} holds steps of {steps.min()} to {steps.max()} dB")
    starts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist()] if planes else []
    stops = [*starts[1:], planes]
    return [
        (slice(start, stop), replace(record, step_db=float(steps[start])))
        for start, stop in zip(starts, stops, strict=False)
    ]
