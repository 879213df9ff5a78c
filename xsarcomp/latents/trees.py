"""Groups of a tree: those that hold latents are decoded, and all others stay as they are."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import xarray as xr

from xsarcomp.errors import NotEncodedError, SarcompError
from xsarcomp.latents.layout import MANIFEST_GROUP
from xsarcomp.latents.metadata import ATTRIBUTE


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
        Called with a group above others that hold latents, and with these: groups below inherit its coordinates, which an
        overview has to coarsen.

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
    decoded = {}
    for path, dataset in groups.items():
        below = [latents[other] for other in latents if other.startswith(path.rstrip("/") + "/")]
        with errors_of_group(path):
            if path in latents:
                decoded[path] = decode(dataset)
            else:
                decoded[path] = coarsen(dataset, below) if coarsen is not None and below else dataset
    return decoded
