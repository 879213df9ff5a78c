"""The chunks of an array as they lie in a Zarr store, object by object.

Reading through Zarr turns an absent chunk into fill value and stops at the first damaged one; checking a store needs both
seen. Formats 2 and 3; frames inside shards are found through the shard's index.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from xsarcomp.codec.frame import BACKSCATTER, INTEGERS, LATENTS, NO_MODEL
from xsarcomp.errors import LimitExceededError
from xsarcomp.stores import codec_numcodecs, codec_zarr
from xsarcomp.stores.manifest import FRAMES, LARGEST_COUNT, OBJECTS

BATCH = 64
"""Objects that are read at the same time."""
METADATA = {2: (".zarray", ".zgroup", ".zattrs", ".zmetadata"), 3: ("zarr.json",)}
"""Names of the objects of metadata in both formats of Zarr."""
FRAME_KINDS = {
    codec_zarr.BackscatterCodec: BACKSCATTER,
    codec_zarr.LatentsCodec: LATENTS,
    codec_zarr.IntegersCodec: INTEGERS,
}
LARGEST_ABSENT = 2**20
"""Objects of one array that are absent. Metadata may claim any grid; each chunk of it is looked at."""
_NO_CHUNK = 2**64 - 1  # offset and length of an absent chunk in the index of a shard


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies in the store, if it is there."""

    index: tuple[int, ...]
    """Index of the chunk in the grid of its array."""
    key: str
    """Key of the object that holds it."""
    span: tuple[int, int] | None = None
    """First and last byte in a shard, the last excluded; None: the whole object."""
    is_absent: bool = False
    problem: str = ""
    """Why its place cannot be known; empty where it can."""


@dataclass(eq=False)
class StoredArray:
    """An array as it lies in a store."""

    path: str
    """Path from the group that was opened."""
    array: zarr.Array
    store: Store
    prefix: str
    """Beginning of the keys of its chunks."""
    digest: str
    """Digest of its metadata."""
    attributes: dict[str, Any] = field(init=False)
    """Its attributes."""
    frame_kind: int = field(init=False)
    """Kind of the frames that are its chunks; 0 for an ordinary array, or where other codecs follow the frame."""
    model_id: str = field(init=False)
    """Model of the frames."""
    nodata: float | None = field(init=False)
    """Nodata that a reader of the frames puts back."""
    shard_index: tuple[bool, int] | None = field(init=False)
    """Of a shard of frames: whether its index stands at the end, and bytes of checksum behind the index."""
    present: np.ndarray = field(init=False)
    """Which objects exist, boolean, shape of the grid of objects."""
    strays: list[str] = field(init=False)
    """Keys below the array that are no chunk of it."""

    def __post_init__(self) -> None:
        self.attributes = dict(self.array.attrs)  # fails here, where it is expected, if they are no mapping
        self.frame_kind, codec, self.shard_index = _layout(self.array.metadata)
        self.model_id, self.nodata = getattr(codec, "model", NO_MODEL), getattr(codec, "nodata", None)
        if isinstance(codec, codec_zarr.BackscatterCodec):
            self.nodata = codec.nodata_of(self.array.fill_value)
        grid = self._grid(self._object_shape)
        if max(math.prod(grid), math.prod(self.grid)) > LARGEST_COUNT:
            raise LimitExceededError(
                f"{self.path!r} claims {math.prod(self.grid)} chunks, the limit is {LARGEST_COUNT}"
            )
        self.present, self.strays = np.zeros(grid, bool), []
        names = METADATA[self.array.metadata.zarr_format]
        for key in sync(keys_below(self.store, self.prefix)):
            name = key.removeprefix(self.prefix)
            index = self._index(name)
            if index is not None:
                self.present[index] = True
            elif name not in names:
                self.strays.append(key)
        there = int(np.count_nonzero(self.present))
        if self.present.size - there > LARGEST_ABSENT:
            raise LimitExceededError(
                f"{self.path!r} claims {self.present.size} chunks, of which {there} are there; the limit is {LARGEST_ABSENT} absent "
                "ones: check the shape in its metadata"
            )

    @property
    def identities(self) -> str:
        """What the identities of its chunks are made of."""
        return FRAMES if self.frame_kind else OBJECTS

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of what is checked as one: a frame, or the content of a stored object."""
        return tuple(self.array.chunks) if self.frame_kind else self._object_shape

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return self._grid(self.chunk)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, as xarray reads them."""
        names = getattr(self.array.metadata, "dimension_names", None) or self.attributes.get("_ARRAY_DIMENSIONS")
        if (
            not isinstance(names, list | tuple) or len(names) != self.array.ndim
        ):  # in format 2 an attribute like any other
            return tuple(f"dim_{axis}" for axis in range(self.array.ndim))
        return tuple(map(str, names))

    @property
    def _object_shape(self) -> tuple[int, ...]:
        return tuple(self.array.shards or self.array.chunks)

    def _grid(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-size // max(1, step)) for size, step in zip(self.array.shape, chunk, strict=True))

    def _index(self, name: str) -> tuple[int, ...] | None:
        """Index of the object of that name in the grid of objects; None if it is no chunk."""
        numbers = tuple(map(int, re.findall(r"\d{1,18}", name))) if self.array.ndim else ()
        inside = len(numbers) == self.present.ndim and all(map(int.__lt__, numbers, self.present.shape))
        return numbers if inside and self.array.metadata.encode_chunk_key(numbers) == name else None

    def window(self, index: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """First and last element of a chunk along each dimension, the last excluded."""
        spans = zip(index, self.chunk, self.array.shape, strict=True)
        return tuple((number * step, min((number + 1) * step, size)) for number, step, size in spans)

    def values(self, index: tuple[int, ...]) -> np.ndarray:
        """Values of a chunk, read through Zarr and all its codecs."""
        return self.array[tuple(slice(*span) for span in self.window(index))]

    def places(self) -> Iterator[Place]:
        """Where each chunk lies, in the order of the objects."""
        for batch in _index_batches(self.present.shape):
            keys = [self.prefix + self.array.metadata.encode_chunk_key(index) for index in batch]
            if self.shard_index is None:
                for index, key in zip(batch, keys, strict=True):
                    yield Place(index, key, is_absent=not self.present[index])
                continue
            found = [key for index, key in zip(batch, keys, strict=True) if self.present[index]]
            indexes = dict(zip(found, sync(_gathered(self._shard_index(key) for key in found)), strict=True))
            for index, key in zip(batch, keys, strict=True):
                yield from self._inner_places(index, key, indexes.get(key))

    async def _shard_index(self, key: str) -> tuple[np.ndarray | None, int]:
        """Offsets and lengths in a shard, shape (chunks, 2), None if they are damaged; and the size of the shard."""
        at_end, checksum = self.shard_index
        count = math.prod(map(int.__floordiv__, self._object_shape, self.chunk))
        size = await self.store.getsize(key)
        length = 16 * count + checksum
        request = SuffixByteRequest(length) if at_end else RangeByteRequest(0, length)
        content = await self.store.get(key, default_buffer_prototype(), request) if size >= length else None
        if content is None:
            return None, size
        raw = content.to_bytes()
        if checksum and google_crc32c.value(raw[:-checksum]) != int.from_bytes(raw[-checksum:], "little"):
            return None, size
        return np.frombuffer(raw, "<u8", 2 * count).reshape(count, 2), size

    def _inner_places(self, shard: tuple[int, ...], key: str, found: tuple | None) -> Iterator[Place]:
        """Places of the chunks of a shard that are in the array."""
        per_shard = tuple(map(int.__floordiv__, self._object_shape, self.chunk))
        for position, inner in enumerate(np.ndindex(per_shard)):
            index = tuple(map(lambda whole, step, part: whole * step + part, shard, per_shard, inner))
            if not all(map(int.__lt__, index, self.grid)):
                continue
            if found is None:
                yield Place(index, key, is_absent=True)
                continue
            offsets, size = found
            if offsets is None:
                yield Place(index, key, problem="the index of its shard is damaged: restore the shard from a copy")
                continue
            offset, length = map(int, offsets[position])
            if offset == length == _NO_CHUNK:
                yield Place(index, key, is_absent=True)
            elif offset + length > size:
                yield Place(
                    index, key, problem=f"its shard ends at byte {size}, before the chunk does: it is truncated"
                )
            else:
                yield Place(index, key, span=(offset, offset + length))

    def contents(self, places: Iterable[Place], most: int | None = None) -> list[bytes | None]:
        """Stored bytes of chunks, ``most`` of each at most; None where there are none."""
        places = list(places)
        there = [place for place in places if not (place.is_absent or place.problem)]
        found = iter(sync(_gathered(self._content(place, most) for place in there)) if there else ())
        return [None if place.is_absent or place.problem else next(found) for place in places]

    async def _content(self, place: Place, most: int | None) -> bytes | None:
        first, last = place.span or (0, None)
        if most is not None:
            last = first + most if last is None else min(last, first + most)
        request = None if last is None else RangeByteRequest(first, last)
        content = await self.store.get(place.key, default_buffer_prototype(), request)
        return None if content is None else content.to_bytes()


async def keys_below(store: Store, prefix: str) -> list[str]:
    """Keys of the objects that begin with a prefix."""
    # zip files list their folders too, and browsers of object stores make empty objects that stand for folders
    return [key for key in await collected(store.list_prefix(prefix)) if not key.endswith("/")]


def _index_batches(shape: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Indices of a grid in C order, some at a time; numpy.ndindex would hold all positions of each dimension."""
    if not shape:
        yield [()]
    for start in range(0, math.prod(shape) if shape else 0, BATCH):
        numbers = np.unravel_index(np.arange(start, min(start + BATCH, math.prod(shape))), shape)
        yield list(zip(*(axis.tolist() for axis in numbers), strict=True))


async def collected(keys: AsyncIterator[str]) -> list[str]:
    """All strings of an asynchronous iterator."""
    return [key async for key in keys]


async def _gathered(tasks: Iterable[Awaitable]) -> list:
    return await asyncio.gather(*tasks)


def is_compressed(array: zarr.Array) -> bool:
    """Whether a codec of xsarcomp is among those of an array, at whatever place."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        codecs = [*(metadata.filters or ()), metadata.compressor]
    else:
        codecs = list(metadata.codecs)
        for codec in codecs:  # it grows with what is inside of shards
            codecs += getattr(codec, "codecs", ())
    ours = codec_numcodecs.BackscatterCodec, codec_zarr.BackscatterCodec, codec_zarr.LatentsCodec
    return any(isinstance(codec, ours) for codec in codecs)


def _layout(metadata: Any) -> tuple[int, Any, tuple[bool, int] | None]:
    """Kind and codec of the frames of an array, and how its shards are indexed; (0, None, None) for all other arrays."""
    ordinary = 0, None, None
    if metadata.zarr_format == 2:
        codecs = [*(metadata.filters or ()), *((metadata.compressor,) if metadata.compressor else ())]
        is_frames = len(codecs) == 1 and isinstance(codecs[0], codec_numcodecs.BackscatterCodec)
        return (BACKSCATTER, codecs[0], None) if is_frames else ordinary
    codecs, shard_index = tuple(metadata.codecs), None
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        shard_index = _shard_index_layout(codecs[0])
        codecs = tuple(codecs[0].codecs) if shard_index else ()
    kind = FRAME_KINDS.get(type(codecs[0])) if len(codecs) == 1 else None
    if kind is None:
        return ordinary
    return kind, codecs[0], shard_index


def _shard_index_layout(codec: ShardingCodec) -> tuple[bool, int] | None:
    """Place and checksum of a shard's index; None if it is coded in an unusual way."""
    first, *others = codec.index_codecs
    is_plain = isinstance(first, BytesCodec) and getattr(first.endian, "value", first.endian) == "little"
    if not is_plain or len(others) > 1 or not all(isinstance(other, Crc32cCodec) for other in others):
        return None
    location = getattr(codec.index_location, "value", codec.index_location)
    return location == "end", 4 * len(others)
