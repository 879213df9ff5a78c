"""The checks of a store as a whole: metadata, objects that belong to nothing, parts that do not fit together."""

import numpy as np
import xarray as xr

from xsarcomp.errors import LimitExceededError, SarcompError
from xsarcomp.latents.decode import align_parts, read_latents_metadata
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata, part_names
from xsarcomp.latents.plane_steps import plane_runs
from xsarcomp.stores.chunk_checks import Finding, latents_metadata
from xsarcomp.stores.listing import StoredGroup
from xsarcomp.stores.manifest import Manifest
from xsarcomp.stores.opening import open_zarr_store
from xsarcomp.stores.stored_array import StoredArray

MOST_READ = 2**23
"""Numbers of one array that are read at once: the coordinate of a dimension, or what planes were encoded with."""


def structure_findings(stored: StoredGroup) -> list[Finding]:
    """Findings about metadata, objects that belong to nothing, and parts of latents that do not fit together."""
    findings = [Finding(problem="metadata", message=message, array=path) for path, message in stored.problems]
    unknown = "it belongs to no array of the store: a leftover, a renamed chunk, or not from xsarcomp"
    findings += [Finding(problem="stray", message=unknown, key=key) for key in stored.strays]
    for array in stored.arrays:
        unknown = f"it is no chunk of the grid {array.grid}: a leftover or a renamed chunk"
        findings += [Finding(problem="stray", message=unknown, array=array.path, key=key) for key in array.strays]
    latents = [array.path for array in stored.arrays if ATTRIBUTE in array.attributes]
    for group in sorted({path.rpartition("/")[0] for path in latents}):
        where = "/".join(filter(None, (stored.path, group)))
        try:
            if not _can_be_opened(stored, group):
                continue
            with open_zarr_store(stored.store, chunks=None, group=where or None) as dataset:
                for metadata in read_latents_metadata(dataset).values():
                    _check_joined(dataset, metadata)
        except SarcompError as error:
            findings.append(Finding(problem="metadata", message=str(error), array=group))
        except Exception as error:
            findings.append(Finding(problem="metadata", message=f"xarray cannot open it ({error})", array=group))
    return findings


def _can_be_opened(stored: StoredGroup, group: str) -> bool:
    """Whether xarray may open a group, which reads the coordinates of its dimensions: not if an array there is in question."""
    if any(path.rpartition("/")[0] == group for path, _ in stored.problems):
        return False  # what that does to the others is not worth another finding
    for array in stored.arrays:
        parent, _, name = array.path.rpartition("/")
        if parent == group and array.dims == (name,):
            _check_size(f"the coordinate {name!r}", array.array.size)
    return True


def _check_size(what: str, numbers: int) -> None:
    """Refuse to read an array that claims too much."""
    if numbers > MOST_READ:
        raise LimitExceededError(f"{what} claims {numbers} numbers, expected at most {MOST_READ}: check the metadata")


def _check_joined(dataset: xr.Dataset, metadata: LatentsMetadata) -> None:
    """Refuse planes that were encoded otherwise than the metadata say; damaged and missing chunks have findings of their own."""
    parts, selected = align_parts(dataset, metadata)
    if "coding" not in parts:
        return
    _check_size(f"the coding of {metadata.name!r}", parts["coding"].size)
    try:
        coding = parts["coding"].values
    except Exception:
        return
    known = np.isfinite(coding).all(axis=-1)
    plane_runs(coding[known], selected, int(known.sum()))


def recorded_findings(stored: StoredGroup, manifest: Manifest) -> list[Finding]:
    """Findings about arrays and groups as a whole."""
    arrays = {array.path: array for array in stored.arrays}
    findings = []
    for path, digest in sorted(manifest.groups.items()):
        if stored.groups.get(path) != digest:
            message = "the group or its attributes are not what was recorded: if they were changed since, record again"
            findings.append(Finding(problem="metadata", message=message, array=path))
    for path, recorded in sorted(manifest.arrays.items()):
        array = arrays.get(path)
        if array is None:
            message = "the array was recorded and is not in the store: restore it from a copy"
            findings.append(Finding(problem="missing", message=message, array=path))
        elif array.digest != recorded.metadata:
            message = (
                f"shape, codecs or attributes are not what was recorded (the grid of chunks was {recorded.grid} and is "
                f"{array.grid}): if they were changed since, record again"
            )
            findings.append(Finding(problem="metadata", message=message, array=path))
    for path in sorted(set(arrays) - set(manifest.arrays)):
        message = "the array was written after the store was recorded: record again if that is right"
        findings.append(Finding(problem="unrecorded", message=message, array=path))
    return findings


def comparable_paths(stored: StoredGroup, manifest: Manifest) -> list[str]:
    """Arrays whose chunks are those that were recorded, or more."""
    arrays = {array.path: array for array in stored.arrays if array.path in manifest.arrays}
    return [
        path
        for path, array in arrays.items()
        if (manifest.arrays[path].kind, manifest.arrays[path].chunk) == (array.identities, array.chunk)
    ]


def masks_of_latents(stored: StoredGroup) -> dict[str, StoredArray]:
    """Mask of each array of latents, by the path of the latents."""
    arrays = {array.path: array for array in stored.arrays}
    masks = {}
    for path, array in arrays.items():
        metadata = latents_metadata(array)
        group = path.rpartition("/")[0]
        mask = metadata and arrays.get("/".join(filter(None, (group, part_names(metadata.name)["mask"]))))
        if mask is not None:
            masks[path] = mask
    return masks
