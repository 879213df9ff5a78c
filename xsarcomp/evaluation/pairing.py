"""Variables of two scenes that belong together: by name, or by polarization where one scene has bands; grids must agree."""

from collections.abc import Hashable

import numpy as np
import xarray as xr

from xsarcomp.errors import DimensionError
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.scenes.choice import choose_variables
from xsarcomp.scenes.quantities import Kind, judge_quantity
from xsarcomp.scenes.variables import (
    CHANNEL_NAMES,
    band_labels,
    has_spatial_dimensions,
    plane_polarizations,
    spatial_dimensions,
)


def match_variables(
    original: xr.DataArray | xr.Dataset, restored: xr.DataArray | xr.Dataset
) -> list[tuple[xr.DataArray, xr.DataArray]]:
    """Pair the variables of both sides; dimensions of both in the order of the original, (y, x) last.

    Variables are paired by name, and single ones whatever their names are. Where that does not fit, planes are paired by the
    polarizations that names or labels of bands tell.

    Parameters
    ----------
    original, restored : DataArray or Dataset

    Returns
    -------
    list of (original, restored)

    Raises
    ------
    DimensionError
        If variables, polarizations, dimensions, sizes or coordinates do not match.
    """
    originals = _backscatter_variables(original, "original")
    restoreds = _backscatter_variables(restored, "restored")
    if len(originals) == len(restoreds) == 1:
        pairs = list(zip(originals.values(), restoreds.values(), strict=True))
    else:
        pairs = [(variable, restoreds[name]) for name, variable in originals.items() if name in restoreds]
    if len(pairs) < len(originals) or not pairs or any(_contradict(*pair) for pair in pairs):
        first, second = _by_polarization(originals), _by_polarization(restoreds)
        pairs_by_polarization = [(plane, second[name]) for name, plane in first.items() if name in second]
        if not first or len(pairs_by_polarization) < len(first):
            raise _no_match(originals, restoreds)
        pairs = pairs_by_polarization
    return [_aligned(*pair) for pair in pairs]


def _no_match(originals: dict[Hashable, xr.DataArray], restoreds: dict[Hashable, xr.DataArray]) -> DimensionError:
    """Return the error for scenes whose variables do not belong together."""
    found, expected = ([_described(array) for array in side.values()] for side in (restoreds, originals))
    return DimensionError(
        f"found variables {found} in restored, expected {expected} as in original: same names, or the same polarizations. "
        "Select or rename them before comparing."
    )


def _described(array: xr.DataArray) -> str:
    """Name of a variable, with its polarizations where the name does not tell them."""
    names = [name.upper() for name in dict.fromkeys(_polarizations(array)) if name]
    return f"{array.name} ({', '.join(names)})" if names and names != [str(array.name).upper()] else str(array.name)


def _polarizations(array: xr.DataArray) -> list[str | None]:
    return plane_polarizations(array) if has_spatial_dimensions(array) else [None]


def _contradict(original: xr.DataArray, restored: xr.DataArray) -> bool:
    """Check if the planes of two variables have different polarizations, or the bands of one are more than those of the other."""
    if set(original.dims) == set(restored.dims):
        restored = restored.transpose(*original.dims)
    first, second = _polarizations(original), _polarizations(restored)
    if len(first) != len(second):
        return band_labels(original) is not None or band_labels(restored) is not None  # some bands of the other scene
    return any(one != other and None not in (one, other) for one, other in zip(first, second, strict=True))


def _by_polarization(variables: dict[Hashable, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Planes by polarization, bands cut out of their variables; empty if one occurs twice."""
    planes: dict[str, xr.DataArray] = {}
    for array in variables.values():
        labels = band_labels(array)
        if labels is not None and len(labels[1]) > 1 and any(_polarizations(array)):
            bands = [
                array.isel({labels[0]: number}, drop=True).rename(label).assign_attrs(long_name=label)
                for number, label in enumerate(labels[1])
            ]
        else:
            bands = [array]
        for band in bands:
            names = {name for name in _polarizations(band) if name}
            if len(names) != 1 or judge_quantity(band).kind is not Kind.BACKSCATTER:
                continue
            if (name := names.pop()) in planes:
                return {}
            planes[name] = band.rename(name)
    return planes


def _backscatter_variables(scene: xr.DataArray | xr.Dataset, side: str) -> dict[Hashable, xr.DataArray]:
    if isinstance(scene, xr.DataArray):
        return {scene.name: scene}
    if not isinstance(scene, xr.Dataset):
        raise DimensionError(
            f"found {type(scene).__name__} as {side}, expected xarray DataArray or Dataset. Use compare_arrays for NumPy arrays."
        )
    if latents := [name for name, variable in scene.variables.items() if ATTRIBUTE in variable.attrs]:
        raise DimensionError(
            f"found latents in {side} ({', '.join(map(str, latents))}), expected backscatter: decode them first, "
            f"{side}.sarcomp.decode()"
        )
    try:  # leaves out angles and noise
        names = set(choose_variables(scene).names)
    except DimensionError:
        names = set(scene.data_vars)
    # variables of one byte are masks and land cover classes, not backscatter
    return {
        name: variable
        for name, variable in scene.data_vars.items()
        if name in names and variable.ndim >= 2 and variable.dtype.kind in "fiu" and variable.dtype.itemsize > 1
    }


def _aligned(original: xr.DataArray, restored: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    original, restored = _without_single_band(original, restored), _without_single_band(restored, original)
    if set(original.dims) != set(restored.dims):
        raise DimensionError(
            f"found dimensions {restored.dims} of {restored.name!r} in restored, expected {original.dims} as in original. "
            "Rename or squeeze them before comparing."
        )
    spatial = spatial_dimensions(original) if has_spatial_dimensions(original) else original.dims[-2:]
    leading = [name for name in original.dims if name not in spatial]
    # time comes last, so that consecutive dates follow each other and a change needs only two of them in memory
    order = (*sorted(leading, key=lambda name: is_time(original, name)), *spatial)
    original, restored = original.transpose(*order), restored.transpose(*order)
    check_shapes(original.shape, restored.shape, f" of {original.name!r}")
    for name in order:
        _check_coordinate(name, original, restored)
    return original, restored


def _without_single_band(array: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Drop a dimension of one band that the other variable does not have, as a raster of one band has it."""
    single = [
        name for name in array.dims if name not in other.dims and name in CHANNEL_NAMES and array.sizes[name] == 1
    ]
    return array.squeeze(single, drop=True)


def is_time(variable: xr.DataArray, dimension: Hashable) -> bool:
    """Check if a dimension is called time, or has dates as coordinate."""
    is_date = dimension in variable.coords and variable[dimension].dtype.kind == "M"
    return str(dimension).lower() == "time" or is_date


def _check_coordinate(name: Hashable, original: xr.DataArray, restored: xr.DataArray) -> None:
    """Refuse a shifted, flipped or reordered axis, which would look like a large error of the codec."""
    if name not in original.indexes or name not in restored.indexes:
        return
    expected, found = original.indexes[name], restored.indexes[name]
    if expected.equals(found):
        return
    if expected.dtype.kind == found.dtype.kind == "f":
        spacing = float(np.min(np.abs(np.diff(expected)))) if len(expected) > 1 else 1.0
        if np.max(np.abs(expected.to_numpy() - found.to_numpy())) < 0.01 * spacing:
            return
    raise DimensionError(
        f"found other coordinates {name!r} of {restored.name!r} in restored than in original, expected the same grid in the "
        "same order. Align both before comparing, for example with restored.reindex_like(original)."
    )


def check_shapes(original_shape: tuple[int, ...], restored_shape: tuple[int, ...], of: str = "") -> None:
    """Refuse shapes that differ or have fewer than two dimensions; ``of`` names the variable in the message."""
    if original_shape != restored_shape or len(original_shape) < 2:
        raise DimensionError(
            f"found shapes{of} {original_shape} (original) and {restored_shape} (restored), expected two equal "
            "shapes (..., y, x). Compare the same window of both scenes."
        )
