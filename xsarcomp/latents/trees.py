"""Groups of a tree: those that hold latents are decoded, and all others stay as they are."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import xarray as xr

from xsarcomp.errors import NotEncodedError, SarcompError
from xsarcomp.latents.layout import MANIFEST_GROUP
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.latents.positions import drop_inherited_positions


def holds_latents(dataset: xr.Dataset) -> bool:
    """Check if a dataset holds latents."""
    return any(ATTRIBUTE in variable.attrs for variable in dataset.variables.values())


def is_manifest(path: str) -> bool:
    """Check if the path of a group is that of a manifest, which is no part of a tree."""
    return path.rpartition("/")[2] == MANIFEST_GROUP


@contextlib.contextmanager
def errors_of_group(path: str) -> Iterator[None]:
    """Context in which errors name a group.

    Parameters
    ----------
    path : str
        Path of the group in the tree.
    """
    try:
        yield
    except SarcompError as error:
        raise type(error)(f"group {path!r}: {error}") from error


def decode_groups(
    groups: Mapping[str, xr.Dataset],
    decode: Callable[[xr.Dataset], xr.Dataset],
    coarsen: Callable[[xr.Dataset, Sequence[xr.Dataset]], xr.Dataset] | None = None,
) -> dict[str, xr.Dataset]:
    """Decode the groups that hold latents.

    Parameters
    ----------
    groups : mapping of str to xarray.Dataset
        By path.
    decode : callable
        Decodes a dataset of latents.
    coarsen : callable, optional
        Makes of an overview's tree one again: called with a group without latents from which groups with latents inherit
        coordinates, or that inherits coarser ones, and with the groups with latents.

    Returns
    -------
    dict of str to xarray.Dataset
        All groups but the manifests of stores.

    Raises
    ------
    NotEncodedError
        If no group holds latents.
    SarcompError
        As ``decode`` raises it, with the path of the group.
    """
    groups = {path: dataset for path, dataset in groups.items() if not is_manifest(path)}
    latents = {path: dataset for path, dataset in groups.items() if holds_latents(dataset)}
    if not latents:
        raise NotEncodedError(
            f"no group of the tree holds latents (groups: {', '.join(groups)}): decode() takes what encode() made. Variables of "
            "transparent stores need no decoding, they already are backscatter"
        )
    decoded: dict[str, xr.Dataset] = {}
    for path, dataset in groups.items():
        with errors_of_group(path):
            if path in latents:
                decoded[path] = decode(dataset)
                continue
            decoded[path] = drop_inherited_positions(dataset)
            if coarsen is not None and (related := _related(path, decoded[path], latents, decoded)):
                decoded[path] = coarsen(decoded[path], related)
    return decoded


def _related(
    path: str, dataset: xr.Dataset, latents: Mapping[str, xr.Dataset], decoded: Mapping[str, xr.Dataset]
) -> list[xr.Dataset]:
    """Groups with latents on whose grid a group without stands: those below, or all if the groups above were coarsened."""
    inherited = {
        dim: size
        for above, group in decoded.items()
        if above != path and path.startswith(above.rstrip("/") + "/")
        for dim, size in group.sizes.items()
    }
    if any(inherited.get(dim, size) != size for dim, size in dataset.sizes.items()):
        return list(latents.values())
    return [group for other, group in latents.items() if other.startswith(path.rstrip("/") + "/")]
