"""Figures of one compared plane: quicklooks, histograms, maps, worst tiles. For the report and for notebooks.

Each function takes the result of :func:`xsarcomp.evaluation.report.digest.digest_arrays`. The color maps are readable
without color vision. Matplotlib is optional and imported when first needed.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.evaluation.pictures import color_limits, new_figure
from xsarcomp.evaluation.report.digest import Digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_STRETCH_PERCENTILES = (1.0, 99.0)
_DIFFERENCE_PERCENTILE = 99.5
_LOOKS_PERCENTILES = (0.0, 95.0)
_PANEL_INCHES = 5.0
_THIRD_INCHES = 3.5
_TILE_INCHES = 2.6
_GAP_COLOR = "0.85"
_ORIGINAL_COLOR, _RESTORED_COLOR = "#1f4e79", "#d95f02"


def quicklook_figure(digest: Digest) -> "Figure":
    """Draw original and restored in one gray stretch, and their difference in dB.

    Parameters
    ----------
    digest : Digest
        As :func:`~xsarcomp.evaluation.report.digest.digest_arrays` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels side by side. The difference is restored minus original. Invalid pixels are gray.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure(_figure_inches(digest, rows=1, columns=3, panel_inches=_THIRD_INCHES, besides=0.9))
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    difference_db = digest.restored_db - digest.original_db
    low, high = color_limits(np.concatenate((digest.original_db, digest.restored_db), axis=None), _STRETCH_PERCENTILES)
    largest = _largest(difference_db)
    gray: dict[str, Any] = {"cmap": "gray", "vmin": low, "vmax": high}
    _show(axes[0], digest.original_db, "original", **gray)
    image = _show(axes[1], digest.restored_db, "restored", **gray)
    below: dict[str, Any] = {"orientation": "horizontal", "aspect": 40, "pad": 0.02}
    figure.colorbar(image, ax=list(axes[:2]), label="dB", shrink=0.45, **below)
    image = _show(axes[2], difference_db, "restored − original", cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.colorbar(image, ax=axes[2], label="dB", shrink=0.9, **below)
    return figure


def histogram_figure(digest: Digest) -> "Figure":
    """Draw the distributions of dB of both planes, and of the errors.

    Parameters
    ----------
    digest : Digest

    Returns
    -------
    matplotlib.figure.Figure
        Left the share of pixels by dB, original and restored; right the share by error, with a logarithmic axis.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure((2 * _PANEL_INCHES, 3.4))
    value_axes, error_axes = figure.subplots(1, 2)
    original_counts, restored_counts = digest.value_histogram.counts
    edges = digest.value_histogram.edges
    original_style = {"color": _ORIGINAL_COLOR, "label": "original", "fill": True, "alpha": 0.35}
    value_axes.stairs(_density(edges, original_counts), edges, **original_style)
    restored_style = {"color": _RESTORED_COLOR, "label": "restored", "linewidth": 1.5}
    value_axes.stairs(_density(edges, restored_counts), edges, **restored_style)
    value_axes.set(title="Values", xlabel="backscatter [dB]", ylabel="share of pixels per dB")
    value_axes.legend()
    (error_counts,) = digest.error_histogram.counts
    density = _density(digest.error_histogram.edges, error_counts)
    error_axes.stairs(density, digest.error_histogram.edges, color=_ORIGINAL_COLOR)
    if density.any():
        # limits first and by hand: with one bin matplotlib finds none for the logarithmic axis and warns
        error_axes.set_ylim(density[density > 0].min() / 2, density.max() * 2)
        error_axes.set_yscale("log")
    error_axes.set(title="Errors", xlabel="restored − original [dB]", ylabel="share of pixels per dB")
    for panel in (value_axes, error_axes):
        panel.grid(visible=True, alpha=0.3)
    return figure


def map_figure(digest: Digest) -> "Figure":
    """Draw maps of the number of looks of both planes, of their ratio, and of the error.

    Parameters
    ----------
    digest : Digest

    Returns
    -------
    matplotlib.figure.Figure
        Four panels. The two maps of looks share one color scale: where the second is brighter, speckle was smoothed. The ratio
        is original over restored power, with a logarithmic color scale.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure(_figure_inches(digest, rows=2, columns=2))
    from matplotlib.colors import LogNorm

    axes = figure.subplots(2, 2).ravel()
    looks = np.concatenate((digest.original_looks, digest.restored_looks), axis=None)
    low, high = color_limits(looks, _LOOKS_PERCENTILES)
    difference_db = digest.restored_db - digest.original_db
    factor = 10.0 ** (_largest(difference_db) / 10.0)
    viridis: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high}
    orange: dict[str, Any] = {"cmap": "PuOr", "norm": LogNorm(1 / factor, factor)}
    magma: dict[str, Any] = {"cmap": "magma", "vmin": 0.0, "vmax": _largest(digest.error_map_db)}
    panels = (
        ("looks, original", digest.original_looks, viridis, "looks"),
        ("looks, restored", digest.restored_looks, viridis, "looks"),
        ("original / restored", 10.0 ** (-difference_db / 10.0), orange, "ratio"),
        ("RMS error", digest.error_map_db, magma, "dB"),
    )
    for panel, (title, plane, style, unit) in zip(axes, panels, strict=True):
        bar = figure.colorbar(_show(panel, plane, title, **style), ax=panel, label=unit, shrink=0.85)
        if unit == "ratio":
            _set_ratio_ticks(bar, factor)
    return figure


def worst_tiles_figure(digest: Digest) -> "Figure":
    """Draw the tiles with the largest error at full resolution: original, restored, difference.

    Parameters
    ----------
    digest : Digest

    Returns
    -------
    matplotlib.figure.Figure
        One column for each tile, worst first; empty without a valid pixel.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    tiles = digest.worst_tiles
    figure = new_figure((max(len(tiles), 1) * _TILE_INCHES + 0.3, 3 * _TILE_INCHES + 0.7))
    if not tiles:
        return figure
    axes = figure.subplots(3, len(tiles), squeeze=False)
    differences_db = [tile.restored_db - tile.original_db for tile in tiles]
    largest = _largest(np.concatenate(differences_db, axis=None))
    for column, (tile, difference_db) in enumerate(zip(tiles, differences_db, strict=True)):
        values_db = np.concatenate((tile.original_db, tile.restored_db), axis=None)
        low, high = color_limits(values_db, _STRETCH_PERCENTILES)
        title = f"row {tile.row}, column {tile.column}: {tile.rmse_db:.3g} dB"
        _show(axes[0, column], tile.original_db, title, cmap="gray", vmin=low, vmax=high).axes.title.set_fontsize(8)
        _show(axes[1, column], tile.restored_db, "", cmap="gray", vmin=low, vmax=high)
        image = _show(axes[2, column], difference_db, "", cmap="RdBu_r", vmin=-largest, vmax=largest)
    for panel, name in zip(axes[:, 0], ("original", "restored", "restored − original"), strict=True):
        panel.set_ylabel(name)
    below: dict[str, Any] = {"orientation": "horizontal", "aspect": 40, "pad": 0.02}
    figure.colorbar(image, ax=list(axes[2]), label="dB", shrink=0.45, **below)
    return figure


def _show(axes: "Axes", plane: NDArray, title: str, **style: Any) -> "AxesImage":
    image = axes.imshow(plane, interpolation="nearest", **style)
    axes.set(title=title, xticks=[], yticks=[])
    axes.set_facecolor(_GAP_COLOR)
    return image


def _figure_inches(
    digest: Digest, *, rows: int, columns: int, panel_inches: float = _PANEL_INCHES, besides: float = 0.4
) -> tuple[float, float]:
    """Width and height of a figure whose panels have the shape of the plane, as far as a page can hold them.

    ``besides`` are the inches that titles and color bars of each row take.
    """
    aspect = float(np.clip(digest.shape[0] / digest.shape[1], 0.3, 1.6))
    share = 0.82 if rows > 1 else 0.98  # of the width, what color bars beside the panels leave
    return columns * panel_inches, rows * (panel_inches * share * aspect + besides)


def _largest(values: NDArray[np.floating]) -> float:
    """Limit of a color scale that a few outliers do not stretch."""
    return max(color_limits(np.abs(values), (0.0, _DIFFERENCE_PERCENTILE))[1], 1e-3)


def _density(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return counts / max(int(counts.sum()), 1) / np.diff(edges)


def _set_ratio_ticks(bar: "Colorbar", factor: float) -> None:
    """Label a logarithmic scale that may span less than a decade, where matplotlib labels no tick."""
    ticks = [1 / factor, factor**-0.5, 1.0, factor**0.5, factor]
    digits = ".3g" if factor > 1.1 else ".5f"
    bar.set_ticks(ticks, labels=[f"{tick:{digits}}" for tick in ticks])
    bar.minorticks_off()
