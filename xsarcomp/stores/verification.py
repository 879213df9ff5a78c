"""Verification of compressed stores, and writing of the manifest that says which chunk belongs where.

A frame that was changed is refused by its checksums. Only the manifest reveals a frame at the wrong place, an older one, or
an absent one, see :mod:`xsarcomp.stores.manifest`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.frame import NO_MODEL
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import BitstreamError, ModelError, NotEncodedError
from xsarcomp.stores.array_writes import WrittenChunks
from xsarcomp.stores.chunk_checks import (
    Absence,
    ChunkProblem,
    Finding,
    ManifestComparison,
    absence_of,
    chunk_finding,
    content_problem,
    identity,
)
from xsarcomp.stores.compact import compact_documents
from xsarcomp.stores.listing import StoredGroup, open_stored
from xsarcomp.stores.locking import writer_lock
from xsarcomp.stores.manifest import (
    ABSENT,
    LARGEST_HEADER,
    Manifest,
    RecordedArray,
    joined_manifest,
    manifest_bytes,
    read_manifest,
)
from xsarcomp.stores.stored_array import BATCH, Place, StoredArray, is_compressed
from xsarcomp.stores.structure_checks import comparable_paths, masks_of_latents, recorded_findings, structure_findings

Progress = Callable[[int, int], None]
"""Callback with the number of checked chunks and the number of all chunks."""
MOST_LISTED = 10_000
"""Limit on the problems of a report. Metadata may claim tens of millions of chunks, and each missing one is a problem."""
_UNREADABLE = b""  # stands for a manifest that Zarr cannot read


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """Result of a verification: counts and problems."""

    ok: bool
    """True if there is no problem."""
    depth: str
    """"full", "quick" if no symbols were decoded, or "headers" if only the headers of frames were read."""
    manifest: str
    """"recorded", "none" or "damaged"."""
    arrays: int
    """Number of arrays."""
    chunks: int
    """Number of chunks that the metadata claim."""
    stored: int
    """Number of chunks that are in the store."""
    unproven: int
    """Number of absent chunks for which nothing says whether they were ever written."""
    bytes: int
    """Number of bytes that were read."""
    unlisted: int
    """Number of problems beyond the 10 000 that are listed."""
    problems: tuple[Finding, ...]
    """Problems, each with its place."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON, as ``xsarcomp verify --json`` prints it."""
        return asdict(self)


def verify_store(
    store: Any, *, quick: bool = False, storage_options: dict[str, Any] | None = None, progress: Progress | None = None
) -> VerificationReport:
    """Check every chunk of a compressed store.

    Parameters
    ----------
    store : str, path or Zarr store
        Latents or transparent store, or a single array with a codec of xsarcomp; Zarr format 2 or 3.
    quick : bool
        Leave out entropy decoding: all bytes are read and both checksums of each frame are compared, but not the hash of
        its symbols.
    storage_options : dict, optional
        Passed to the file system of a URL.
    progress : callable, optional
        Called with the number of checked chunks and the number of all chunks.

    Returns
    -------
    VerificationReport

    Raises
    ------
    NotEncodedError
        If it is no Zarr group or array, or nothing in it was compressed by xsarcomp.
    ConfigurationError
        If the store cannot list its objects.
    """
    stored, manifest_contents = _open_compressed(store, storage_options)
    findings = structure_findings(stored)
    manifests, damaged = _read_manifests(manifest_contents)
    state, comparison = "damaged" if damaged else "recorded" if manifests else "none", None
    recorded = frozenset(array.path for array in stored.arrays if _is_below(array.path, manifests))
    if manifests:
        manifest = joined_manifest(manifests)
        findings += [
            finding
            for finding in recorded_findings(stored, manifest)
            if finding.problem != "unrecorded" or finding.array in recorded
        ]
        findings += _groups_without(stored, manifest_contents)
        comparison = ManifestComparison(manifest, comparable_paths(stored, manifest))
    findings += damaged
    coders, missing_models = ({}, []) if quick else _coders(stored)
    check = _ChunkCheck(comparison, recorded, coders, masks_of_latents(stored))
    count: Counter[str] = Counter()
    with ThreadPoolExecutor() as pool:
        for array, places, contents in _batches(stored, progress, count):
            # absent chunks may be many, and are no work for a pool
            run = map if all(content is None for content in contents) else pool.map
            new_findings = [
                finding for finding in run(check, itertools.repeat(array), places, contents) if finding is not None
            ]
            findings += _listed(new_findings, findings, count)
    count["unproven"] = len(check.unproven)
    depth = "quick" if quick else "full"
    return _report(stored, findings + missing_models, count, depth, state)


@dataclass(frozen=True, eq=False)
class _ChunkCheck:
    """Check of chunks with all that is known about their store; several threads may call it."""

    comparison: ManifestComparison | None
    """None without a manifest."""
    recorded: frozenset[str]
    """Paths of the arrays in groups that have a manifest."""
    coders: dict[str, LappedCoder]
    """Models by id; those that are missing leave symbols undecoded."""
    masks: dict[str, StoredArray]
    """Masks of arrays of latents by the path of the latents."""
    unproven: list[None] = field(default_factory=list)
    """An entry for each absent chunk of which nothing says whether it was ever written: lists may grow in threads."""

    def __call__(self, array: StoredArray, place: Place, content: bytes | None) -> Finding | None:
        """Check a chunk; ``content`` is None if it is absent."""
        if place.problem:
            return chunk_finding(array, place, ChunkProblem("damaged", place.problem))
        problem = self._absence_problem(array, place) if content is None else self._problem(array, place, content)
        return None if problem is None else chunk_finding(array, place, problem)

    def _absence_problem(self, array: StoredArray, place: Place) -> ChunkProblem | None:
        """Problem of an absent chunk."""
        if self.comparison is not None and self.comparison.covers(array, place):
            return self.comparison.problem(array, place, ABSENT)
        meaning, message = absence_of(array, place, self.masks.get(array.path))
        if meaning is Absence.UNPROVEN:
            self.unproven.append(None)
        return ChunkProblem("missing", message) if meaning is Absence.MISSING else None

    def _problem(self, array: StoredArray, place: Place, content: bytes) -> ChunkProblem | None:
        """Problem of a chunk that is in the store."""
        is_covered, difference = False, None
        try:
            found = identity(array, content)
            if self.comparison is not None and self.comparison.covers(array, place):
                is_covered, difference = True, self.comparison.problem(array, place, found)
        except BitstreamError as error:
            return ChunkProblem("damaged", str(error))
        coder = self._coder(array)
        if is_covered and difference is None and not array.frame_kind and coder is None:
            return None  # the very bytes that were recorded: no need to decode them
        problem = content_problem(array, place, content, coder)
        is_swapped = difference is not None and difference.kind == "swapped"
        if problem is not None and not (is_swapped and problem.kind == "foreign"):
            return problem
        if difference is None and array.path in self.recorded and not is_covered:
            return ChunkProblem(
                "unrecorded", "it was written after the store was recorded: record again if that is right"
            )
        return difference

    def _coder(self, array: StoredArray) -> LappedCoder | None:
        """Model of an array; any model for integers, which need none: they are decoded where other arrays are."""
        if array.model_id == NO_MODEL:
            return next(iter(self.coders.values()), None)
        return self.coders.get(array.model_id)


def write_manifest(
    store: Any,
    *,
    check: bool = True,
    written: Mapping[str, WrittenChunks] | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Write the manifest of a store: the chunks that it holds now become the right ones.

    Write it again after a region was written or dates were appended. Temporary files that Zarr left where a writer was killed
    are removed, so no other process may write meanwhile; xsarcomp's own writers of local stores are refused.

    Parameters
    ----------
    store : str, path or Zarr store
    check : bool
        Refuse a store in which a quick :func:`verify_store` finds something damaged, foreign or out of place.
        If False, only the headers of frames are read: for a store that was just written.
    written : mapping of str to WrittenChunks, optional
        What the caller has just written, by array: other content there is a problem, because somebody else wrote it.
    storage_options, progress
        As for :func:`verify_store`.

    Returns
    -------
    VerificationReport
        Its ``manifest`` is "recorded", or "none" if there are problems and nothing was written.

    Raises
    ------
    NotEncodedError, ConfigurationError
        As for :func:`verify_store`; also if another process is writing the store.
    """
    with writer_lock(store, storage_options=storage_options), compact_documents():
        return _write_manifest(store, check, written or {}, storage_options, progress)


def _write_manifest(
    store: Any,
    check: bool,
    written: Mapping[str, WrittenChunks],
    storage_options: dict[str, Any] | None,
    progress: Progress | None,
) -> VerificationReport:
    """Write the manifest of a store that nobody else writes."""
    stored, _ = _open_compressed(store, storage_options, writable=True)
    stored.remove_temporary()
    findings = structure_findings(stored) if check else []
    count: Counter[str] = Counter()
    identities = {array.path: np.full(array.grid, ABSENT, np.uint64) for array in stored.arrays}

    def examine(array: StoredArray, place: Place, content: bytes | None) -> Finding | None:
        if place.problem:
            return chunk_finding(array, place, ChunkProblem("damaged", place.problem))
        known = written.get(array.path)
        try:
            found = ABSENT if content is None else identity(array, content)
        except BitstreamError as error:
            return chunk_finding(array, place, ChunkProblem("damaged", str(error)))
        identities[array.path][place.index] = found
        problem = None
        if known is not None and known.is_known[place.index] and known.identities[place.index] != found:
            problem = ChunkProblem("changed", "another process wrote into the store at the same time")
        elif check and content is not None:
            problem = content_problem(array, place, content, None)
        return None if problem is None else chunk_finding(array, place, problem)

    for array, places, contents in _batches(stored, progress, count, limit=None if check else LARGEST_HEADER):
        new_findings = [
            finding for finding in map(examine, itertools.repeat(array), places, contents) if finding is not None
        ]
        findings += _listed(new_findings, findings, count)
    if not findings:
        recorded = {
            array.path: RecordedArray(
                kind=array.identities,
                chunk=array.chunk,
                grid=array.grid,
                metadata=array.digest,
                identities=identities[array.path],
            )
            for array in stored.arrays
        }
        stored.write_manifest(manifest_bytes(Manifest(arrays=recorded, groups=stored.groups)))
    state = "none" if findings else "recorded"
    return _report(stored, findings, count, "quick" if check else "headers", state)


def _read_manifests(contents: Mapping[str, bytes]) -> tuple[dict[str, Manifest], list[Finding]]:
    """Manifests by the paths of their groups, and findings about those that are damaged."""
    manifests, findings = {}, []
    for group, content in contents.items():
        try:
            manifests[group] = read_manifest(content)
        except BitstreamError as error:
            message = f"nothing can be compared with it ({error})"
            findings.append(Finding(problem="manifest", message=message, array=group))
    return manifests, findings


def _is_below(path: str, groups: Iterable[str]) -> bool:
    """Return whether an array lies in one of some groups, or below."""
    return any(group == "" or path.startswith(f"{group}/") for group in groups)


def _groups_without(stored: StoredGroup, contents: Mapping[str, bytes]) -> list[Finding]:
    """Findings about groups with compressed arrays and without a manifest, in a store where others have one."""
    message = "other groups have a manifest and this one has none: it was lost, or record this group, xsarcomp verify --record"
    groups = {
        array.path.rpartition("/")[0]
        for array in stored.arrays
        if is_compressed(array.array) and not _is_below(array.path, contents)
    }
    return [Finding(problem="manifest", message=message, array=group) for group in sorted(groups)]


def _open_compressed(
    store: Any, storage_options: dict[str, Any] | None, *, writable: bool = False
) -> tuple[StoredGroup, dict[str, bytes]]:
    """Open a store in which something is compressed, and read the manifests of its groups: no bytes of a damaged one."""
    stored = open_stored(store, writable=writable, storage_options=storage_options)
    contents: dict[str, bytes] = {}
    for group in {"": None} | dict.fromkeys(stored.groups):
        try:
            content = stored.manifest(group)
        except Exception:  # Zarr raises anything about a damaged array
            content = _UNREADABLE
        if content is not None:
            contents[group] = content
    if not contents and not stored.problems and not any(is_compressed(array.array) for array in stored.arrays):
        names = [array.path for array in stored.arrays]
        raise NotEncodedError(f"{store} holds nothing that xsarcomp compressed: arrays {names}")
    return stored, contents


def _batches(
    stored: StoredGroup, progress: Progress | None, count: Counter[str], limit: int | None = None
) -> Iterator[tuple[StoredArray, list[Place], list[bytes | None]]]:
    """All chunks of a store with their bytes, at most ``limit`` of each frame, some chunks at a time; counts them."""
    total = sum(math.prod(array.grid) for array in stored.arrays)
    for array in stored.arrays:
        places = array.places()
        while batch := list(itertools.islice(places, BATCH)):
            contents = array.contents(batch, limit if array.frame_kind else None)
            yield array, batch, contents
            count.update(chunks=len(batch), stored=sum(content is not None for content in contents))
            count["bytes"] += sum(len(content or b"") for content in contents)
            if progress is not None:
                progress(count["chunks"], total)


def _listed(new_findings: list[Finding], findings: list[Finding], count: Counter[str]) -> list[Finding]:
    """New findings for which the report has room after the earlier ones; counts the others."""
    listed = new_findings[: max(0, MOST_LISTED - len(findings))]
    count["unlisted"] += len(new_findings) - len(listed)
    return listed


def _coders(stored: StoredGroup) -> tuple[dict[str, LappedCoder], list[Finding]]:
    """Models of a store by their ids, and findings about models that cannot be loaded."""
    coders: dict[str, LappedCoder] = {}
    findings = []
    for model_id in sorted({array.model_id for array in stored.arrays if array.frame_kind} - {NO_MODEL}):
        try:
            coders[model_id] = load_coder(model_id)
        except ModelError as error:
            findings.append(Finding(problem="model", message=f"symbols were not decoded: {error}"))
    return coders, findings


def _report(
    stored: StoredGroup, findings: list[Finding], count: Counter[str], depth: str, manifest: str
) -> VerificationReport:
    """Make a report from counts and findings."""
    return VerificationReport(
        ok=not findings,
        depth=depth,
        manifest=manifest,
        arrays=len(stored.arrays),
        chunks=count["chunks"],
        stored=count["stored"],
        unproven=count["unproven"],
        bytes=count["bytes"],
        unlisted=count["unlisted"],
        problems=tuple(findings),
    )
