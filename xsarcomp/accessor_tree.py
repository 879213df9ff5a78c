"""The ``.sarcomp`` accessor of DataTree: each group is treated as ``Dataset.sarcomp`` treats it, and errors name the group."""

from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from typing import Any

import xarray as xr

from xsarcomp.errors import ConfigurationError, DimensionError
from xsarcomp.latents.trees import decode_groups, errors_of_group, holds_latents, is_manifest
from xsarcomp.scenes.choice import holds_backscatter
from xsarcomp.scenes.quantities import is_auxiliary


@xr.register_datatree_accessor("sarcomp")
class DataTreeAccessor:
    """Learned compression of the backscatter in the groups of a tree: ``tree.sarcomp``."""

    def __init__(self, tree: xr.DataTree):
        self._tree = tree

    def _nodes(self) -> dict[str, xr.DataTree]:
        """Nodes by path from this one, parents first, without the manifests of stores."""
        return {path: node for path, node in _nodes(self._tree).items() if not is_manifest(path)}

    def _encoded_groups(
        self, variables: str | Iterable[Hashable] | None
    ) -> dict[str, tuple[xr.Dataset, list[Hashable] | None]]:
        """Groups to encode, with the coordinates that they inherit, and the chosen variables of each."""
        chosen = None if variables is None else [variables] if isinstance(variables, str) else list(variables)
        groups, found = {}, set()
        for path, node in self._nodes().items():
            if chosen is None and is_auxiliary(path):
                continue
            dataset = node.to_dataset()
            with errors_of_group(path):
                if holds_backscatter(dataset, chosen):
                    here = None if chosen is None else [name for name in chosen if name in dataset.data_vars]
                    groups[path] = dataset, here
                    found |= {*(here or ())}
        missing = [name for name in chosen or () if name not in found]
        if missing or not groups:
            listing = "; ".join(
                f"{path}: {', '.join(map(str, node.data_vars))}" for path, node in self._nodes().items()
            )
            what = (
                f"no group has the variables {missing}"
                if missing
                else "no group holds what says that it is backscatter"
            )
            raise DimensionError(f"{what}. Found {listing}. Name what to compress: variables=['vv']")
        return groups

    def encode(
        self, *, variables: str | Iterable[Hashable] | None = None, like: xr.DataTree | None = None, **request: Any
    ) -> xr.DataTree:
        """Encode the groups that hold backscatter to latents; all others are kept as they are.

        Parameters
        ----------
        variables : iterable of variable names, optional
            Variables to compress, in each group that has them. Without it, those that say that they are backscatter, and none
            of groups like ``quality/calibration``.
        like : xarray.DataTree, optional
            Latents to which the result will be appended, group by group.
        **request
            As for :meth:`DatasetAccessor.encode`; it is met in each variable of each group.

        Returns
        -------
        xarray.DataTree

        Raises
        ------
        DimensionError
            If no group holds backscatter, or none has one of the named variables.
        SarcompError
            As for a Dataset, with the path of the group.
        """
        groups = self._encoded_groups(variables)
        result = {}
        for path, node in self._nodes().items():
            if path not in groups:
                result[path] = node.to_dataset(inherit=False)
                continue
            dataset, chosen = groups[path]
            with errors_of_group(path):
                earlier = None if like is None else _group(like, path).to_dataset()
                result[path] = dataset.sarcomp.encode(variables=chosen, like=earlier, **request)
        return xr.DataTree.from_dict(result, name=self._tree.name)

    def encoding(
        self, *, variables: str | Iterable[Hashable] | None = None, **request: Any
    ) -> dict[str, dict[Hashable, dict[str, Any]]]:
        """Encoding for ``to_zarr`` that makes a transparent store of the groups that hold backscatter.

        Parameters
        ----------
        variables, **request
            As for :meth:`encode`, and ``zarr_format`` as for :meth:`DatasetAccessor.encoding`.

        Returns
        -------
        dict
            Path of a group to its encoding, for ``tree.to_zarr`` and ``tree.sarcomp.to_zarr``.

        Raises
        ------
        SarcompError
            As for :meth:`encode`.
        """
        nodes, result = self._nodes(), {}
        for path, (dataset, chosen) in self._encoded_groups(variables).items():
            with errors_of_group(path):
                result[nodes[path].path] = dataset.sarcomp.encoding(variables=chosen, **request)
        return result

    def decode(self, *, restore: str | None = None, overview: int | None = None, quality: str = "best") -> xr.DataTree:
        """Decode the groups that hold latents; all others are kept as they are.

        Parameters
        ----------
        restore, overview, quality
            As for :meth:`DatasetAccessor.decode`. Of an overview, the coordinates that groups inherit are coarsened too.

        Returns
        -------
        xarray.DataTree

        Raises
        ------
        NotEncodedError
            If no group holds latents.
        SarcompError
            As for a Dataset, with the path of the group.
        """
        from xsarcomp.latents.opened import coarsen_above

        groups = {
            path: node.to_dataset(inherit=holds_latents(node.to_dataset())) for path, node in self._nodes().items()
        }
        coarsen = None if overview is None else partial(coarsen_above, overview=overview, lazy=False)
        decoded = decode_groups(
            groups, lambda group: group.sarcomp.decode(restore=restore, overview=overview, quality=quality), coarsen
        )
        return xr.DataTree.from_dict(decoded, name=self._tree.name)

    def to_zarr(
        self,
        store: Any,
        *,
        mode: str | None = None,
        encoding: Mapping[str, Mapping[Hashable, Mapping[str, Any]]] | None = None,
        write_inherited_coords: bool = False,
        zarr_format: int | None = None,
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        """Write a tree of any size as one store with groups, each as :meth:`DatasetAccessor.to_zarr` writes a dataset.

        Each group with something compressed gets a manifest.

        Parameters
        ----------
        store, mode, zarr_format, storage_options, resume
            As for :meth:`DatasetAccessor.to_zarr`.
        encoding, write_inherited_coords
            As for :meth:`xarray.DataTree.to_zarr`.
        consolidated : bool, optional
            Consolidate the metadata of all groups at the root, unless False.

        Raises
        ------
        SarcompError
            As for a Dataset, with the path of the group. Groups that were written before stay; ``resume=True`` goes on.
        """
        from xsarcomp.stores.tree_writing import write_tree

        nodes = self._nodes()
        by_path = {node.path: path for path, node in nodes.items()}
        if unknown := [path for path in encoding or () if path not in by_path]:
            raise ConfigurationError(f"the encoding names the groups {unknown}, expected some of {[*by_path]}")
        write_tree(
            {path: node.to_dataset(inherit=write_inherited_coords or path == "/") for path, node in nodes.items()},
            store,
            encoding={by_path[path]: entries for path, entries in (encoding or {}).items()},
            mode=mode,
            zarr_format=zarr_format,
            consolidated=consolidated,
            storage_options=storage_options,
            resume=resume,
        )

    def compare(self, original: xr.DataTree, *, scale: str | None = None) -> dict[str, dict[str, Any]]:
        """Measure the groups of this decoded tree against those of the original.

        Parameters
        ----------
        original : xarray.DataTree
            With a group of the same path for each group that was compressed, or that says that it holds backscatter.
        scale : {"power", "amplitude", "decibel"}, optional
            Scale of both; inferred if None.

        Returns
        -------
        dict
            Path of a group to the metrics of :meth:`DatasetAccessor.compare`.

        Raises
        ------
        DimensionError
            If no group was compressed, or a group of the original is missing.
        SarcompError
            As for a Dataset, with the path of the group.
        """
        result = {}
        for path, node in self._nodes().items():
            dataset = node.to_dataset()
            if not dataset.sarcomp.info() and not holds_backscatter(dataset):
                continue
            with errors_of_group(path):
                result[path] = dataset.sarcomp.compare(_group(original, path).to_dataset(), scale=scale)
        if not result:
            raise DimensionError(f"no group holds backscatter to compare (groups: {', '.join(self._nodes())})")
        return result

    def info(self) -> dict[str, dict[str, Any]]:
        """Describe encoded or decoded variables of all groups.

        Returns
        -------
        dict
            Path of a group to what :meth:`DatasetAccessor.info` says of its variables; groups without any are left out.
        """
        described = {path: node.to_dataset().sarcomp.info() for path, node in self._nodes().items()}
        return {path: variables for path, variables in described.items() if variables}


def _nodes(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """Nodes of a tree by path from its root, parents first."""
    return {"/" if path == "." else f"/{path}": node for path, node in tree.subtree_with_keys}


def _group(tree: xr.DataTree, path: str) -> xr.DataTree:
    """Group of another tree at the same path."""
    if not isinstance(tree, xr.DataTree):
        raise ConfigurationError(f"found {type(tree).__name__}, expected a DataTree with the same groups as this one")
    groups = _nodes(tree)
    if path not in groups:
        raise DimensionError(f"the other tree has the groups {', '.join(groups)}, expected this one as well")
    return groups[path]
