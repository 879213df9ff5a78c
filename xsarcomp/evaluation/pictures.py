"""Figures for reports: scenes side by side, and rate-distortion curves.

Matplotlib is optional and imported inside the functions. Figures are objects without a window or global
state, so that they can be drawn on a server and in threads.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from xsarcomp.errors import DimensionError, MissingDependencyError
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.metrics.rate_distortion import rmse_at_rates

_MOST_PIXELS = 1600
"""Longest side that is drawn; larger scenes are thinned out first, since a figure cannot show them."""

_STRETCH_PERCENTILES = (1.0, 99.0)
_DIFFERENCE_PERCENTILE = 99.0
_PANEL_INCHES = 4.0
_RATIO_LIMITS = (0.8, 1.4)


def comparison_figure(original, restored, scale, *, nodata=None):
    """Draw original, restored and their difference in decibel, one row per polarization.

    Parameters
    ----------
    original, restored : ndarray, DataArray or Dataset
        Backscatter of shape (y, x) or (polarization, y, x), or a Dataset with one variable (y, x) for each
        polarization; both with the same shape and names.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number, drawn as gap.

    Returns
    -------
    matplotlib.figure.Figure
        Original and restored share one gray stretch; the difference (restored minus original) has a symmetric
        color map. Colour bars are in dB.

    Raises
    ------
    DimensionError
        If shapes or variables do not fit.
    RadiometryError
        If `scale` is unknown.
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


def save_comparison(path, original, restored, scale, *, nodata=None, dots_per_inch=120):
    """Write the figure of `comparison_figure` to a file.

    Parameters
    ----------
    path : str or path-like
        File to write; its suffix decides the format (png, pdf, svg).
    original, restored, scale, nodata
        As for `comparison_figure`, which also lists the errors.
    dots_per_inch : int
        Resolution of raster formats.
    """
    comparison_figure(original, restored, scale, nodata=nodata).savefig(path, dpi=dots_per_inch)


def rate_distortion_figure(curves, bounds=None, *, reference=None, rates=(0.05, 4.0)):
    """Draw rate-distortion curves with logarithmic axes.

    Parameters
    ----------
    curves : mapping of str to sequence of RatePoint
        Curve of each codec, by name.
    bounds : mapping of str to sequence of RatePoint, optional
        What is no codec: drawn dashed and without markers.
    reference : str, optional
        Codec among `curves`. A second panel shows the errors of all over the error of this one at the same rate, where
        good codecs can be told apart.
    rates : tuple of two float
        Lowest and highest bits per pixel that are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        RMSE in dB against bits per pixel.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure((7.0, 5.0) if reference is None else (7.0, 9.0))
    axes, *below = figure.subplots(1 if reference is None else 2, sharex=True, squeeze=False)[:, 0]
    solid, dashed = {"marker": "."}, {"linestyle": "--", "color": "black"}
    for group, style in ((curves, solid), (bounds or {}, dashed)):
        for name, points in group.items():
            ordered = sorted((point.bits_per_pixel, point.rmse_db) for point in points)
            drawn = np.array([pair for pair in ordered if rates[0] <= pair[0] <= rates[1]]).reshape(-1, 2)
            axes.plot(*drawn.T, label=name, **style)
            for panel in below:
                panel.plot(drawn[:, 0], drawn[:, 1] / rmse_at_rates(curves[reference], drawn[:, 0]), **style)
    axes.set(xscale="log", yscale="log", ylabel="RMSE [dB]")
    axes.yaxis.set_major_formatter("{x:g}")
    for panel in below:
        panel.set(ylim=_RATIO_LIMITS, ylabel=f"RMSE over that of {reference}")
    figure.axes[-1].set_xlabel("bits per pixel and polarization")
    for panel in figure.axes:
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(visible=True, which="both", alpha=0.3)
    if curves or bounds:
        axes.legend()
    return figure


def new_figure(inches):
    """Make a figure without a window or global state.

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


def _named_planes(scene):
    """Return the planes of a scene by name, thinned out to what a figure can show."""
    if isinstance(scene, Mapping):
        planes = {str(name): scene[name] for name in getattr(scene, "data_vars", scene) if scene[name].ndim > 0}
    elif scene.ndim == 3:
        planes = {_label(scene, index): scene[index] for index in range(scene.shape[0])}
    else:
        planes = {_label(scene): scene}
    for name, plane in planes.items():
        if plane.ndim != 2 or 0 in plane.shape:
            raise DimensionError(
                f"found shape {plane.shape} for {name!r}, expected (y, x) with pixels. Select one date before drawing."
            )
    if not planes:
        raise DimensionError("found no variable to draw, expected at least one (y, x). Pass backscatter.")
    # thinning comes before loading, so that a lazy scene is not read as a whole into memory
    return {name: np.asarray(plane[_thinning(plane.shape)]) for name, plane in planes.items()}


def _label(scene, index=None):
    if not isinstance(scene, xr.DataArray):
        return "backscatter" if index is None else f"polarization {index}"
    if index is None:
        return str(scene.name or "backscatter")
    dimension = scene.dims[0]
    return str(scene[dimension].values[index]) if dimension in scene.coords else f"{dimension} {index}"


def _thinning(shape):
    step = -(-max(shape) // _MOST_PIXELS)
    return (slice(None, None, step), slice(None, None, step))


def _decibel_or_nan(plane, *, scale, nodata):
    power, valid = power_and_validity(plane, scale=scale, nodata=nodata)
    return np.where(valid, decibel_from_power(power), np.nan)


def _draw_row(row, name, original_db, restored_db):
    difference_db = restored_db - original_db
    low, high = limits(np.concatenate((original_db.ravel(), restored_db.ravel())), _STRETCH_PERCENTILES)
    largest = max(limits(np.abs(difference_db), (0.0, _DIFFERENCE_PERCENTILE))[1], 1e-3)
    gray = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "nearest"}
    red_blue = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest, "interpolation": "nearest"}
    panels = (
        ("original", original_db, gray),
        ("restored", restored_db, gray),
        ("restored - original", difference_db, red_blue),
    )
    figure = row[0].figure
    for axes, (title, plane_db, style) in zip(row, panels, strict=True):
        drawn = axes.imshow(plane_db, **style)
        axes.set(title=f"{name}: {title}", xticks=[], yticks=[])
        axes.set_facecolor("0.85")
        if title != "original":
            figure.colorbar(drawn, ax=axes, label="dB", shrink=0.8)


def limits(values, percentiles):
    """Return two percentiles of the finite values, the second above the first; 0 and 1 where there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, percentiles)
    return float(low), float(max(high, low + 1e-6))
