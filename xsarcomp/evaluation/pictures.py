"""Pictures of an original and a restored scene side by side, for the demo and for notebooks.

Matplotlib is optional and imported inside the functions. Figures are objects without a window or global state, so that they can
be drawn on a server and in threads.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.errors import DimensionError, MissingDependencyError
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.whole_files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PIXELS = 1600
"""Longest side of a drawn plane. Larger planes are thinned out first, because a figure cannot show more pixels."""

_STRETCH_PERCENTILES = (1.0, 99.0)
_DIFFERENCE_PERCENTILE = 99.0
_PANEL_INCHES = 4.0


def comparison_figure(
    original: NDArray | xr.DataArray | xr.Dataset,
    restored: NDArray | xr.DataArray | xr.Dataset,
    scale: str,
    *,
    nodata: float | None = None,
) -> "Figure":
    """Draw original, restored and their difference in decibel, one row per polarization.

    Parameters
    ----------
    original, restored : ndarray, DataArray or Dataset
        Backscatter of shape (y, x) or (polarization, y, x), or a Dataset with one variable (y, x) for each
        polarization; both with the same shape and names.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number; such pixels are drawn as gaps.

    Returns
    -------
    matplotlib.figure.Figure
        Original and restored share one gray stretch; the difference (restored minus original) has a symmetric
        color map. Color bars are in dB.

    Raises
    ------
    DimensionError
        If shapes or variables do not match.
    RadiometryError
        If ``scale`` is unknown.
    MissingDependencyError
        If Matplotlib is not installed.
    """
    originals, restoreds = _named_planes(original), _named_planes(restored)
    if originals.keys() != restoreds.keys():
        raise DimensionError(
            f"found polarizations {list(restoreds)} in restored, expected {list(originals)} as in original. "
            "Select the same ones."
        )
    rows = len(originals)
    figure = new_figure((3 * _PANEL_INCHES + 2, rows * _PANEL_INCHES))
    axes = figure.subplots(rows, 3, squeeze=False, sharex=True, sharey=True)
    for row, (name, plane) in zip(axes, originals.items(), strict=True):
        if plane.shape != restoreds[name].shape:
            raise DimensionError(
                f"found shapes {plane.shape} (original) and {restoreds[name].shape} (restored), expected "
                "equal ones. Draw the same window of both scenes."
            )
        _draw_row(
            row,
            name,
            _decibel_or_nan(plane, scale=scale, nodata=nodata),
            _decibel_or_nan(restoreds[name], scale=scale, nodata=nodata),
        )
    return figure


def save_comparison(
    path: str | os.PathLike[str],
    original: NDArray | xr.DataArray | xr.Dataset,
    restored: NDArray | xr.DataArray | xr.Dataset,
    scale: str,
    *,
    nodata: float | None = None,
    dots_per_inch: float = 120,
) -> None:
    """Write the figure of :func:`comparison_figure` to a file.

    Parameters
    ----------
    path : str or path-like
        File to write; its suffix determines the format (png, pdf, svg).
    original, restored, scale, nodata
        As for :func:`comparison_figure`, which also lists the errors.
    dots_per_inch : float
        Resolution of raster formats.
    """
    figure = comparison_figure(original, restored, scale, nodata=nodata)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=dots_per_inch)


def new_figure(inches: tuple[float, float]) -> "Figure":
    """Create a figure without a window or global state.

    Parameters
    ----------
    inches : tuple of two float
        Width and height.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            'figures need Matplotlib, which is not installed. Install it with: pip install "xsarcomp[plot]".'
        ) from error
    return Figure(figsize=inches, layout="constrained")


def color_limits(values: NDArray[np.floating], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Compute the limits of a color scale that a few outliers do not stretch.

    Parameters
    ----------
    values : ndarray of float, any shape
        Values to draw; those that are not finite are ignored.
    percentiles : tuple of two float
        Percentiles of the lower and upper limit, 0 to 100.

    Returns
    -------
    tuple of two float
        Lower limit, and upper limit above it; 0 and 1 without a finite value.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, percentiles)
    return float(low), float(max(high, low + 1e-6))


def _named_planes(scene: NDArray | xr.DataArray | xr.Dataset) -> dict[str, NDArray]:
    """Planes of a scene by name, thinned out to what a figure can show."""
    planes: dict[str, NDArray | xr.DataArray]
    if isinstance(scene, Mapping):
        planes = {str(name): scene[name] for name in getattr(scene, "data_vars", scene) if scene[name].ndim > 0}
    elif scene.ndim == 3:
        planes = {_plane_name(scene, index): scene[index] for index in range(scene.shape[0])}
    else:
        planes = {_plane_name(scene): scene}
    for name, plane in planes.items():
        if plane.ndim != 2 or 0 in plane.shape:
            raise DimensionError(
                f"found shape {plane.shape} for {name!r}, expected (y, x) with pixels. Select one date before drawing."
            )
    if not planes:
        raise DimensionError("found no variable to draw, expected at least one (y, x). Pass backscatter.")
    # thinning comes before loading, so that a lazy scene is not read as a whole into memory
    return {name: np.asarray(plane[_thinning(plane.shape)]) for name, plane in planes.items()}


def _plane_name(scene: NDArray | xr.DataArray, index: int | None = None) -> str:
    if not isinstance(scene, xr.DataArray):
        return "backscatter" if index is None else f"polarization {index}"
    if index is None:
        return str(scene.name or "backscatter")
    dimension = scene.dims[0]
    return str(scene[dimension].values[index]) if dimension in scene.coords else f"{dimension} {index}"


def _thinning(shape: tuple[int, ...]) -> tuple[slice, slice]:
    step = -(-max(shape) // _MOST_PIXELS)
    return slice(None, None, step), slice(None, None, step)


def _decibel_or_nan(plane: NDArray, *, scale: str, nodata: float | None) -> NDArray[np.float64]:
    power, valid = power_and_validity(plane, scale=scale, nodata=nodata)
    return np.where(valid, decibel_from_power(power), np.nan)


def _draw_row(
    row: NDArray[np.object_], name: str, original_db: NDArray[np.float64], restored_db: NDArray[np.float64]
) -> None:
    difference_db = restored_db - original_db
    low, high = color_limits(np.concatenate((original_db.ravel(), restored_db.ravel())), _STRETCH_PERCENTILES)
    largest = max(color_limits(np.abs(difference_db), (0.0, _DIFFERENCE_PERCENTILE))[1], 1e-3)
    gray = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "nearest"}
    red_blue = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest, "interpolation": "nearest"}
    panels: tuple[tuple[str, NDArray[np.float64], dict[str, Any]], ...] = (
        ("original", original_db, gray),
        ("restored", restored_db, gray),
        ("restored - original", difference_db, red_blue),
    )
    figure = row[0].figure
    for axes, (title, plane_db, style) in zip(row, panels, strict=True):
        image = axes.imshow(plane_db, **style)
        axes.set(title=f"{name}: {title}", xticks=[], yticks=[])
        axes.set_facecolor("0.85")
        if title != "original":
            figure.colorbar(image, ax=axes, label="dB", shrink=0.8)
