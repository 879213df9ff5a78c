"""Checks of a whole store: metadata, objects that belong to nothing, and parts that do not fit together."""

import itertools
import math

import numpy as np
import xarray as xr

from xsarcomp.errors import LimitExceededError, SarcompError
from xsarcomp.latents.decode import align_parts, read_latents_metadata
from xsarcomp.latents.layout import CODING_CHUNK_LATENTS
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata, part_names
from xsarcomp.latents.plane_steps import plane_runs, plane_step
from xsarcomp.stores.chunk_checks import Finding, latents_metadata
from xsarcomp.stores.listing import StoredGroup
from xsarcomp.stores.manifest import Manifest
from xsarcomp.stores.opening import open_zarr_store
from xsarcomp.stores.stored_array import StoredArray
from xsarcomp.tiling import aligned_spans

MOST_READ = 2**23
"""Limit on the numbers of an array that are read at once: the coordinate of a dimension, or the steps of planes."""


def structure_findings(stored: StoredGroup) -> list[Finding]:
    """Check metadata, objects that belong to nothing, and parts of latents variables that do not fit together.

    Parameters
    ----------
    stored : StoredGroup

    Returns
    -------
    list of Finding
        Problems "metadata" and "stray".
    """
    findings = [Finding(problem="metadata", message=message, array=path) for path, message in stored.problems]
    message = "it belongs to no array of the store: a leftover, a renamed chunk, or not from xsarcomp"
    findings += [Finding(problem="stray", message=message, key=key) for key in stored.strays]
    for array in stored.arrays:
        message = f"it is no chunk of the grid {array.grid}: a leftover or a renamed chunk"
        findings += [Finding(problem="stray", message=message, array=array.path, key=key) for key in array.strays]
    latents = [array.path for array in stored.arrays if ATTRIBUTE in array.attributes]
    for group in sorted({path.rpartition("/")[0] for path in latents}):
        path_in_store = "/".join(filter(None, (stored.path, group)))
        try:
            if not _can_be_opened(stored, group):
                continue
            with open_zarr_store(stored.store, chunks=None, group=path_in_store or None) as dataset:
                for metadata in read_latents_metadata(dataset).values():
                    _check_joined(dataset, metadata)
        except SarcompError as error:
            findings.append(Finding(problem="metadata", message=str(error), array=group))
        except Exception as error:
            findings.append(Finding(problem="metadata", message=f"xarray cannot open it ({error})", array=group))
    return findings


def _can_be_opened(stored: StoredGroup, group: str) -> bool:
    """Return whether xarray may open a group: not if an array there has a problem.

    Raises
    ------
    LimitExceededError
        If the coordinate of a dimension, which xarray would read, is too large.
    """
    if any(path.rpartition("/")[0] == group for path, _ in stored.problems):
        return False  # it has a finding already
    for array in stored.arrays:
        parent, _, name = array.path.rpartition("/")
        if parent == group and array.dims == (name,):
            _check_size(f"the coordinate {name!r}", array.array.size)
    return True


def _check_size(name: str, numbers: int) -> None:
    """Refuse to read an array that claims too many numbers."""
    if numbers > MOST_READ:
        raise LimitExceededError(f"{name} claims {numbers} numbers, expected at most {MOST_READ}: check the metadata")


def _check_joined(dataset: xr.Dataset, metadata: LatentsMetadata) -> None:
    """Refuse planes whose settings are not those of the metadata; damaged and missing chunks have findings of their own."""
    parts, selected = align_parts(dataset, metadata)
    if "plane_coding" in parts:
        _check_plane(parts["plane_coding"], metadata)
    if "coding" not in parts:
        return
    _check_size(f"the coding of {metadata.name!r}", parts["coding"].size)
    try:
        coding = parts["coding"].values
    except Exception:  # a damaged chunk, which is checked by itself
        return
    known = np.isfinite(coding).all(axis=-1)
    plane_runs(coding[known], selected, int(known.sum()))


def _check_plane(coding: xr.Variable, metadata: LatentsMetadata) -> None:
    """Refuse a plane whose settings are not those of the metadata, or not the same everywhere."""
    _check_size(
        f"the coding of {metadata.name!r}", math.prod(-(-size // CODING_CHUNK_LATENTS) for size in coding.shape[1:])
    )
    found = set()
    for spans in itertools.product(*(aligned_spans(0, size, CODING_CHUNK_LATENTS) for size in coding.shape[1:])):
        try:
            values = coding[(slice(None), *(slice(*span) for span in spans))].values.reshape(2, -1)
        except Exception:  # a damaged chunk, which is checked by itself
            continue
        found |= {tuple(pair) for pair in np.unique(values[:, np.isfinite(values).all(axis=0)], axis=1).T.tolist()}
    if found:
        plane_step(np.array(sorted(found)).T[:, None], metadata)


def recorded_findings(stored: StoredGroup, manifest: Manifest) -> list[Finding]:
    """Compare arrays and groups as a whole with the manifest.

    Parameters
    ----------
    stored : StoredGroup
    manifest : Manifest

    Returns
    -------
    list of Finding
        Problems "metadata", "missing" and "unrecorded".
    """
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
    """Paths of arrays whose chunks are divided as they were when the manifest was written; there may be more chunks now."""
    arrays = {array.path: array for array in stored.arrays if array.path in manifest.arrays}
    return [
        path
        for path, array in arrays.items()
        if (manifest.arrays[path].kind, manifest.arrays[path].chunk) == (array.identities, array.chunk)
    ]


def masks_of_latents(stored: StoredGroup) -> dict[str, StoredArray]:
    """Mask of each array of latents that has one, by the path of the latents."""
    arrays = {array.path: array for array in stored.arrays}
    masks = {}
    for path, array in arrays.items():
        metadata = latents_metadata(array)
        if metadata is None:
            continue
        group = path.rpartition("/")[0]
        mask = arrays.get("/".join(filter(None, (group, part_names(metadata.name)["mask"]))))
        if mask is not None:
            masks[path] = mask
    return masks
