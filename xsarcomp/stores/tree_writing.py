"""Writing of trees: one store with a group for each node, and a manifest in each group that has something compressed."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr
import zarr

from xsarcomp.errors import CorruptStreamError
from xsarcomp.latents.trees import errors_of_group
from xsarcomp.stores.compact import compact_documents
from xsarcomp.stores.locations import expanded
from xsarcomp.stores.locking import writer_lock
from xsarcomp.stores.manifest import GROUP
from xsarcomp.stores.sources import refuse_own_sources
from xsarcomp.stores.verification import write_manifest
from xsarcomp.stores.writing import write_dataset


def write_tree(
    groups: Mapping[str, xr.Dataset],
    store: Any,
    *,
    encoding: Mapping[str, Mapping[Hashable, Mapping[str, Any]]],
    mode: str | None = None,
    zarr_format: int | None = None,
    consolidated: bool | None = None,
    storage_options: dict[str, Any] | None = None,
    resume: bool = False,
) -> None:
    """Write a tree; see ``DataTree.sarcomp.to_zarr``.

    Parameters
    ----------
    groups : mapping of str to xarray.Dataset
        By path; the root ``/`` comes first, and each group after its parent.
    store, mode, zarr_format, consolidated, storage_options, resume
        As for ``DataTree.sarcomp.to_zarr``.
    encoding : mapping of str to mapping
        Path of a group to the encoding of its variables.
    """
    store = expanded(store)
    for path, dataset in groups.items():  # before the root is replaced, and with it all groups
        with errors_of_group(path):
            refuse_own_sources(dataset, store, storage_options=storage_options)
    if isinstance(store, str) and "://" not in store:
        Path(store).parent.mkdir(parents=True, exist_ok=True)
    with writer_lock(store, storage_options=storage_options), compact_documents():
        for path, dataset in groups.items():
            with errors_of_group(path):
                write_dataset(
                    dataset,
                    store,
                    mode=mode if path == "/" else None,
                    group=path.strip("/") or None,
                    encoding=encoding.get(path),
                    zarr_format=zarr_format,
                    consolidated=False,
                    storage_options=storage_options,
                    resume=resume,
                )
        root = zarr.open_group(store, mode="r+", use_consolidated=False, storage_options=storage_options)
        _renew_manifests(root, [path.strip("/") for path in groups], check=resume)
        if consolidated is not False and getattr(root.store, "supports_consolidated_metadata", True):
            zarr.consolidate_metadata(root.store, path=root.path or None)


def _renew_manifests(root: zarr.Group, paths: list[str], *, check: bool) -> None:
    """Write the manifests of groups above others again: they record all that lies below, which was written after them."""
    for path in paths:
        group: Any = root[path] if path else root
        has_groups = any(other.startswith(f"{path}/".lstrip("/")) for other in paths if other != path)
        if has_groups and GROUP in group:
            report = write_manifest(group.store_path, check=check)
            if not report.ok:
                raise CorruptStreamError(
                    f"group {f'/{path}'!r} holds wrong chunks, the first: {report.problems[0]}. Write the store anew without resume"
                )
