"""The report of a comparison: one HTML page that needs nothing else, for a browser or a printer.

Style and pictures are inside the page, there is no script, and nothing is fetched. The page is a function of the two
scenes: the same scenes give the same page.
"""

import base64
import io
import math
from collections.abc import Hashable
from importlib import metadata, resources
from pathlib import Path

import xarray as xr

from xsarcomp.errors import ConfigurationError, MissingDependencyError
from xsarcomp.evaluation.compare import one_scale
from xsarcomp.evaluation.glossary import FIGURES
from xsarcomp.evaluation.map_sums import Mapper, MapSums
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums
from xsarcomp.evaluation.report import digest_pictures
from xsarcomp.evaluation.report.digest import Digester
from xsarcomp.latents.metadata import LOSS_ATTRIBUTE

ENDINGS = (".html", ".htm")
TEMPLATE = "page.html.jinja"

_DOTS_PER_INCH = 110
_PALETTE = 256  # a third of the bytes of full color, and with the method below no color is off by more than 5 %


def write_report(path, original, restored, *, scale=None, names=("original", "restored")):
    """Compare two xarray objects and write what was found as one HTML page.

    Parameters
    ----------
    path : str or path-like
        File to write, ending in .html; an existing one is replaced.
    original, restored, scale
        As for `xsarcomp.evaluation.compare.compare`. Pieces are loaded one after the other, and only thinned planes,
        histograms, maps and the worst tiles of one plane of each variable are kept.
    names : tuple of two str
        What the page calls the two scenes, for example their paths.

    Returns
    -------
    dict of str to float, int or str
        The figures of `xsarcomp.evaluation.compare.compare`.

    Raises
    ------
    ConfigurationError
        If `path` does not end in .html or its folder does not exist.
    MissingDependencyError
        If Jinja or Matplotlib is not installed.
    DimensionError
        If variables, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scale is unknown or cannot be found out, or the values are not real numbers.
    """
    path = checked_path(path)
    template = _template()
    digest_pictures.new_figure((1.0, 1.0))  # says that Matplotlib is missing before minutes are spent on measuring
    variables, scales = {}, set()
    for piece in scene_pieces(original, restored, scale=scale):
        variables.setdefault(piece.name, _Variable()).add(piece)
        scales.add(piece.scale)
    for variable in variables.values():
        variable.finish()
    together = _Variable.figures(variables.values()) | {"scale": one_scale(scales, asked=scale)}
    columns = {"all": together}
    if len(variables) > 1:
        columns |= {name: _Variable.figures([variable]) for name, variable in variables.items()}
    content = template.render(
        names=names,
        version=metadata.version("xsarcomp"),
        facts=_facts(original, restored, together, variables),
        verdict=_verdict(together),
        columns=list(columns),
        groups=_groups(columns),
        sections=[_section(name, variable) for name, variable in variables.items() if variable.digest],
    )
    path.write_text(content, encoding="utf-8")
    return together


def checked_path(path):
    """Return where a page can be written.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ConfigurationError
        If it does not end in .html or its folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ConfigurationError(
            f"found {path}, expected a file that ends in .html. Choose another name for the report."
        )
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"the folder of {path} does not exist, expected one to write into. Make it first.")
    return path


class _Variable:
    """What is kept of the planes of one variable: sums, and a digest of the plane with the largest error."""

    def __init__(self):
        self.errors, self.texture, self.maps = ErrorSums(), TextureSums(), MapSums()
        self._mapper = Mapper()
        self.planes, self.worst, self.digest = 0, -math.inf, None
        self._plane_errors, self._digester = ErrorSums(), None

    def add(self, piece):
        """Add a piece; those of a plane follow each other, beginning in its corner."""
        if piece.origin == (0, 0):
            self.finish()
            self.planes += 1
            self._digester = Digester(piece) if piece.valid.size else None
        errors = ErrorSums.of(piece)
        self._plane_errors += errors
        self.errors, self.texture = self.errors + errors, self.texture + TextureSums.of(piece)
        self.maps += self._mapper.of(piece)
        if self._digester:
            self._digester.add(piece)

    def finish(self):
        """Keep the digest of the plane whose pieces were added last, if its error is the largest so far."""
        error = self._plane_errors.rmse_db
        # a plane without a valid pixel is drawn only where there is no other
        rank = -1.0 if math.isnan(error) else error
        if self._digester and rank > self.worst:
            self.worst, self.digest = rank, self._digester.digest()
        self._plane_errors, self._digester = ErrorSums(), None

    @staticmethod
    def figures(variables):
        """Figures of several variables together."""
        errors, texture, maps = ErrorSums(), TextureSums(), MapSums()
        for variable in variables:
            errors, texture, maps = errors + variable.errors, texture + variable.texture, maps + variable.maps
        return errors.figures() | texture.figures() | maps.figures()


def _template():
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            'the report needs Jinja, which is not installed. Install it with: pip install "xsarcomp[plot]".'
        ) from error
    text = resources.files("xsarcomp.evaluation.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def _facts(original, restored, figures, variables):
    """Lines on what was compared: pairs of heading and text."""
    valid = figures["valid_pixels"] / figures["pixels"] if figures["pixels"] else math.nan
    yield "Original", _described(original)
    yield "Restored", _described(restored)
    yield (
        "Compared",
        ", ".join(f"{name} ({each.planes} plane{'s' * (each.planes != 1)})" for name, each in variables.items()),
    )
    yield "Scale", f"{figures['scale']}; errors are in dB whatever the scale"
    yield "Valid pixels", f"{figures['valid_pixels']:,} of {figures['pixels']:,} ({_percent(valid)})"
    for name, loss in _losses(restored).items():
        yield f"Recorded loss of {name}", loss


def _described(scene):
    sizes = ", ".join(f"{name} {size}" for name, size in scene.sizes.items())
    arrays = {scene.name: scene} if isinstance(scene, xr.DataArray) else scene.data_vars
    kinds = ", ".join(f"{name or 'unnamed'} {array.dtype}" for name, array in arrays.items() if array.ndim >= 2)
    return f"{sizes}; {kinds}"


def _losses(scene: xr.Dataset | xr.DataArray) -> dict[Hashable, str]:
    """What the attributes of restored variables say of their compression."""
    arrays = {scene.name: scene} if isinstance(scene, xr.DataArray) else scene.data_vars
    return {name: str(array.attrs[LOSS_ATTRIBUTE]) for name, array in arrays.items() if LOSS_ATTRIBUTE in array.attrs}


def _verdict(figures):
    """How many goals are met, and the titles of the figures that miss theirs; no goal is known without a valid pixel."""
    if not figures["valid_pixels"]:
        return {"met": 0, "known": 0, "missed": []}
    met = {key: FIGURES[key].is_met(figures[key]) for key in FIGURES}
    known = [key for key, answer in met.items() if answer is not None]
    return {
        "met": sum(met[key] for key in known),
        "known": len(known),
        "missed": [FIGURES[key].title for key in known if not met[key]],
    }


def _groups(columns):
    """Rows of the table under their headings; each value with whether it meets the goal."""
    groups = {}
    for key, figure in FIGURES.items():
        cells = [(_number(values[key]), figure.is_met(values[key])) for values in columns.values()]
        groups.setdefault(figure.group, []).append({"key": key, "figure": figure, "cells": cells})
    return groups


def _section(name, variable):
    digest = variable.digest
    rows, columns = digest.shape
    shown = f"{rows} × {columns} pixels"
    if digest.step > 1:
        shown += f", of which quicklooks show one in {digest.step} along y and along x"
    if variable.planes > 1:
        shown = f"{digest.label or 'one plane'}, the one with the largest error of {variable.planes} planes; {shown}"
    return {
        "name": name,
        "shown": shown,
        "cell": digest.cell,
        "quicklook": picture(digest_pictures.quicklook_figure(digest)),
        "histogram": picture(digest_pictures.histogram_figure(digest)),
        "maps": picture(digest_pictures.map_figure(digest)),
        "tile_size": " × ".join(map(str, digest.worst_tiles[0].original_db.shape)) if digest.worst_tiles else "",
        "tiles": [(tile.position, _number(tile.rmse_db)) for tile in digest.worst_tiles],
        "tiles_picture": picture(digest_pictures.worst_tiles_figure(digest)) if digest.worst_tiles else None,
    }


def picture(figure):
    """Turn a figure into a PNG of few colors as a data URI.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    dict of str to str or int
        ``source`` (data URI), ``width`` and ``height`` (pixels).
    """
    from PIL import Image  # comes with Matplotlib

    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=_DOTS_PER_INCH, format="png")
    image = Image.open(drawn).convert("RGB")
    image = image.quantize(_PALETTE, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(reduced, format="png", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(reduced.getvalue()).decode("ascii")
    return {"source": source, "width": image.width, "height": image.height}


def _number(value):
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.4g}".replace("-", "−")


def _percent(share):
    return "–" if math.isnan(share) else f"{100 * share:.4g} %"
