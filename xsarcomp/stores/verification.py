"""Verification of compressed stores, and the manifest that says which chunk belongs where.

A frame that was changed is refused by its checksums. A frame at the wrong place, an older one and an absent one are found
by the manifest alone, see :mod:`xsarcomp.stores.manifest`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.frame import NO_MODEL
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import BitstreamError, ModelError, NotEncodedError
from xsarcomp.stores.chunk_checks import Comparison, Finding, absence_problem, content_problem, finding, identity
from xsarcomp.stores.listing import StoredGroup, open_stored
from xsarcomp.stores.manifest import ABSENT, LARGEST_HEADER, Manifest, RecordedArray, manifest_bytes, read_manifest
from xsarcomp.stores.stored_array import BATCH, Place, StoredArray, is_compressed
from xsarcomp.stores.structure_checks import comparable_paths, masks_of_latents, recorded_findings, structure_findings

Progress = Callable[[int, int], None]
"""Called with the number of chunks that are done and of all."""
MOST_LISTED = 10_000
"""Problems of a report. Metadata may claim tens of millions of chunks, and each that is missing would be one."""
_DAMAGED = b""  # stands for a manifest that Zarr cannot read


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """Result of a verification: counts, and all problems."""

    ok: bool
    """Whether there is no problem."""
    depth: str
    """"full", "quick", or "headers" where only the headers of frames were read."""
    manifest: str
    """"recorded", "none" or "damaged"."""
    arrays: int
    """Number of arrays."""
    chunks: int
    """Number of chunks that the metadata claim."""
    stored: int
    """Number of chunks that are in the store."""
    unproven: int
    """Number of absent chunks of which nothing says whether they were ever written."""
    bytes: int
    """Bytes that were read."""
    unlisted: int
    """Number of problems beyond the 10 000 that are listed."""
    problems: tuple[Finding, ...]
    """The problems, each with its place."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON, as ``xsarcomp verify --json`` prints it."""
        return asdict(self)


def verify_store(
    store: Any, *, quick: bool = False, storage_options: dict | None = None, progress: Progress | None = None
) -> VerificationReport:
    """Check every chunk of a compressed store.

    Parameters
    ----------
    store : str, path or Zarr store
        Latents or transparent store, or a single array with a codec of xsarcomp; Zarr format 2 or 3.
    quick : bool
        Leave out entropy decoding: all bytes are read and both checksums of each frame compared, but not the hash of its
        symbols.
    storage_options : dict, optional
        Passed to the file system of a URL.
    progress : callable, optional
        Called with the number of chunks that are done and of all.

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
    stored, content = _opened(store, storage_options)
    findings = structure_findings(stored)
    state, comparison = "none", None
    if content is not None:
        try:
            manifest = read_manifest(content)
            findings += recorded_findings(stored, manifest)
            state, comparison = "recorded", Comparison(manifest, comparable_paths(stored, manifest))
        except BitstreamError as error:
            state = "damaged"
            findings.append(Finding(problem="manifest", message=f"nothing can be compared with it ({error})"))
    coders, missing_models = ({}, []) if quick else _coders(stored)
    masks, unproven = masks_of_latents(stored), []
    count: Counter[str] = Counter()

    def examine(array: StoredArray, place: Place, content: bytes | None) -> Finding | None:
        if place.problem:
            return finding(array, place, "damaged", place.problem)
        known = comparison is not None and comparison.knows(array, place)
        if content is not None:
            return _stored_finding(array, place, content, comparison, known, _coder_of(array, coders))
        if known:
            problem = comparison.problem(array, place, ABSENT)
            return problem and finding(array, place, *problem)
        message = absence_problem(array, place, masks.get(array.path))
        if message is None:
            unproven.append(None)
        return finding(array, place, "missing", message) if message else None

    with ThreadPoolExecutor() as pool:
        for array, places, contents in _batches(stored, progress, count):
            # absent chunks may be many, and are no work for a pool
            run = map if all(content is None for content in contents) else pool.map
            found = list(filter(None, run(examine, itertools.repeat(array), places, contents)))
            findings += _listed(found, findings, count)
    count["unproven"] = len(unproven)
    depth = "quick" if quick else "full"
    return _report(stored, findings + missing_models, count, depth, state)


def _stored_finding(
    array: StoredArray,
    place: Place,
    content: bytes,
    comparison: Comparison | None,
    known: bool,
    coder: LappedCoder | None,
) -> Finding | None:
    """What is wrong with a chunk that is in the store."""
    try:
        found = identity(array, content)
        compared = comparison.problem(array, place, found) if known else None
    except BitstreamError as error:
        return finding(array, place, "damaged", str(error))
    if known and compared is None and not array.frame_kind and coder is None:
        return None  # the very bytes that were recorded: no need to decode them
    problem = content_problem(array, place, content, coder)
    if problem and not (compared and compared[0] == "swapped" and problem[0] == "foreign"):
        return finding(array, place, *problem)
    if compared:
        return finding(array, place, *compared)
    if comparison is not None and not known:
        message = "it was written after the store was recorded: record again if that is right"
        return finding(array, place, "unrecorded", message)
    return None


def write_manifest(
    store: Any, *, check: bool = True, storage_options: dict | None = None, progress: Progress | None = None
) -> VerificationReport:
    """Write the manifest of a store: from now on its present chunks are the right ones.

    Do it again after a region was written or dates were appended. Temporary files that Zarr left where a writer was killed
    are removed, so nobody else may write meanwhile.

    Parameters
    ----------
    store : str, path or Zarr store
    check : bool
        Refuse a store in which a quick :func:`verify_store` finds something damaged, foreign or out of place.
        Without it the headers of frames are read and nothing else of them: for a store that was just written.
    storage_options, progress
        As for :func:`verify_store`.

    Returns
    -------
    VerificationReport
        Its ``manifest`` is "recorded", or "none" if something is wrong and nothing was written.

    Raises
    ------
    NotEncodedError, ConfigurationError
        As of :func:`verify_store`.
    """
    stored, _ = _opened(store, storage_options, writable=True)
    stored.remove_temporary()
    findings = structure_findings(stored) if check else []
    count: Counter[str] = Counter()
    identities = {array.path: np.full(array.grid, ABSENT, np.uint64) for array in stored.arrays}

    def examine(array: StoredArray, place: Place, content: bytes | None) -> Finding | None:
        if place.problem:
            return finding(array, place, "damaged", place.problem)
        if content is None:
            return None
        try:
            identities[array.path][place.index] = identity(array, content)
        except BitstreamError as error:
            return finding(array, place, "damaged", str(error))
        problem = content_problem(array, place, content, None) if check else None
        return problem and finding(array, place, *problem)

    for array, places, contents in _batches(stored, progress, count, most=None if check else LARGEST_HEADER):
        found = list(filter(None, map(examine, itertools.repeat(array), places, contents)))
        findings += _listed(found, findings, count)
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


def _opened(store: Any, storage_options: dict | None, *, writable: bool = False) -> tuple[StoredGroup, bytes | None]:
    """A store and the bytes of its manifest, none of them if Zarr cannot read it; refused if nothing in it is compressed."""
    stored = open_stored(store, writable=writable, storage_options=storage_options)
    try:
        content = stored.manifest()
    except Exception:  # Zarr raises anything about a damaged array
        content = _DAMAGED
    if content is None and not stored.problems and not any(is_compressed(array.array) for array in stored.arrays):
        names = [array.path for array in stored.arrays]
        raise NotEncodedError(f"{store} holds nothing that xsarcomp compressed: arrays {names}")
    return stored, content


def _batches(
    stored: StoredGroup, progress: Progress | None, count: Counter, most: int | None = None
) -> Iterator[tuple[StoredArray, list[Place], list[bytes | None]]]:
    """All chunks of a store with their bytes, ``most`` of each frame at most; some at a time, and counted."""
    total = sum(math.prod(array.grid) for array in stored.arrays)
    for array in stored.arrays:
        places = array.places()
        while batch := list(itertools.islice(places, BATCH)):
            contents = array.contents(batch, most if array.frame_kind else None)
            yield array, batch, contents
            count.update(chunks=len(batch), stored=sum(content is not None for content in contents))
            count["bytes"] += sum(len(content or b"") for content in contents)
            if progress is not None:
                progress(count["chunks"], total)


def _listed(found: list[Finding], findings: list[Finding], count: Counter) -> list[Finding]:
    """Those of new findings for which the report has room; the others are counted."""
    listed = found[: max(0, MOST_LISTED - len(findings))]
    count["unlisted"] += len(found) - len(listed)
    return listed


def _coders(stored: StoredGroup) -> tuple[dict[str, LappedCoder], list[Finding]]:
    """The models of a store by their ids, and findings about those that cannot be loaded."""
    coders, findings = {}, []
    for model_id in sorted({array.model_id for array in stored.arrays if array.frame_kind} - {NO_MODEL}):
        try:
            coders[model_id] = load_coder(model_id)
        except ModelError as error:
            findings.append(Finding(problem="model", message=f"symbols were not decoded: {error}"))
    return coders, findings


def _coder_of(array: StoredArray, coders: dict[str, LappedCoder]) -> LappedCoder | None:
    """The model of an array; that of another for integers, which need none and are decoded where others are."""
    return next(iter(coders.values()), None) if array.model_id == NO_MODEL else coders.get(array.model_id)


def _report(
    stored: StoredGroup, findings: list[Finding], count: Counter[str], depth: str, manifest: str
) -> VerificationReport:
    """Report of counts and findings."""
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
