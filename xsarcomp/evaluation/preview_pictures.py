"""Pictures and markup of a preview: the crop at each rate in one gray stretch, at full resolution, as images inside the markup."""

import base64
import io
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.display import Cell, escape, html_block, html_table, short, size
from xsarcomp.evaluation.pictures import color_limits
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.scenes.variables import declared_nodata

if TYPE_CHECKING:
    from xsarcomp.evaluation.preview import Preview

_STRETCH_PERCENTILES = (1.0, 99.0)
_SIDE = 256  # smaller crops are enlarged towards it, by a whole number
_STYLE = """<style>
.xsarcomp .pictures { display: flex; flex-wrap: wrap; gap: .6em .8em; margin: .4em 0 .8em; }
.xsarcomp figure { margin: 0; }
.xsarcomp figure img { display: block; max-width: none; margin: 0; image-rendering: pixelated;
  background: rgba(128, 128, 128, .35); }
.xsarcomp figcaption { font-size: .9em; font-variant-numeric: tabular-nums; }
</style>"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 1.5rem; font: 1rem/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }}
</style>
</head>
<body>
{content}
</body>
</html>
"""


def preview_page(title: str, content: str) -> str:
    """Make a page of the markup of a preview.

    Parameters
    ----------
    title : str
        It is escaped here.
    content : str
        Markup.

    Returns
    -------
    str
    """
    return _PAGE.format(title=escape(title), content=content)


def preview_markup(preview: "Preview", title: str, rows: Sequence[Sequence[Cell]], notes: str) -> str:
    """Table and pictures of a preview.

    Parameters
    ----------
    preview : Preview
    title, notes : str
    rows : sequence of sequences of Cell
        Table with its header first.

    Returns
    -------
    str
    """
    header, *others = rows
    pictures = [_variable_pictures(preview, name) for name in preview.original]
    return html_block(
        title, _STYLE, html_table(others, header=header), f'<p class="soft">{escape(notes)}</p>', *pictures
    )


def _variable_pictures(preview: "Preview", name: Hashable) -> str:
    """Figures of one variable: the original and each rate."""
    scale, original = preview.scales[name], preview.original[name]
    original_db = _decibels(original, scale)
    low, high = color_limits(original_db, _STRETCH_PERCENTILES)
    first = preview.table.sel(variable=str(name)).isel(bits_per_pixel=0)
    whole = f"{size(float(first.stored_bytes * first.ratio))} as float32"
    figures = [_figure(original_db, (low, high), f"{short(name, 60)}, original", whole)]
    for rate in preview.crops["bits_per_pixel"].values:
        found = preview.table.sel(variable=str(name), bits_per_pixel=rate)
        caption = f"{size(float(found.stored_bytes))}, RMSE {float(found.rmse_db):.2f} dB"
        plane_db = _decibels(preview.crops[name].sel(bits_per_pixel=rate), scale)
        figures.append(_figure(plane_db, (low, high), f"{rate:g} bit{'' if rate == 1 else 's'} per pixel", caption))
    words = f"{short(name, 60)}: gray from {low:.1f} to {high:.1f} dB, invalid pixels transparent"
    return f'<p class="soft">{escape(words)}</p><div class="pictures">{"".join(figures)}</div>'


def _decibels(plane: xr.DataArray, scale: str) -> NDArray[np.float64]:
    """Decibels of a plane (y, x); NaN where it is invalid."""
    power, valid = power_and_validity(plane.values, scale=scale, nodata=declared_nodata(plane))
    return np.where(valid, decibel_from_power(power), np.nan)


def _figure(plane_db: NDArray[np.float64], limits: tuple[float, float], title: str, caption: str) -> str:
    rows, columns = plane_db.shape
    zoom = max(1, _SIDE // max(rows, columns))
    return (
        f'<figure><img src="{gray_image(plane_db, limits)}" width="{columns * zoom}" height="{rows * zoom}" '
        f'alt="{escape(f"Picture of {title}")}"><figcaption>{escape(title)}<br>{escape(caption)}</figcaption></figure>'
    )


def gray_image(plane_db: NDArray[np.floating], limits: tuple[float, float]) -> str:
    """Picture as a data URI: one pixel for each value, black to white between two limits.

    Parameters
    ----------
    plane_db : ndarray of float, shape (y, x)
        NaN is transparent.
    limits : tuple of two float
        Values of black and white.

    Returns
    -------
    str
    """
    from PIL import Image  # comes with scikit-image

    low, high = limits
    known = np.isfinite(plane_db)
    gray = np.rint(255 * np.clip((np.where(known, plane_db, low) - low) / (high - low), 0, 1)).astype(np.uint8)
    values = gray if known.all() else np.dstack([gray, np.where(known, 255, 0).astype(np.uint8)])
    content = io.BytesIO()
    Image.fromarray(values).save(content, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
