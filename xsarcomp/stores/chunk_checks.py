"""Checks of single chunks in a store: their bytes, their identity, and the meaning of their absence."""

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from xsarcomp.codec import chunk, integer_chunk
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.frame import BACKSCATTER, INTEGERS, LARGEST_CHUNK, LATENTS, Frame, read_frame
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.sections import check_nodata
from xsarcomp.errors import BitstreamError, LimitExceededError
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plane_steps import CODING
from xsarcomp.stores.manifest import ABSENT, Manifest, frame_identity, object_identity
from xsarcomp.stores.stored_array import Place, StoredArray

ProblemKind = Literal[
    "damaged", "missing", "swapped", "changed", "foreign", "unrecorded", "stray", "metadata", "model", "manifest"
]
KINDS = {BACKSCATTER: "backscatter", LATENTS: "latents", INTEGERS: "integers"}
"""Names of the kinds of frames in messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem of a store, with its place."""

    problem: ProblemKind
    """Kind of the problem."""
    message: str
    """Text that says what was found, what was expected, and what to do."""
    array: str = ""
    """Path of the array; empty if the problem is one of the whole store."""
    chunk: tuple[int, ...] | None = None
    """Index of the chunk; None if the problem is one of a whole array or store."""
    region: dict[str, tuple[int, int]] | None = None
    """First pixel (or element) of the chunk along each dimension, and the one after its last."""
    key: str = ""
    """Key of the object in the store."""

    def __str__(self) -> str:
        place = (self.key if self.chunk is None else "") or self.array or "store"
        if self.chunk is not None:
            spans = ", ".join(f"{name} {start}:{stop}" for name, (start, stop) in (self.region or {}).items())
            place += f" chunk {_numbers(self.chunk)} ({spans or 'scalar'})"
        return f"{place}: {self.problem}: {self.message}"


class ChunkProblem(NamedTuple):
    """A problem of a chunk."""

    kind: ProblemKind
    message: str
    """Text that says what was found, what was expected, and what to do."""


def chunk_finding(array: StoredArray, place: Place, problem: ChunkProblem) -> Finding:
    """Finding about a chunk.

    Parameters
    ----------
    array : StoredArray
    place : Place
        The chunk.
    problem : ChunkProblem

    Returns
    -------
    Finding
    """
    region = pixel_region(array, place.index)
    return Finding(
        problem=problem.kind,
        message=problem.message,
        array=array.path,
        chunk=place.index,
        region=region,
        key=place.key,
    )


def pixel_region(array: StoredArray, index: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Pixels of a chunk by dimension; those of the scene for a chunk of latents.

    Parameters
    ----------
    array : StoredArray
    index : tuple of int
        Index of the chunk.

    Returns
    -------
    dict
        Name of a dimension to its first pixel in the chunk and the one after the last.
    """
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
    except ValueError:  # a finding of the checks of whole stores
        return None


def identity(array: StoredArray, content: bytes) -> int:
    """Identity of a chunk for the manifest.

    Raises
    ------
    CorruptStreamError
        If it should be a frame, and has no whole header.
    """
    return frame_identity(content) if array.frame_kind else object_identity(content)


def content_problem(array: StoredArray, place: Place, content: bytes, coder: LappedCoder | None) -> ChunkProblem | None:
    """Check the bytes of a chunk without a look at other chunks.

    Parameters
    ----------
    array : StoredArray
    place : Place
    content : bytes
        All bytes of the chunk.
    coder : LappedCoder or None
        Model that decodes the symbols; without a model they are not decoded.

    Returns
    -------
    ChunkProblem or None
        The problem, "damaged", "foreign" or "missing"; None without one.
    """
    if not array.frame_kind:
        return _values_problem(array, place)
    try:
        frame = read_frame(content)
        message = _mismatch(array, frame)
        if message:
            return ChunkProblem("foreign", message)
        if coder is not None and array.frame_kind == LATENTS:
            chunk.decode_latents(content, coder)
        elif coder is not None and array.frame_kind == INTEGERS:
            integer_chunk.decode_integer_chunk(content)
        elif coder is not None:
            classes = chunk.read_backscatter(content, coder).classes
            check_nodata(classes, frame.dtype, array.nodata)
    except BitstreamError as error:
        return ChunkProblem("damaged", str(error))
    return None


def _values_problem(array: StoredArray, place: Place) -> ChunkProblem | None:
    """Check a chunk that is no bare frame, by reading it through Zarr."""
    try:
        values = array.values(place.index)
        classes = array.attributes.get("flag_values")
        is_unknown = classes is not None and not np.isin(values, np.asarray(classes)).all()
        is_unwritten = CODING in array.dims and not np.isfinite(values).all()
    except Exception as error:  # each codec has errors of its own, and attributes may hold anything
        return ChunkProblem("damaged", f"it cannot be decoded ({error}): restore it from a copy")
    if is_unknown:
        return ChunkProblem(
            "damaged", f"it holds values up to {values.max()}, expected those of flag_values: restore it from a copy"
        )
    if is_unwritten:
        return ChunkProblem(
            "missing",
            "it does not say with which step some of its planes were encoded: they were not written yet, or are lost",
        )
    return None


def _mismatch(array: StoredArray, frame: Frame) -> str:
    """Reason why a valid frame cannot belong to an array; empty if it can."""
    expected_dtype = array.array.dtype.newbyteorder("=")
    if frame.kind != array.frame_kind:
        found, expected = KINDS.get(frame.kind, f"kind {frame.kind}"), KINDS[array.frame_kind]
    elif not array.model_id.startswith(frame.model_id):
        found, expected = f"model {frame.model_id}...", f"model {array.model_id[: len(frame.model_id)]}..."
    elif frame.shape != array.frame_shape:
        found, expected = f"shape {frame.shape}", f"shape {array.frame_shape}"
    elif frame.dtype.newbyteorder("=") != expected_dtype:
        found, expected = f"type {frame.dtype}", f"type {expected_dtype}"
    else:
        return ""
    return f"a valid frame of {found}, expected {expected}: it is from another array or store. Restore it from a copy"


class Absence(enum.Enum):
    """Meaning of an absent chunk that no manifest knows. Zarr does not store a chunk of which all is the fill value."""

    LEGITIMATE = enum.auto()
    """Its values are the fill value."""
    MISSING = enum.auto()
    """It must have been stored, and is lost."""
    UNPROVEN = enum.auto()
    """Nothing says whether it was ever written."""


def absence_of(array: StoredArray, place: Place, mask: StoredArray | None) -> tuple[Absence, str]:
    """Determine the meaning of an absent chunk that no manifest knows.

    Parameters
    ----------
    array : StoredArray
    place : Place
        The chunk.
    mask : StoredArray or None
        Mask of an array of latents.

    Returns
    -------
    meaning : Absence
    message : str
        For a missing chunk: what was found, and what to do.
    """
    fill = array.array.fill_value
    advice = "restore it from a copy, or write the manifest if it was never written"
    if array.frame_kind in (LATENTS, INTEGERS) and fill == chunk.ABSENT:
        return Absence.MISSING, f"no chunk holds the fill value {fill}: {advice}"
    if array.frame_kind == LATENTS and mask is not None:  # of a store whose fill value is 0
        valid = _valid_pixels(array, place, mask)
        if not valid:
            return Absence.LEGITIMATE, ""
        return Absence.MISSING, f"it reads as {fill}, but the mask says that {valid} pixels are valid: {advice}"
    if array.frame_kind == INTEGERS:
        return Absence.UNPROVEN, ""
    if array.frame_kind or CODING in array.dims:
        return Absence.MISSING, f"it reads as fill value {fill}: {advice}"
    start, stop = array.window(place.index)[0] if array.array.ndim == 1 else (0, 0)
    if array.dims == (array.path.rpartition("/")[2],) and stop - start > 1:
        return Absence.MISSING, f"all of the coordinate reads as {fill}: {advice}"
    return Absence.UNPROVEN, ""


def _valid_pixels(array: StoredArray, place: Place, mask: StoredArray) -> int:
    """Number of valid pixels of a chunk; 1 where the mask or the metadata are damaged, which has a finding of its own."""
    try:
        spans = list(pixel_region(array, place.index).values())
        if math.prod(stop - start for start, stop in spans) > LARGEST_CHUNK:
            raise LimitExceededError("the metadata claim more pixels than a chunk may have")
        return int(np.count_nonzero(np.asarray(mask.array[tuple(slice(*span) for span in spans)]) == 0))
    except Exception:  # Zarr raises anything about a damaged chunk
        return 1


class ManifestComparison:
    """Comparison of the identities of chunks with those of the manifest.

    Parameters
    ----------
    manifest : Manifest
    comparable : iterable of str
        Paths of arrays whose chunks are divided as they were when the manifest was written.
    """

    def __init__(self, manifest: Manifest, comparable: Iterable[str]):
        self._recorded = {path: manifest.arrays[path].identities for path in comparable}
        self._paths = sorted(manifest.arrays)
        self._grids = [manifest.arrays[path].grid for path in self._paths]
        flat = [manifest.arrays[path].identities.reshape(-1) for path in self._paths]
        self._starts = np.cumsum([0, *(values.size for values in flat)])
        values = np.concatenate(flat) if flat else np.zeros(0, np.uint64)
        self._order = np.argsort(values, kind="stable")
        self._sorted = values[self._order]

    def covers(self, array: StoredArray, place: Place) -> bool:
        """Return whether the manifest has an entry for a chunk."""
        recorded = self._recorded.get(array.path)
        return recorded is not None and all(map(int.__lt__, place.index, recorded.shape))

    def problem(self, array: StoredArray, place: Place, current: int) -> ChunkProblem | None:
        """Compare a chunk that the manifest covers with its entry.

        Parameters
        ----------
        array : StoredArray
        place : Place
            The chunk.
        current : int
            Its identity now; ``ABSENT`` for an absent chunk.

        Returns
        -------
        ChunkProblem or None
            The problem, "missing", "swapped", "unrecorded" or "changed"; None without one.
        """
        expected = int(self._recorded[array.path][place.index])
        if current == expected:
            return None
        if current == ABSENT:
            return ChunkProblem(
                "missing",
                f"it was recorded and reads as fill value {array.array.fill_value} now: restore it from a copy",
            )
        if expected == ABSENT:
            owner = self._owner(current)
            if owner:
                return ChunkProblem("swapped", f"it holds what was recorded for {owner}, and was not stored: remove it")
            return ChunkProblem(
                "unrecorded", "it was not stored when the store was recorded: if it was written since, record again"
            )
        owner = self._owner(current)
        if owner:
            return ChunkProblem(
                "swapped",
                f"it holds what was recorded for {owner}: put both in their places, or restore from a copy",
            )
        return ChunkProblem(
            "changed",
            "it is intact and not what was recorded: written since (then record again), an older version, or from another store",
        )

    def _owner(self, current: int) -> str:
        """Array and chunk for which an identity was recorded, in words; empty if there is none."""
        position = int(np.searchsorted(self._sorted, np.uint64(current)))
        if position == self._sorted.size or int(self._sorted[position]) != current:
            return ""
        flat = int(self._order[position])
        number = int(np.searchsorted(self._starts, flat, side="right")) - 1
        index = np.unravel_index(flat - int(self._starts[number]), self._grids[number])
        return f"{self._paths[number]} chunk {_numbers(tuple(map(int, index)))}"


def _numbers(index: tuple[int, ...]) -> str:
    """Index of a chunk in words."""
    return "/".join(map(str, index)) or "0"
