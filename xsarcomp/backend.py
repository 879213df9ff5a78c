"""The xarray engine "sarcomp", which opens a latents store as backscatter, lazily, in one call.

No heavy import at module level: xarray imports every installed engine when it has to guess one.
"""

import contextlib
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.backends.common import BACKEND_ENTRYPOINTS

from xsarcomp.errors import ConfigurationError, NotEncodedError
from xsarcomp.stores.opening import open_by_zarr_engine

DECODING = ("mask_and_scale", "decode_times", "decode_timedelta", "use_cftime", "concat_characters", "decode_coords")
"""Options of xarray that say how variables are decoded by the conventions of CF."""
OPTIONS = ("group", "storage_options", "consolidated", "zarr_format", *DECODING)
"""Options that mean what they mean to xarray's Zarr engine."""


class SarcompBackendEntrypoint(BackendEntrypoint):
    """Engine of ``xr.open_dataset(store, engine="sarcomp")``, which opens a latents store as backscatter."""

    description = "Open latents stores of xsarcomp as Sentinel-1 backscatter"
    url = "https://pypi.org/project/xsarcomp/"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", *OPTIONS, "restore", "overview", "quality")
    supports_groups = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        restore: str | None = None,
        overview: int | None = None,
        quality: str = "best",
        **options: Any,
    ) -> xr.Dataset:
        """Open a latents store as sigma0 or gamma0 backscatter.

        Parameters
        ----------
        filename_or_obj : str, path or Zarr store
        drop_variables : str or iterable of str, optional
            Decoded or stored variables to leave out.
        restore : {"speckle"}, optional
            Add synthetic speckle in place of the lost one, see ``.sarcomp.decode``.
        overview : int, optional
            Edge of a block in pixels, 8, 16, ... 512, for a quicklook, see ``.sarcomp.decode``. Only the lowest latents of the
            chunks are decoded.
        quality : {"best", "fast"}
            "fast" decodes without the network, see ``.sarcomp.decode``.
        **options
            ``group``, ``storage_options``, ``consolidated``, ``zarr_format``, and how CF conventions are decoded: ``mask_and_scale``,
            ``decode_times``, ``decode_timedelta``, ``use_cftime``, ``concat_characters``, ``decode_coords`` ("all" if not
            given). As for xarray's Zarr engine, for all variables but the backscatter, which is decoded in any case.

        Returns
        -------
        xarray.Dataset
            Backscatter, decoded when it is read; ``chunks={}`` follows the chunks of the store.

        Raises
        ------
        NotEncodedError
            If the store holds no latents.
        ConfigurationError
            If ``restore``, ``overview`` or ``quality`` has another value, or two are given that contradict each other.
        """
        dropped, options = _names(drop_variables), _checked(options, overview)
        with contextlib.ExitStack() as stack:
            opened = open_by_zarr_engine("open_dataset", filename_or_obj, drop_variables=dropped, **options)
            stack.callback(opened.close)
            _check_group(opened, filename_or_obj, options)
            decoded = _decoded(opened, options, dropped=dropped, restore=restore, overview=overview, quality=quality)
            stack.pop_all()
            return decoded

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        restore: str | None = None,
        overview: int | None = None,
        quality: str = "best",
        **options: Any,
    ) -> dict[str, xr.Dataset]:
        """Open all groups of a store, those with latents as backscatter and the others as they are.

        Parameters
        ----------
        filename_or_obj, drop_variables, restore, overview, quality, **options
            As for :meth:`open_dataset`; ``group`` is the root of the tree.

        Returns
        -------
        dict of str to xarray.Dataset
            By path, without the manifests of the store.

        Raises
        ------
        NotEncodedError
            If no group holds latents.
        SarcompError
            As :meth:`open_dataset` raises it, with the path of the group.
        """
        from xsarcomp.latents.opened import coarsen_above
        from xsarcomp.latents.trees import decode_groups

        dropped, options = _names(drop_variables), _checked(options, overview)
        with contextlib.ExitStack() as stack:
            groups = open_by_zarr_engine("open_groups_as_dict", filename_or_obj, drop_variables=dropped, **options)
            for dataset in groups.values():
                stack.callback(dataset.close)
            decode = partial(
                _decoded, options=options, dropped=dropped, restore=restore, overview=overview, quality=quality
            )
            coarsen = None if overview is None else partial(coarsen_above, overview=overview)
            decoded = decode_groups(groups, decode, coarsen)
            for path, dataset in decoded.items():
                dataset.set_close(groups[path].close)
            stack.pop_all()
            return decoded

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Open a store with groups as a tree, see :meth:`open_groups_as_dict`."""
        groups = self.open_groups_as_dict(filename_or_obj, **options)
        with contextlib.ExitStack() as stack:
            for dataset in groups.values():
                stack.callback(dataset.close)
            tree = xr.DataTree.from_dict(groups)
            for path, dataset in groups.items():
                tree[path].set_close(dataset.close)
            stack.pop_all()
            return tree

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Refuse to be guessed: a latents store is a Zarr store too, and a user may want its latents."""
        return False


def register_engine() -> None:
    """Make the engine known to xarray, which may have looked for entry points before the package was installed, or find none."""
    BACKEND_ENTRYPOINTS["sarcomp"] = (None, SarcompBackendEntrypoint)
    xr.backends.refresh_engines()


def _decoded(
    opened: xr.Dataset,
    options: Mapping[str, Any],
    *,
    dropped: set[Hashable],
    restore: str | None,
    overview: int | None,
    quality: str,
) -> xr.Dataset:
    """Decode an opened store, whose coordinates are those that ``decode_coords`` asks for."""
    from xsarcomp.latents.opened import decode_opened

    result = decode_opened(opened, dropped=dropped, restore=restore, overview=overview, quality=quality)
    if options["decode_coords"] != "all":
        result = result.reset_coords([name for name in result.coords if name not in {*opened.coords, *result.dims}])
    result.set_close(opened.close)
    return result


def _check_group(opened: xr.Dataset, store: Any, options: Mapping[str, Any]) -> None:
    """Refuse a group without latents above others that hold some, and name these."""
    from xsarcomp.latents.trees import holds_latents

    if holds_latents(opened):
        return
    groups = open_by_zarr_engine("open_groups_as_dict", store, **options)
    below = [path.lstrip("/") for path, dataset in groups.items() if holds_latents(dataset)]
    for dataset in groups.values():
        dataset.close()
    if below:
        first = "/".join(filter(None, ((options.get("group") or "").strip("/"), below[0])))
        raise NotEncodedError(
            f"the group holds no latents (variables: {', '.join(map(str, opened.data_vars)) or 'none'}), but groups below it do: "
            f"{', '.join(below)}. Open one of them, group={first!r}, or all, xr.open_datatree(store, engine='sarcomp')"
        )


def _names(names: str | Iterable[Hashable] | None) -> set[Hashable]:
    """Names that are given as one or several."""
    return {names} if isinstance(names, str) else set(names or ())


def _checked(options: Mapping[str, Any], overview: int | None) -> dict[str, Any]:
    """Options for the Zarr engine; those that are unknown are refused, and those that an overview cannot follow."""
    if unknown := sorted(options.keys() - set(OPTIONS)):
        known = ", ".join((*OPTIONS, "drop_variables", "restore", "overview", "quality"))
        raise TypeError(f"engine 'sarcomp' does not know the options {', '.join(unknown)}, expected some of {known}")
    result = {"decode_coords": "all", **options}
    for name, needed in (("mask_and_scale", True), ("decode_coords", "all")):
        if overview is not None and result.get(name, needed) != needed:
            raise ConfigurationError(
                f"{name}={result[name]!r} and overview={overview} were given together, but an overview averages the coordinates of "
                f"pixels, and has to know them and their values. Leave {name} out"
            )
    return result
