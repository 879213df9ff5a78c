"""Figures of one compared plane: quicklooks, histograms, maps, worst tiles. For the report and for notebooks.

Each takes a `Digest`, as `xsarcomp.evaluation.report.digest.digest_arrays` makes it. Colour maps are readable without color
vision; matplotlib is optional and imported when first needed.
"""

import numpy as np

from xsarcomp.evaluation.pictures import limits, new_figure

_STRETCH_PERCENTILES = (1.0, 99.0)
_DIFFERENCE_PERCENTILE = 99.5
_LOOKS_PERCENTILES = (0.0, 95.0)
_PANEL_INCHES = 5.0
_TILE_INCHES = 2.6
_GAP_COLOR = "0.85"
_ORIGINAL, _RESTORED = "#1f4e79", "#d95f02"


def quicklook_figure(digest):
    """Draw original and restored in one gray stretch, their difference in dB and their ratio.

    Parameters
    ----------
    digest : Digest
        What `digest_arrays` or `digest_pair` gave.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels. The difference is restored minus original; the ratio original over restored power, with a
        logarithmic color scale. Invalid pixels are gray.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure(_panel_size(digest, rows=2, columns=2))
    from matplotlib.colors import LogNorm

    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    difference = digest.restored_db - digest.original_db
    low, high = limits(np.concatenate((digest.original_db, digest.restored_db), axis=None), _STRETCH_PERCENTILES)
    largest = _largest(difference)
    gray = {"cmap": "gray", "vmin": low, "vmax": high}
    factor = 10.0 ** (largest / 10.0)
    panels = (
        ("original", digest.original_db, gray, "dB"),
        ("restored", digest.restored_db, gray, "dB"),
        ("restored − original", difference, {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}, "dB"),
        (
            "original / restored",
            10.0 ** (-difference / 10.0),
            {"cmap": "PuOr", "norm": LogNorm(1 / factor, factor)},
            "ratio",
        ),
    )
    for panel, (title, plane, style, unit) in zip(axes, panels, strict=True):
        drawn = _show(panel, plane, title, **style)
        bar = figure.colorbar(drawn, ax=panel, label=unit, shrink=0.85)
        if unit == "ratio":
            _ratio_ticks(bar, factor)
    return figure


def histogram_figure(digest):
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
    values, errors = figure.subplots(1, 2)
    styles = (
        {"color": _ORIGINAL, "label": "original", "fill": True, "alpha": 0.35},
        {"color": _RESTORED, "label": "restored", "linewidth": 1.5},
    )
    for counts, style in zip(digest.values.counts, styles, strict=True):
        values.stairs(_density(digest.values.edges, counts), digest.values.edges, **style)
    values.set(title="Values", xlabel="backscatter [dB]", ylabel="share of pixels per dB")
    values.legend()
    density = _density(digest.errors.edges, digest.errors.counts[0])
    errors.stairs(density, digest.errors.edges, color=_ORIGINAL)
    if density.any():
        # limits first and by hand: with one bin matplotlib finds none for the logarithmic axis and warns
        errors.set_ylim(density[density > 0].min() / 2, density.max() * 2)
        errors.set_yscale("log")
    errors.set(title="Errors", xlabel="restored − original [dB]", ylabel="share of pixels per dB")
    for panel in (values, errors):
        panel.grid(visible=True, alpha=0.3)
    return figure


def map_figure(digest):
    """Draw maps of the number of looks of both planes, and of the error.

    Parameters
    ----------
    digest : Digest

    Returns
    -------
    matplotlib.figure.Figure
        The two maps of looks share one color scale: where the second is brighter, speckle was smoothed.

    Raises
    ------
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure(_panel_size(digest, rows=1, columns=3, panel_inches=_PANEL_INCHES * 2 / 3))
    axes = figure.subplots(1, 3)
    looks = np.concatenate((digest.original_looks, digest.restored_looks), axis=None)
    low, high = limits(looks, _LOOKS_PERCENTILES)
    style = {"cmap": "viridis", "vmin": low, "vmax": high}
    panels = (
        ("looks, original", digest.original_looks, style, "looks"),
        ("looks, restored", digest.restored_looks, style, "looks"),
        (
            "RMS error",
            digest.error_map_db,
            {"cmap": "magma", "vmin": 0.0, "vmax": _largest(digest.error_map_db)},
            "dB",
        ),
    )
    for panel, (title, plane, colors, unit) in zip(axes, panels, strict=True):
        figure.colorbar(_show(panel, plane, title, **colors), ax=panel, label=unit, shrink=0.7)
    return figure


def worst_tiles_figure(digest):
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
    figure = new_figure((max(len(tiles), 1) * _TILE_INCHES + 0.8, 3 * _TILE_INCHES))
    if not tiles:
        return figure
    axes = figure.subplots(3, len(tiles), squeeze=False)
    differences = [tile.restored_db - tile.original_db for tile in tiles]
    largest = _largest(np.concatenate(differences, axis=None))
    for column, (tile, difference) in enumerate(zip(tiles, differences, strict=True)):
        low, high = limits(np.concatenate((tile.original_db, tile.restored_db), axis=None), _STRETCH_PERCENTILES)
        title = f"{tile.row}, {tile.column}: {tile.rmse_db:.3g} dB"
        _show(axes[0, column], tile.original_db, title, cmap="gray", vmin=low, vmax=high)
        _show(axes[1, column], tile.restored_db, "", cmap="gray", vmin=low, vmax=high)
        drawn = _show(axes[2, column], difference, "", cmap="RdBu_r", vmin=-largest, vmax=largest)
    for panel, name in zip(axes[:, 0], ("original", "restored", "restored − original"), strict=True):
        panel.set_ylabel(name)
    figure.colorbar(drawn, ax=list(axes[2]), label="dB", shrink=0.8)
    return figure


def _show(axes, plane, title, **style):
    drawn = axes.imshow(plane, interpolation="nearest", **style)
    axes.set(title=title, xticks=[], yticks=[])
    axes.set_facecolor(_GAP_COLOR)
    return drawn


def _panel_size(digest, *, rows, columns, panel_inches=_PANEL_INCHES):
    """Inches of a figure whose panels have the shape of the scene, within what a page can hold."""
    aspect = float(np.clip(digest.shape[0] / digest.shape[1], 0.3, 1.6))
    return columns * panel_inches, rows * (panel_inches * 0.82 * aspect + 0.4)


def _largest(values):
    """Limit of a color scale that a few outliers do not stretch."""
    return max(limits(np.abs(values), (0.0, _DIFFERENCE_PERCENTILE))[1], 1e-3)


def _density(edges, counts):
    return counts / max(int(counts.sum()), 1) / np.diff(edges)


def _ratio_ticks(bar, factor):
    """Ticks of a logarithmic scale that may span less than a decade, where matplotlib labels none."""
    ticks = [1 / factor, factor**-0.5, 1.0, factor**0.5, factor]
    digits = ".3g" if factor > 1.1 else ".5f"
    bar.set_ticks(ticks, labels=[f"{tick:{digits}}" for tick in ticks])
    bar.minorticks_off()
