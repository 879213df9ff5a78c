"""The checks of one stored chunk: its bytes, its identity, and what its absence means."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xsarcomp.codec import chunk
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.frame import BACKSCATTER, INTEGERS, LARGEST_CHUNK, LATENTS, Frame, read_frame
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.sections import check_nodata
from xsarcomp.errors import BitstreamError, LimitExceededError
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plane_steps import CODING
from xsarcomp.stores.manifest import ABSENT, Manifest, frame_identity, object_identity
from xsarcomp.stores.stored_array import Place, StoredArray

KINDS = {BACKSCATTER: "backscatter", LATENTS: "latents", INTEGERS: "integers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a store."""

    problem: str
    """damaged, missing, swapped, changed, foreign, unrecorded, stray, metadata, model or manifest."""
    message: str
    """What was found, what was expected, and what to do."""
    array: str = ""
    """Path of the array; empty where the store as a whole is meant."""
    chunk: tuple[int, ...] | None = None
    """Index of the chunk; None where the array as a whole is meant."""
    region: dict[str, tuple[int, int]] | None = None
    """First and last pixel (or element) of the chunk along each dimension, the last excluded."""
    key: str = ""
    """Key of the object in the store."""

    def __str__(self) -> str:
        place = (self.key if self.chunk is None else "") or self.array or "store"
        if self.chunk is not None:
            spans = ", ".join(f"{name} {start}:{stop}" for name, (start, stop) in self.region.items())
            place += f" chunk {_numbers(self.chunk)} ({spans or 'scalar'})"
        return f"{place}: {self.problem}: {self.message}"


def finding(array: StoredArray, place: Place, problem: str, message: str) -> Finding:
    """A finding about a chunk."""
    region = pixel_region(array, place.index)
    return Finding(problem=problem, message=message, array=array.path, chunk=place.index, region=region, key=place.key)


def pixel_region(array: StoredArray, index: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Which pixels a chunk holds, by dimension; those of the scene for a chunk of latents."""
    region = dict(zip(array.dims, array.window(index), strict=True))
    metadata = latents_metadata(array)
    if metadata is None:
        return region
    spatial = {f"{dim}_latent": (dim, size) for dim, size in zip(metadata.spatial, metadata.pixels, strict=True)}
    pixels = {}
    for name, (start, stop) in region.items():
        if name in spatial:
            dim, size = spatial[name]
            pixels[dim] = BLOCK * start, min(BLOCK * stop, size)
        elif name != "latent":
            pixels[name] = start, stop
    return pixels


def latents_metadata(array: StoredArray) -> LatentsMetadata | None:
    """Metadata of an array of latents; None for any other array."""
    try:
        return LatentsMetadata.from_attribute(array.attributes[ATTRIBUTE]) if ATTRIBUTE in array.attributes else None
    except ValueError:  # said where the store as a whole is checked
        return None


def identity(array: StoredArray, content: bytes) -> int:
    """Identity of a chunk for the manifest."""
    return frame_identity(content) if array.frame_kind else object_identity(content)


def content_problem(
    array: StoredArray, place: Place, content: bytes, coder: LappedCoder | None
) -> tuple[str, str] | None:
    """What is wrong with the bytes of a chunk, without a look at other chunks: problem and message.

    Parameters
    ----------
    array : StoredArray
    place : Place
    content : bytes
        All bytes of the chunk.
    coder : LappedCoder or None
        Model that decodes the symbols; without one they are not decoded.
    """
    if not array.frame_kind:
        return _values_problem(array, place)
    try:
        frame = read_frame(content)
        message = _mismatch(array, frame)
        if message:
            return "foreign", message
        if coder is not None and array.frame_kind == LATENTS:
            chunk.decode_latents(content, coder)
        elif coder is not None and array.frame_kind == INTEGERS:
            chunk.decode_integer_chunk(content)
        elif coder is not None:
            classes = chunk.read_backscatter(content, coder).classes
            check_nodata(classes, frame.dtype, array.nodata)
    except BitstreamError as error:
        return "damaged", str(error)
    return None


def _values_problem(array: StoredArray, place: Place) -> tuple[str, str] | None:
    """What Zarr says to a chunk that is no bare frame."""
    try:
        values = array.values(place.index)
        classes = array.attributes.get("flag_values")
        is_unknown = classes is not None and not np.isin(values, np.asarray(classes)).all()
        is_unwritten = array.dims[-1:] == (CODING,) and not np.isfinite(values).all()
    except Exception as error:  # each codec has errors of its own, and attributes may hold anything
        return "damaged", f"it cannot be decoded ({error}): restore it from a copy"
    if is_unknown:
        return "damaged", f"it holds values up to {values.max()}, expected those of flag_values: restore it from a copy"
    if is_unwritten:
        return (
            "missing",
            "nothing says with which step some of its planes were encoded: they were not written yet, or are lost",
        )
    return None


def _mismatch(array: StoredArray, frame: Frame) -> str:
    """Why a valid frame cannot belong to an array; empty if it can."""
    expected_dtype = array.array.dtype.newbyteorder("=")
    if frame.kind != array.frame_kind:
        found, expected = KINDS.get(frame.kind, f"kind {frame.kind}"), KINDS[array.frame_kind]
    elif not array.model_id.startswith(frame.model_id):
        found, expected = f"model {frame.model_id}...", f"model {array.model_id[: len(frame.model_id)]}..."
    elif frame.shape != array.chunk:
        found, expected = f"shape {frame.shape}", f"shape {array.chunk}"
    elif frame.dtype.newbyteorder("=") != expected_dtype:
        found, expected = f"type {frame.dtype}", f"type {expected_dtype}"
    else:
        return ""
    return f"a valid frame of {found}, expected {expected}: it is from another array or store. Restore it from a copy"


def absence_problem(array: StoredArray, place: Place, mask: StoredArray | None) -> str | None:
    """What is wrong with a chunk that is absent, where no manifest knows it; empty if nothing is, None if nobody can know.

    Zarr does not store a chunk of which all is the fill value, so that an absent chunk need not be a lost one.
    """
    fill = array.array.fill_value
    advice = "restore it from a copy, or write the manifest if it was never written"
    if array.frame_kind in (LATENTS, INTEGERS) and fill == chunk.ABSENT:
        return f"no chunk holds the fill value {fill}: {advice}"
    if array.frame_kind == LATENTS and mask is not None:  # of a store whose fill value is 0
        try:
            spans = list(pixel_region(array, place.index).values())
            if math.prod(stop - start for start, stop in spans) > LARGEST_CHUNK:
                raise LimitExceededError("the metadata claim more pixels than a chunk may have")
            valid = int(np.count_nonzero(mask.array[tuple(slice(*span) for span in spans)] == 0))
        except Exception:  # the mask or the metadata is damaged, and said to be where they are checked
            valid = 1
        return f"it reads as {fill}, but the mask says that {valid} pixels are valid: {advice}" if valid else ""
    if array.frame_kind == INTEGERS:
        return None
    if array.frame_kind or array.dims[-1:] == (CODING,):
        return f"it reads as fill value {fill}: {advice}"
    start, stop = array.window(place.index)[0] if array.array.ndim == 1 else (0, 0)
    if array.dims == (array.path.rpartition("/")[2],) and stop - start > 1:
        return f"all of the coordinate reads as {fill}: {advice}"
    return None


class Comparison:
    """Compares the identities of chunks with those of the manifest."""

    def __init__(self, manifest: Manifest, comparable: Iterable[str]):
        self._recorded = {path: manifest.arrays[path].identities for path in comparable}
        self._names = sorted(manifest.arrays)
        self._grids = [manifest.arrays[path].grid for path in self._names]
        flat = [manifest.arrays[path].identities.reshape(-1) for path in self._names]
        self._starts = np.cumsum([0, *(values.size for values in flat)])
        values = np.concatenate(flat) if flat else np.zeros(0, np.uint64)
        self._order = np.argsort(values, kind="stable")
        self._sorted = values[self._order]

    def knows(self, array: StoredArray, place: Place) -> bool:
        """Whether the chunk was in the array when it was recorded."""
        recorded = self._recorded.get(array.path)
        return recorded is not None and all(map(int.__lt__, place.index, recorded.shape))

    def problem(self, array: StoredArray, place: Place, found: int) -> tuple[str, str] | None:
        """Problem and message about a chunk of that identity, or about its absence; for a chunk that is known."""
        expected = int(self._recorded[array.path][place.index])
        if found == expected:
            return None
        if found == ABSENT:
            return (
                "missing",
                f"it was recorded and reads as fill value {array.array.fill_value} now: restore it from a copy",
            )
        if expected == ABSENT:
            owner = self._owner(found)
            if owner:
                return "swapped", f"it holds what was recorded for {owner}, and was not stored: remove it"
            return "unrecorded", "it was not stored when the store was recorded: if it was written since, record again"
        owner = self._owner(found)
        if owner:
            return (
                "swapped",
                f"it holds what was recorded for {owner}: put both in their places, or restore from a copy",
            )
        return (
            "changed",
            "it is intact and not what was recorded: written since (then record again), an older version, or from another store",
        )

    def _owner(self, found: int) -> str:
        """Array and chunk for which an identity was recorded; empty if there is none."""
        position = int(np.searchsorted(self._sorted, np.uint64(found)))
        if position == self._sorted.size or int(self._sorted[position]) != found:
            return ""
        flat = int(self._order[position])
        which = int(np.searchsorted(self._starts, flat, side="right")) - 1
        index = np.unravel_index(flat - int(self._starts[which]), self._grids[which])
        return f"{self._names[which]} chunk {_numbers(tuple(map(int, index)))}"


def _numbers(index: tuple[int, ...]) -> str:
    return "/".join(map(str, index)) or "0"
