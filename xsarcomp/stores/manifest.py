"""Manifest of a store: the identity of the content of each chunk, as checksummed bytes. ``docs/format.md`` section 9 is normative.

A frame does not say where it belongs, and Zarr reads an absent chunk as fill value. The manifest settles both: for each
chunk of each array it holds eight bytes that identify the content, or zero where nothing was stored.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.frame import LARGEST_DIMENSIONS, MAGIC
from xsarcomp.errors import CorruptStreamError, LimitExceededError, UnsupportedFormatError
from xsarcomp.latents.layout import MANIFEST_GROUP

GROUP, ARRAY = MANIFEST_GROUP, "content"
"""Place of the manifest in a store: the only array of a group, so that no reader takes it for a variable."""
MANIFEST_MAGIC = b"XSAM"
MAJOR, MINOR = 1, 0
FRAMES, OBJECTS = "frames", "objects"
"""Kinds of identities: hashes of the headers of frames, or of whole stored objects."""
ABSENT = 0
"""Identity of a chunk that is not stored, because all of its values are the fill value."""
LARGEST_COUNT = 2**26
"""Limit on the chunks of one array."""
LARGEST_JSON = 2**24
"""Limit on the bytes of the JSON section."""
LARGEST_HEADER = 58 + 4 * LARGEST_DIMENSIONS
"""Bytes at the beginning of a frame that hold its header in any case."""

_FIXED = struct.Struct("<4sBBHI")
_SHA256_BYTES = 32
_FRAME_DIMENSIONS = 11  # offset of the number of dimensions in a frame
_KEYS = {"identities", "chunk", "grid", "metadata"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RecordedArray:
    """State of an array when the manifest was written."""

    kind: str
    """FRAMES or OBJECTS."""
    chunk: tuple[int, ...]
    """Shape of a chunk (the inner one of a shard of frames), elements."""
    grid: tuple[int, ...]
    """Number of chunks along each dimension."""
    metadata: str
    """Digest of the array's metadata, 16 hexadecimal digits."""
    identities: NDArray[np.uint64]
    """Identity of each chunk, shape ``grid``."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Manifest:
    """State of a store when the manifest was written."""

    arrays: dict[str, RecordedArray]
    """Arrays by path from the root of the store."""
    groups: dict[str, str]
    """Digest of the metadata of each group by its path; the root is ``""``."""


def joined_manifest(manifests: Mapping[str, Manifest]) -> Manifest:
    """Join the manifests of groups of a store.

    Parameters
    ----------
    manifests : mapping of str to Manifest
        By the path of the group, ``""`` for the root.

    Returns
    -------
    Manifest
        With paths from the root; of two entries, that of the upper group, which was to record all below it.
    """
    arrays: dict[str, RecordedArray] = {}
    groups: dict[str, str] = {}
    for group in sorted(manifests, key=len, reverse=True):
        prefix = f"{group}/" if group else ""
        arrays |= {f"{prefix}{path}": array for path, array in manifests[group].arrays.items()}
        groups |= {f"{prefix}{path}".rstrip("/"): digest for path, digest in manifests[group].groups.items()}
    return Manifest(arrays=arrays, groups=groups)


def frame_identity(content: bytes) -> int:
    """Identity of a frame, computed from its header; equal for frames of equal content.

    Parameters
    ----------
    content : bytes
        A frame, or its first ``LARGEST_HEADER`` bytes.

    Returns
    -------
    int
        64 bits, never 0.

    Raises
    ------
    CorruptStreamError
        If these are not the first bytes of a frame.
    """
    # the header holds the hash of the symbols, the checksum of the payload and its own: it stands for the whole frame
    length = 58 + 4 * content[_FRAME_DIMENSIONS] if len(content) > _FRAME_DIMENSIONS else LARGEST_HEADER
    if not content.startswith(MAGIC) or not length <= min(len(content), LARGEST_HEADER):
        raise CorruptStreamError(
            f"the chunk begins with {content[:4]!r} and has no whole header, expected a frame: restore it from a copy"
        )
    return object_identity(content[:length])


def object_identity(content: bytes) -> int:
    """Identity of stored bytes: their BLAKE2b hash of 8 bytes as a little-endian number, 1 instead of 0.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    int
        64 bits, never 0.

    References
    ----------
    RFC 7693, The BLAKE2 Cryptographic Hash.
    """
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1


def metadata_digest(documents: Any) -> str:
    """Digest of JSON metadata that does not depend on spaces and the order of keys.

    Parameters
    ----------
    documents : JSON values

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    text = json.dumps(documents, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Bytes of a manifest; the same for the same store.

    Parameters
    ----------
    manifest : Manifest

    Returns
    -------
    bytes
        Fixed header, JSON, identities, and the SHA-256 of all before it.
    """
    paths = sorted(manifest.arrays)
    arrays = {
        path: {
            "identities": manifest.arrays[path].kind,
            "chunk": list(manifest.arrays[path].chunk),
            "grid": list(manifest.arrays[path].grid),
            "metadata": manifest.arrays[path].metadata,
        }
        for path in paths
    }
    text = json.dumps({"arrays": arrays, "groups": manifest.groups}, sort_keys=True, separators=(",", ":")).encode()
    parts = [_FIXED.pack(MANIFEST_MAGIC, MAJOR, MINOR, 0, len(text)), text]
    parts += [np.ascontiguousarray(manifest.arrays[path].identities, "<u8").tobytes() for path in paths]
    content = b"".join(parts)
    return content + hashlib.sha256(content).digest()


def read_manifest(content: bytes) -> Manifest:
    """Parse and check the bytes of a manifest.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    Manifest

    Raises
    ------
    CorruptStreamError
        If checksum, lengths or content disagree.
    UnsupportedFormatError
        If the bytes are no manifest, or a manifest of a newer version.
    LimitExceededError
        If it claims more than the limits allow.
    """
    if len(content) < _FIXED.size + _SHA256_BYTES:
        raise CorruptStreamError(f"a manifest of {len(content)} bytes is truncated: record the store again")
    magic, major, minor, _, length = _FIXED.unpack_from(content)
    if magic != MANIFEST_MAGIC:
        raise UnsupportedFormatError(f"the manifest begins with {magic!r}, expected {MANIFEST_MAGIC!r}")
    if major != MAJOR:
        raise UnsupportedFormatError(f"the manifest has format {major}.{minor}, this version reads {MAJOR}.x: update")
    if hashlib.sha256(content[:-_SHA256_BYTES]).digest() != content[-_SHA256_BYTES:]:
        raise CorruptStreamError("the manifest does not match its checksum: restore it from a copy, or record again")
    body = content[_FIXED.size : -_SHA256_BYTES]
    if length > min(len(body), LARGEST_JSON):
        raise LimitExceededError(f"the manifest names {length} bytes of JSON, found {len(body)}")
    try:
        document = json.loads(body[:length])
        arrays, groups = document["arrays"], document["groups"]
        return Manifest(arrays=_arrays(arrays, body[length:]), groups={str(path): str(groups[path]) for path in groups})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, CorruptStreamError | LimitExceededError):
            raise
        raise CorruptStreamError(f"the manifest cannot be read ({error}): record the store again") from error


def _arrays(entries: dict[str, dict[str, Any]], identities: bytes) -> dict[str, RecordedArray]:
    """Arrays of a manifest, each with its part of the identities."""
    result: dict[str, RecordedArray] = {}
    start = 0
    for path in sorted(entries):
        entry = entries[path]
        chunk, grid = (tuple(entry[key]) for key in ("chunk", "grid"))
        sizes_are_valid = all(type(size) is int and size >= 0 for size in (*chunk, *grid))
        if set(entry) != _KEYS or len(chunk) != len(grid) or not sizes_are_valid:
            raise CorruptStreamError(f"the manifest describes {path!r} in a way that is unknown: record again")
        count = math.prod(grid)
        if count > LARGEST_COUNT or start + 8 * count > len(identities):
            raise LimitExceededError(f"the manifest claims {count} chunks of {path!r}, and holds fewer identities")
        values = np.frombuffer(identities, "<u8", count, start).astype(np.uint64, copy=False).reshape(grid)
        start += 8 * count
        result[path] = RecordedArray(
            kind=str(entry["identities"]), chunk=chunk, grid=grid, metadata=str(entry["metadata"]), identities=values
        )
    if start != len(identities):
        raise CorruptStreamError(f"the manifest holds {len(identities)} bytes of identities, expected {start}")
    return result
