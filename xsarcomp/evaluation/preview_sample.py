"""Sample of a scene for a preview: the whole of a small plane, some areas of a large one, and a crop to look at.

Areas have the size of stored chunks and begin where these begin, so that coding them alone takes the same bits.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError, DimensionError
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.scenes.variables import CHANNEL_NAMES, band_labels, declared_nodata, spatial_dimensions

WHOLE_PIXELS = 2**20
"""Largest number of pixels of a plane that is taken as a whole."""
AREA_PIXELS = 512
"""Side of the areas of a larger plane: that of a stored chunk."""
AREAS = 4
"""Number of these areas."""
AREA = "area"
"""Dimension along which areas are stacked."""

_MOST_TRIES = 3 * AREAS  # areas that are read in search of those with data
_LEAST_VALID = 0.5
_ALIGNMENT = 64  # pixels of a tile whose mean is kept, a multiple of the blocks that are coded together
_STRUCTURE_BLOCK = 8  # pixels whose mean shows structure and no speckle
_MOST_CHANNELS = 4

Area = tuple[slice, slice]
"""Rows and columns of a plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSample:
    """Part of a scene in memory, of one date."""

    planes: xr.Dataset
    """Variables (y, x) if the plane is taken as a whole, else (area, y, x); without coordinates."""
    areas: list[Area]
    """Rows and columns of each area in the scene."""
    spatial: tuple[Hashable, Hashable]
    """Vertical and horizontal dimension."""
    shape: tuple[int, int]
    """Rows and columns of the scene."""
    pixels: Mapping[Hashable, int]
    """Pixels of each variable in the scene, all dates together."""
    chosen: str
    """Dates and other planes that were chosen, in words; empty if there is nothing to choose."""

    @property
    def is_whole(self) -> bool:
        """True if the sample is all of the plane."""
        return AREA not in self.planes.dims

    @property
    def share(self) -> float:
        """Share of the pixels of the scene that are in the sample, 0 to 1."""
        return sum(array.size for array in self.planes.values()) / max(1, sum(self.pixels.values()))


def planes_to_sample(dataset: xr.Dataset, names: Iterable[Hashable]) -> tuple[xr.Dataset, str]:
    """Select one plane of each polarization: bands become variables, of dates and other dimensions the first is taken.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names

    Returns
    -------
    planes : xarray.Dataset
        Variables (y, x), lazy where they are lazy.
    chosen : str
        What was taken of which dimension, in words.

    Raises
    ------
    DimensionError
        If the variables have different grids, or no pixel.
    """
    planes: dict[Hashable, xr.DataArray] = {}
    chosen: dict[str, None] = {}
    names = list(names)
    for name in names:
        array = dataset[name].reset_coords(drop=True)
        for plane in _bands(array, is_only=len(names) == 1):
            first = {dim: 0 for dim in plane.dims if dim not in spatial_dimensions(plane) and plane.sizes[dim]}
            chosen |= dict.fromkeys(_first_words(plane, dim) for dim in first if plane.sizes[dim] > 1)
            planes[plane.name] = plane.isel(first, drop=True).transpose(*spatial_dimensions(plane))
    grids = {tuple(plane.sizes.items()) for plane in planes.values()}
    if len(grids) > 1 or any(0 in plane.shape for plane in planes.values()):
        found = ", ".join(f"{name} {dict(plane.sizes)}" for name, plane in planes.items())
        raise DimensionError(
            f"found {found}: a preview needs pixels, and variables of one grid. Choose some: variables=[...]"
        )
    return xr.Dataset(planes), ", ".join(chosen)


def _bands(array: xr.DataArray, *, is_only: bool) -> Iterator[xr.DataArray]:
    """Polarizations of an array along a dimension that is called so, under their labels; the array where it has none."""
    channels = [dim for dim in array.dims if dim in CHANNEL_NAMES and 1 < array.sizes[dim] <= _MOST_CHANNELS]
    if not channels:
        yield array
        return
    dim, found = channels[0], band_labels(array)
    labels = found[1] if found is not None and found[0] == dim else [f"{dim} {n}" for n in range(array.sizes[dim])]
    for position, label in enumerate(labels):
        name = label if is_only and labels.count(label) == 1 else f"{array.name} {dim} {position}"
        yield array.isel({dim: position}, drop=True).rename(name).assign_attrs(long_name=label)


def _first_words(plane: xr.DataArray, dim: Hashable) -> str:
    value = plane[dim].values[0] if dim in plane.coords else "0"
    text = np.datetime_as_string(value, unit="m") if isinstance(value, np.datetime64) else str(value)
    return f"{dim} {text}, the first of {plane.sizes[dim]:,}"


def take_sample(dataset: xr.Dataset, names: Iterable[Hashable], crop: Area | None = None) -> SceneSample:
    """Load a sample of a scene: at most :data:`WHOLE_PIXELS` of each plane, or some areas.

    Parameters
    ----------
    dataset : xarray.Dataset
        Possibly lazy; only what is sampled is read.
    names : iterable of variable names
    crop : tuple of two slice, optional
        Rows and columns that the sample must hold, see :func:`crop_area`.

    Returns
    -------
    SceneSample

    Raises
    ------
    DimensionError
        If the variables have different grids, or no pixel.
    """
    names = list(names)
    lazy, chosen = planes_to_sample(dataset, names)
    first = next(iter(lazy.values()))
    spatial, shape = (first.dims[0], first.dims[1]), (first.shape[0], first.shape[1])
    if shape[0] * shape[1] <= WHOLE_PIXELS:
        areas = [(slice(0, shape[0]), slice(0, shape[1]))]
        planes = lazy.compute()
    else:
        wanted = [] if crop is None else [_area_around(crop, shape)]
        parts = {**_load(lazy, spatial, wanted), **_areas_with_data(lazy, spatial, shape)}
        areas = [(slice(*rows), slice(*columns)) for rows, columns in parts]
        planes = _stacked(list(parts.values()), spatial)
    return SceneSample(
        planes=planes.drop_vars(planes.coords),
        areas=areas,
        spatial=spatial,
        shape=shape,
        pixels=_pixels(dataset, names, lazy),
        chosen=chosen,
    )


_Place = tuple[tuple[int, int], tuple[int, int]]
"""First and last row, first and last column, exclusive."""


def _pixels(dataset: xr.Dataset, names: list[Hashable], planes: xr.Dataset) -> dict[Hashable, int]:
    """Pixels of all dates of each plane: bands of a variable share its pixels evenly."""
    total = sum(dataset[name].size for name in names)
    if len(planes) != len(names):
        return {name: total // len(planes) for name in planes}
    return {name: dataset[source].size for name, source in zip(planes, names, strict=True)}


def _areas_with_data(
    lazy: xr.Dataset, spatial: tuple[Hashable, Hashable], shape: tuple[int, int]
) -> dict[_Place, xr.Dataset]:
    """Load areas that are spread over the scene; those that are mostly without data only if there are no others."""
    found: dict[_Place, xr.Dataset] = {}
    shares: dict[_Place, float] = {}
    for place in _spread_places(shape):
        if sum(share >= _LEAST_VALID for share in shares.values()) >= AREAS:
            break
        found |= _load(lazy, spatial, [place])
        shares[place] = _valid_share(found[place])
    best = sorted(shares, key=lambda place: -min(shares[place], _LEAST_VALID))[:AREAS]  # sorting is stable
    return {place: found[place] for place in best}


def _spread_places(shape: tuple[int, int]) -> list[_Place]:
    """Places of areas, at multiples of their size, in an order of which each beginning is spread evenly."""
    edges = [min(AREA_PIXELS, length) for length in shape]
    counts = [length // edge for length, edge in zip(shape, edges, strict=True)]
    places: dict[_Place, None] = {}
    for position in range(50 * _MOST_TRIES):
        if len(places) == min(_MOST_TRIES, counts[0] * counts[1]):
            break
        # multiples of irrational numbers spread evenly in every direction
        steps = (0.5 + position * 0.7548776662) % 1.0, (0.5 + position * 0.5698402910) % 1.0
        starts = [int(step * count) * edge for step, count, edge in zip(steps, counts, edges, strict=True)]
        places[(starts[0], starts[0] + edges[0]), (starts[1], starts[1] + edges[1])] = None
    return list(places)


def _load(lazy: xr.Dataset, spatial: tuple[Hashable, Hashable], places: Iterable[_Place]) -> dict[_Place, xr.Dataset]:
    return {
        place: lazy.isel({dim: slice(*span) for dim, span in zip(spatial, place, strict=True)}).compute()
        for place in places
    }


def _stacked(parts: list[xr.Dataset], spatial: tuple[Hashable, Hashable]) -> xr.Dataset:
    """Areas along a new dimension, with attributes and encoding of the scene."""
    stacked = {}
    for name, array in parts[0].items():
        values = np.stack([part[name].values for part in parts])
        stacked[name] = xr.Variable((AREA, *spatial), values, array.attrs, array.encoding)
    return xr.Dataset(stacked)


def _valid_share(part: xr.Dataset) -> float:
    """Share of numbers that are neither zero nor declared nodata."""
    shares = []
    for array in part.values():
        values = array.values
        is_valid = np.isfinite(values) & (values != 0) & (values != declared_nodata(array))
        shares.append(float(np.mean(is_valid)))
    return float(np.mean(shares))


def _area_around(crop: Area, shape: tuple[int, int]) -> _Place:
    """Place of an area that holds a crop, at a multiple of the tiles whose means are kept if that is possible."""
    spans = []
    for span, length in zip(crop, shape, strict=True):
        edge = min(AREA_PIXELS, length)
        start = span.start // _ALIGNMENT * _ALIGNMENT
        start = span.start if start + edge < span.stop else start
        start = min(start, length - edge)
        spans.append((start, start + edge))
    return spans[0], spans[1]


def crop_area(
    crop: Mapping[Hashable, slice], sizes: Mapping[Hashable, int], spatial: tuple[Hashable, Hashable]
) -> Area:
    """Rows and columns of a crop that was given as slices; a dimension that is not named is taken from its first pixel.

    Parameters
    ----------
    crop : mapping of dimension name to slice
        Positions, as for ``isel``.
    sizes : mapping of dimension name to int
        Sizes of the scene.
    spatial : tuple of two dimension names

    Returns
    -------
    tuple of two slice

    Raises
    ------
    ConfigurationError
        If a dimension is unknown, a slice is empty or has a step, or the crop is larger than :data:`AREA_PIXELS`.
    """
    spans = []
    unknown = [str(dim) for dim in crop if dim not in spatial]
    for dim in spatial:
        given = crop.get(dim, slice(0, min(AREA_PIXELS // 2, sizes[dim])))
        start, stop, step = given.indices(sizes[dim]) if isinstance(given, slice) else (0, 0, 1)
        if unknown or step != 1 or not 0 < stop - start <= AREA_PIXELS:
            raise ConfigurationError(
                f"crop={dict(crop)!r} is no crop of {dict(sizes)}: expected slices of pixels along {spatial[0]} and {spatial[1]}, 1 to "
                f"{AREA_PIXELS} long, like crop={{{spatial[0]!r}: slice(0, 256), {spatial[1]!r}: slice(0, 256)}}"
            )
        spans.append(slice(start, stop))
    return spans[0], spans[1]


def structured_crop(sample: SceneSample, edge: int, scales: Mapping[Hashable, str]) -> tuple[int, Area]:
    """Find the crop of a sample with most structure: the one in which local means differ most, with few invalid pixels.

    Parameters
    ----------
    sample : SceneSample
    edge : int
        Side of the crop in pixels; cut to the size of the areas.
    scales : mapping of variable name to str
        Scale of each variable.

    Returns
    -------
    number : int
        Area that holds the crop.
    crop : tuple of two slice
        Rows and columns in this area.
    """
    best: tuple[float, int, Area] = (-1.0, 0, (slice(0, 0), slice(0, 0)))
    for number in range(len(sample.areas)):
        score, area = _best_crop(
            [_decibels(array, number, scales[name]) for name, array in sample.planes.items()], edge
        )
        if score > best[0]:
            best = score, number, area
    return best[1], best[2]


def _decibels(array: xr.DataArray, number: int, scale: str) -> NDArray[np.float64]:
    values = array.values[number] if array.ndim == 3 else array.values
    power, valid = power_and_validity(values, scale=scale, nodata=declared_nodata(array))
    return np.where(valid, decibel_from_power(power), np.nan)


def _best_crop(planes_db: list[NDArray[np.float64]], edge: int) -> tuple[float, Area]:
    """Score and place of the best crop of planes of one shape."""
    block = _STRUCTURE_BLOCK
    rows, columns = (min(edge, length) for length in planes_db[0].shape)
    window = max(1, rows // block), max(1, columns // block)
    scores = 0.0
    for plane_db in planes_db:
        counts, sums = (_block_sums(values, block) for values in (np.isfinite(plane_db), np.nan_to_num(plane_db)))
        is_known = counts > block * block / 2
        means = np.where(is_known, sums / np.maximum(counts, 1), 0.0)
        known, first, second = (_window_sums(values, window) for values in (is_known, means, means**2))
        variance = second / np.maximum(known, 1) - (first / np.maximum(known, 1)) ** 2
        scores = scores + (1e-6 + np.maximum(variance, 0.0)) * (known / (window[0] * window[1])) ** 4
    position = np.unravel_index(int(np.argmax(scores)), np.shape(scores))
    starts = [
        min(int(place) * block, length - size)
        for place, length, size in zip(position, planes_db[0].shape, (rows, columns), strict=True)
    ]
    area = slice(starts[0], starts[0] + rows), slice(starts[1], starts[1] + columns)
    return float(np.max(scores)), area


def _block_sums(values: NDArray, block: int) -> NDArray[np.float64]:
    """Sums of blocks; the last ones may be incomplete."""
    edges = [range(0, length, block) for length in values.shape]
    return np.add.reduceat(np.add.reduceat(values.astype(np.float64), edges[0], axis=0), edges[1], axis=1)


def _window_sums(values: NDArray, window: tuple[int, int]) -> NDArray[np.float64]:
    """Sums of all windows of some rows and columns."""
    total = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows, columns = window
    return total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
