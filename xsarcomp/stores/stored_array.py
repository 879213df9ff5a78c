"""Chunks of an array as bytes in a Zarr store, object by object.

Reading through Zarr turns an absent chunk into fill value and stops at the first damaged one; a check of a store must see
both. Zarr formats 2 and 3; frames inside shards are found through the index of the shard.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from xsarcomp.codec.frame import BACKSCATTER, INTEGERS, LATENTS, NO_MODEL
from xsarcomp.errors import LimitExceededError
from xsarcomp.stores import codec_numcodecs, codec_zarr
from xsarcomp.stores.manifest import FRAMES, LARGEST_COUNT, OBJECTS

BATCH = 64
"""Number of objects that are read at the same time."""
METADATA = {2: (".zarray", ".zgroup", ".zattrs", ".zmetadata"), 3: ("zarr.json",)}
"""Names of the objects that hold metadata, by Zarr format."""
FRAME_KINDS = {
    codec_zarr.BackscatterCodec: BACKSCATTER,
    codec_zarr.LatentsCodec: LATENTS,
    codec_zarr.IntegersCodec: INTEGERS,
}
"""Kind of the frames of each codec."""
LARGEST_ABSENT = 2**20
"""Limit on absent objects of one array. Metadata may claim any grid, and each chunk of it is looked at."""
NO_CHUNK = 2**64 - 1
"""Offset and length of an absent chunk in the index of a shard."""


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a chunk in the store."""

    index: tuple[int, ...]
    """Index of the chunk in the grid of its array."""
    key: str
    """Key of the object that holds it."""
    span: tuple[int, int] | None = None
    """First byte of the chunk in its shard, and the one after its last; None if the chunk is a whole object."""
    is_absent: bool = False
    """True if the store holds no such chunk."""
    problem: str = ""
    """Reason why the place cannot be determined; empty if it can."""


class ShardIndexLayout(NamedTuple):
    """Layout of the index in a shard of frames."""

    at_end: bool
    """True if the index is at the end of the shard, not at its beginning."""
    checksum_bytes: int
    """Bytes of the checksum behind the index."""


class ShardIndex(NamedTuple):
    """Index of a shard."""

    offsets: NDArray[np.uint64] | None
    """Offset and length of each chunk in bytes, shape (chunks, 2); None if the index is damaged."""
    shard_bytes: int
    """Size of the shard."""


class FrameLayout(NamedTuple):
    """Layout of the frames of an array."""

    kind: int
    """Kind of the frames that are its chunks; 0 for an ordinary array, or where other codecs follow the frame."""
    codec: Any
    """Codec of the frames; None for an ordinary array."""
    shard_index: ShardIndexLayout | None
    """Layout of the index where the frames are inside shards."""
    order: tuple[int, ...] | None = None
    """Axes of the array in the order of the frames; None where it is the same."""


@dataclass(eq=False)
class StoredArray:
    """An array with the objects that a store holds for it."""

    path: str
    """Path of the array from the group that was opened."""
    array: zarr.Array
    store: Store
    prefix: str
    """Beginning of the keys of its objects."""
    digest: str
    """Digest of its metadata, 16 hexadecimal digits."""
    attributes: dict[str, Any] = field(init=False)
    frame_kind: int = field(init=False)
    """Kind of the frames that are its chunks; 0 for an ordinary array, or where other codecs follow the frame."""
    model_id: str = field(init=False)
    """Id of the model of the frames; ``NO_MODEL`` without one."""
    nodata: float | None = field(init=False)
    """Value that decoding puts where frames have nodata; None without one."""
    shard_index: ShardIndexLayout | None = field(init=False)
    """Layout of the index of shards of frames; None without shards."""
    order: tuple[int, ...] | None = field(init=False)
    """Axes of the array in the order of the frames; None where it is the same."""
    present: NDArray[np.bool_] = field(init=False)
    """Existence of each object, shape of the grid of objects."""
    strays: list[str] = field(init=False)
    """Keys below the array that belong to no chunk and no metadata."""

    def __post_init__(self) -> None:
        self.attributes = dict(self.array.attrs)  # fails here, where it is expected, if they are no mapping
        self.frame_kind, codec, self.shard_index, self.order = frame_layout(self.array.metadata)
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
        stored = int(np.count_nonzero(self.present))
        if self.present.size - stored > LARGEST_ABSENT:
            raise LimitExceededError(
                f"{self.path!r} claims {self.present.size} chunks, of which {stored} are there; the limit is {LARGEST_ABSENT} absent "
                "ones: check the shape in its metadata"
            )

    @property
    def identities(self) -> str:
        """Kind of the identities of its chunks in a manifest, ``FRAMES`` or ``OBJECTS``."""
        return FRAMES if self.frame_kind else OBJECTS

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of the unit of checks, in elements: a frame, or the content of a stored object."""
        return tuple(self.array.chunks) if self.frame_kind else self._object_shape

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of a chunk in the order in which frames hold its axes."""
        return self.chunk if self.order is None else tuple(self.chunk[axis] for axis in self.order)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return self._grid(self.chunk)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, as xarray reads them."""
        names = getattr(self.array.metadata, "dimension_names", None) or self.attributes.get("_ARRAY_DIMENSIONS")
        if not isinstance(names, list | tuple) or len(names) != self.array.ndim:  # in format 2 any attribute
            return tuple(f"dim_{axis}" for axis in range(self.array.ndim))
        return tuple(map(str, names))

    @property
    def _object_shape(self) -> tuple[int, ...]:
        """Shape of a stored object, a shard or a chunk, in elements."""
        return tuple(self.array.shards or self.array.chunks)

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of chunks or objects of a shape along each dimension."""
        return tuple(-(-size // max(1, edge)) for size, edge in zip(self.array.shape, shape, strict=True))

    def _index(self, name: str) -> tuple[int, ...] | None:
        """Index in the grid of objects of the object with a name; None if it is none of the grid."""
        numbers = tuple(map(int, re.findall(r"\d{1,18}", name))) if self.array.ndim else ()
        is_inside = len(numbers) == self.present.ndim and all(map(int.__lt__, numbers, self.present.shape))
        return numbers if is_inside and self.array.metadata.encode_chunk_key(numbers) == name else None

    def window(self, index: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """First element of a chunk along each dimension, and the one after its last."""
        axes = zip(index, self.chunk, self.array.shape, strict=True)
        return tuple((number * edge, min((number + 1) * edge, size)) for number, edge, size in axes)

    def values(self, index: tuple[int, ...]) -> NDArray:
        """Read the values of a chunk through Zarr and all its codecs.

        Raises
        ------
        Exception
            Anything, from Zarr and its codecs, if the chunk is damaged.
        """
        return np.asarray(self.array[tuple(slice(*span) for span in self.window(index))])

    def places(self) -> Iterator[Place]:
        """Places of all chunks, in the order of the objects."""
        for batch in _index_batches(self.present.shape):
            keys = [self.prefix + self.array.metadata.encode_chunk_key(index) for index in batch]
            if self.shard_index is None:
                for index, key in zip(batch, keys, strict=True):
                    yield Place(index, key, is_absent=not self.present[index])
                continue
            shards = [key for index, key in zip(batch, keys, strict=True) if self.present[index]]
            indices = sync(_gathered(self._shard_index(key, self.shard_index) for key in shards))
            index_of = dict(zip(shards, indices, strict=True))
            for index, key in zip(batch, keys, strict=True):
                yield from self._inner_places(index, key, index_of.get(key))

    async def _shard_index(self, key: str, layout: ShardIndexLayout) -> ShardIndex:
        """Read the index of a shard."""
        count = math.prod(map(int.__floordiv__, self._object_shape, self.chunk))
        size = await self.store.getsize(key)
        length = 16 * count + layout.checksum_bytes
        request = SuffixByteRequest(length) if layout.at_end else RangeByteRequest(0, length)
        content = await self.store.get(key, default_buffer_prototype(), request) if size >= length else None
        if content is None:
            return ShardIndex(None, size)
        return ShardIndex(parse_shard_index(content.to_bytes(), layout, count), size)

    def _inner_places(self, shard: tuple[int, ...], key: str, shard_index: ShardIndex | None) -> Iterator[Place]:
        """Places of the chunks in a shard, without those beyond the edge of the array; the index is None without a shard."""
        per_shard = tuple(map(int.__floordiv__, self._object_shape, self.chunk))
        for position, inner in enumerate(np.ndindex(per_shard)):
            index = tuple(map(lambda whole, step, part: whole * step + part, shard, per_shard, inner))
            if not all(map(int.__lt__, index, self.grid)):
                continue
            if shard_index is None:
                yield Place(index, key, is_absent=True)
                continue
            if shard_index.offsets is None:
                yield Place(index, key, problem="the index of its shard is damaged: restore the shard from a copy")
                continue
            offset, length = map(int, shard_index.offsets[position])
            if offset == length == NO_CHUNK:
                yield Place(index, key, is_absent=True)
            elif offset + length > shard_index.shard_bytes:
                yield Place(
                    index,
                    key,
                    problem=f"its shard ends at byte {shard_index.shard_bytes}, before the chunk does: it is truncated",
                )
            else:
                yield Place(index, key, span=(offset, offset + length))

    def contents(self, places: Iterable[Place], limit: int | None = None) -> list[bytes | None]:
        """Read the bytes of chunks.

        Parameters
        ----------
        places : iterable of Place
        limit : int, optional
            Number of bytes to read of each chunk at most.

        Returns
        -------
        list of bytes or None
            None for a chunk that is absent or whose place has a problem.
        """
        places = list(places)
        readable = [place for place in places if not (place.is_absent or place.problem)]
        contents = iter(sync(_gathered(self._content(place, limit) for place in readable)) if readable else ())
        return [None if place.is_absent or place.problem else next(contents) for place in places]

    async def _content(self, place: Place, limit: int | None) -> bytes | None:
        """Read the first bytes of a chunk; all of them without a limit."""
        start, stop = place.span or (0, None)
        if limit is not None:
            stop = start + limit if stop is None else min(stop, start + limit)
        request = None if stop is None else RangeByteRequest(start, stop)
        content = await self.store.get(place.key, default_buffer_prototype(), request)
        return None if content is None else content.to_bytes()


async def keys_below(store: Store, prefix: str) -> list[str]:
    """Keys in a store that begin with a prefix."""
    # zip files list their folders too, and browsers of object stores make empty objects that stand for folders
    return [key for key in await collected(store.list_prefix(prefix)) if not key.endswith("/")]


def _index_batches(shape: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Indices of a grid in C order, some at a time; numpy.ndindex would keep all positions of each dimension in memory."""
    if not shape:
        yield [()]
    for start in range(0, math.prod(shape) if shape else 0, BATCH):
        numbers = np.unravel_index(np.arange(start, min(start + BATCH, math.prod(shape))), shape)
        yield list(zip(*(axis.tolist() for axis in numbers), strict=True))


async def collected(keys: AsyncIterator[str]) -> list[str]:
    """Collect the strings of an asynchronous iterator."""
    return [key async for key in keys]


async def _gathered(tasks: Iterable[Awaitable[Any]]) -> list[Any]:
    """Results of tasks that run at the same time."""
    return await asyncio.gather(*tasks)


def is_compressed(array: zarr.Array) -> bool:
    """Return whether any codec of an array, also inside of shards, is one of xsarcomp."""
    metadata = array.metadata
    codecs: list[Any]
    if metadata.zarr_format == 2:
        codecs = [*(metadata.filters or ()), metadata.compressor]
    else:
        codecs = list(metadata.codecs)
        for codec in codecs:  # the list grows by the codecs inside of shards
            codecs += getattr(codec, "codecs", ())
    ours = codec_numcodecs.BackscatterCodec, codec_zarr.BackscatterCodec, codec_zarr.LatentsCodec
    return any(isinstance(codec, ours) for codec in codecs)


def parse_shard_index(raw: bytes, layout: ShardIndexLayout, count: int) -> NDArray[np.uint64] | None:
    """Offset and length of each of ``count`` chunks from the bytes of the index of a shard; None if it is damaged."""
    checksum = layout.checksum_bytes
    if checksum and google_crc32c.value(raw[:-checksum]) != int.from_bytes(raw[-checksum:], "little"):
        return None
    return np.frombuffer(raw, "<u8", 2 * count).reshape(count, 2)


def frame_layout(metadata: Any) -> FrameLayout:
    """Determine the layout of the frames of an array from its metadata."""
    ordinary = FrameLayout(0, None, None)
    codecs: list[Any]
    if metadata.zarr_format == 2:
        codecs = [*(metadata.filters or ()), *((metadata.compressor,) if metadata.compressor else ())]
        holds_frames = len(codecs) == 1 and isinstance(codecs[0], codec_numcodecs.BackscatterCodec)
        return FrameLayout(BACKSCATTER, codecs[0], None) if holds_frames else ordinary
    codecs, shard_index = list(metadata.codecs), None
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        shard_index = _shard_index_layout(codecs[0])
        codecs = list(codecs[0].codecs) if shard_index else []
    order = codecs.pop(0).order if codecs and isinstance(codecs[0], TransposeCodec) else None
    kind = FRAME_KINDS.get(type(codecs[0])) if len(codecs) == 1 else None
    return ordinary if kind is None else FrameLayout(kind, codecs[0], shard_index, order)


def _shard_index_layout(codec: ShardingCodec) -> ShardIndexLayout | None:
    """Layout of the index of shards; None if it is coded in an unusual way."""
    first, *others = codec.index_codecs
    is_plain = isinstance(first, BytesCodec) and getattr(first.endian, "value", first.endian) == "little"
    if not is_plain or len(others) > 1 or not all(isinstance(other, Crc32cCodec) for other in others):
        return None
    location = getattr(codec.index_location, "value", codec.index_location)
    return ShardIndexLayout(location == "end", 4 * len(others))
