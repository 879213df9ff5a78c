"""Report of a comparison: one HTML page that needs no other file, for a browser or a printer.

Style and pictures are inside the page, there is no script, and nothing is fetched. The same scenes always give the same page.
"""

import base64
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from xsarcomp.errors import ConfigurationError, MissingDependencyError
from xsarcomp.evaluation.compare import all_metrics, common_scale
from xsarcomp.evaluation.comparison import LEADING, ORDER, Comparison, verdict
from xsarcomp.evaluation.glossary import METRICS, Metric
from xsarcomp.evaluation.map_sums import MapComparer, MapSums
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.plane_pair import PlanePair
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums
from xsarcomp.evaluation.report import digest_pictures
from xsarcomp.evaluation.report.digest import Digest, DigestBuilder
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS
from xsarcomp.whole_files import write_atomically

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

_ENDINGS = (".html", ".htm")
_TEMPLATE = "page.html.jinja"
_FIRST_GROUP = "Goals, and errors in short"

_DOTS_PER_INCH = 110
_PALETTE_COLORS = 256  # a third of the bytes of full color, and with the method below no color is off by more than 5 %


def write_report(
    path: str | os.PathLike[str],
    original: xr.DataArray | xr.Dataset,
    restored: xr.DataArray | xr.Dataset,
    *,
    scale: str | None = None,
    names: tuple[str, str] = ("original", "restored"),
) -> Comparison:
    """Compare two xarray objects and write the result as one HTML page.

    Parameters
    ----------
    path : str or path-like
        File to write, ending in .html; an existing file is replaced.
    original, restored, scale
        As for :func:`xsarcomp.evaluation.compare.compare`. Pieces are loaded one after the other, and only thinned
        planes, histograms, maps and the worst tiles of one plane of each variable stay in memory.
    names : tuple of two str
        Names of the two scenes on the page, for example their paths.

    Returns
    -------
    Comparison
        The metrics of :func:`xsarcomp.evaluation.compare.compare`, a dictionary.

    Raises
    ------
    ConfigurationError
        If ``path`` does not end in .html or its folder does not exist.
    MissingDependencyError
        If Jinja or Matplotlib is not installed.
    DimensionError
        If variables, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scale is unknown or cannot be inferred, or the values are not real numbers.
    """
    path = _checked_path(path)
    template = _template()
    digest_pictures.new_figure((1.0, 1.0))  # reports a missing Matplotlib before minutes are spent on measuring
    variables: dict[str, _Variable] = {}
    scales = set()
    for piece in scene_pieces(original, restored, scale=scale):
        variables.setdefault(piece.name, _Variable()).add(piece)
        scales.add(piece.scale)
    for variable in variables.values():
        variable.finish_plane()
    used_scale = common_scale(scales, requested=scale)
    metrics = _pooled_metrics(variables.values(), used_scale)
    columns = {"all": metrics}
    if len(variables) > 1:
        columns |= {name: _pooled_metrics([variable], used_scale) for name, variable in variables.items()}
    found = verdict(metrics)
    content = template.render(
        names=names,
        version=metadata.version("xsarcomp"),
        facts=list(_facts(original, restored, metrics, used_scale, variables)),
        verdict=found,
        missed=[METRICS[key].title for key in found.missed],
        columns=list(columns),
        groups=_table_groups(columns),
        sections=[_section(name, variable) for name, variable in variables.items() if variable.digest],
    )
    write_atomically(path, content)
    return metrics


def _checked_path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigurationError(
            f"found {path}, expected a file that ends in .html. Choose another name for the report."
        )
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(
            f"the folder of {path} does not exist, expected an existing one. Create it before writing the report."
        )
    return path


class _Variable:
    """Sums over the planes of one variable, and the digest of the plane with the largest error."""

    def __init__(self) -> None:
        self.errors, self.texture, self.maps = ErrorSums(), TextureSums(), MapSums()
        self.plane_count = 0
        self.digest: Digest | None = None
        self._digest_rmse_db = -math.inf
        self._map_comparer = MapComparer()
        self._plane_errors = ErrorSums()
        self._plane_digest: DigestBuilder | None = None

    def add(self, piece: PlanePair) -> None:
        """Add a piece; the pieces of a plane follow each other, beginning with the first row and column."""
        if piece.origin == (0, 0):
            self.finish_plane()
            self.plane_count += 1
            self._plane_digest = DigestBuilder(piece) if piece.valid.size else None
        errors = ErrorSums.from_pair(piece)
        self._plane_errors += errors
        self.errors += errors
        self.texture += TextureSums.from_pair(piece)
        self.maps += self._map_comparer.compare(piece)
        if self._plane_digest:
            self._plane_digest.add(piece)

    def finish_plane(self) -> None:
        """Keep the digest of the plane that was added last if its error is the largest so far."""
        rmse_db = self._plane_errors.rmse_db
        if math.isnan(rmse_db):
            rmse_db = -1.0  # a plane without a valid pixel is drawn only if there is no other
        if self._plane_digest and rmse_db > self._digest_rmse_db:
            self._digest_rmse_db, self.digest = rmse_db, self._plane_digest.build()
        self._plane_errors, self._plane_digest = ErrorSums(), None


def _pooled_metrics(variables: Iterable[_Variable], scale: str) -> Comparison:
    """Metrics of several variables together."""
    errors, texture, maps = ErrorSums(), TextureSums(), MapSums()
    for variable in variables:
        errors += variable.errors
        texture += variable.texture
        maps += variable.maps
    return all_metrics(errors, texture, maps, scale=scale)


def _template() -> "Template":
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            'the report needs Jinja, which is not installed. Install it with: pip install "xsarcomp[plot]".'
        ) from error
    text = resources.files("xsarcomp.evaluation.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def _facts(
    original: xr.DataArray | xr.Dataset,
    restored: xr.DataArray | xr.Dataset,
    metrics: Mapping[str, float],
    scale: str,
    variables: Mapping[str, _Variable],
) -> Iterator[tuple[str, str]]:
    """Headings and texts on the compared scenes."""
    yield "Original", _sizes_and_dtypes(original)
    yield "Restored", _sizes_and_dtypes(restored)
    planes = [(name, variable.plane_count) for name, variable in variables.items()]
    yield "Compared", ", ".join(f"{name} ({count} plane{'s' * (count != 1)})" for name, count in planes)
    yield "Scale", f"{scale}; errors are in dB for every scale"
    valid_pixels, pixels = metrics["valid_pixels"], metrics["pixels"]
    share = f"{100 * valid_pixels / pixels:.4g}%" if pixels else "–"
    yield "Valid pixels", f"{valid_pixels:,} of {pixels:,} ({share})"
    for name, array in _variables(restored):
        if LOSS_ATTRIBUTE in array.attrs:
            yield f"Compression of {name}", str(array.encoding.get(LOSS_SETTINGS, array.attrs[LOSS_ATTRIBUTE]))


def _sizes_and_dtypes(scene: xr.DataArray | xr.Dataset) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in scene.sizes.items())
    dtypes = ", ".join(f"{name} {array.dtype}" for name, array in _variables(scene) if array.ndim >= 2)
    return f"{sizes}; {dtypes}"


def _variables(scene: xr.DataArray | xr.Dataset) -> list[tuple[str, xr.DataArray]]:
    if isinstance(scene, xr.DataArray):
        return [(str(scene.name or "unnamed"), scene)]
    return [(str(name), array) for name, array in scene.data_vars.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TableRow:
    """One metric in the table."""

    key: str
    """Key in the dictionary of :func:`~xsarcomp.evaluation.compare.compare`."""
    metric: Metric
    """Explanation of the metric."""
    cells: tuple[tuple[str, bool | None], ...]
    """Formatted value of each column, and whether it meets the goal."""


def _table_groups(columns: Mapping[str, Mapping[str, float]]) -> dict[str, list[_TableRow]]:
    """Rows of the table by their heading; what counts first comes first."""
    groups: dict[str, list[_TableRow]] = {}
    for key in dict.fromkeys(ORDER):
        metric = METRICS[key]
        values = [metrics[key] for metrics in columns.values()]
        cells = tuple((_number(value), metric.is_met(value)) for value in values)
        group = _FIRST_GROUP if key in LEADING else metric.group
        groups.setdefault(group, []).append(_TableRow(key=key, metric=metric, cells=cells))
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedImage:
    """Picture inside the page."""

    source: str
    """PNG as data URI."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """Pictures of one variable."""

    name: str
    shown: str
    """Plane that is drawn, and its size."""
    cell: int
    """Side of the cells of the error map in pixels."""
    quicklook: EmbeddedImage
    histogram: EmbeddedImage
    maps: EmbeddedImage
    tile_size: str
    """Rows and columns of a tile."""
    tiles: tuple[tuple[str, str], ...]
    """Position and error of the worst tiles; empty without a valid pixel."""
    tiles_picture: EmbeddedImage | None
    """Picture of these tiles; None without a valid pixel."""


def _section(name: str, variable: _Variable) -> _Section:
    digest = variable.digest
    assert digest is not None  # variables without a pixel have no section
    rows, columns = digest.shape
    shown = f"{rows} × {columns} pixels"
    if digest.thinning > 1:
        shown += f"; the quicklooks show one of {digest.thinning} pixels along y and along x"
    if variable.plane_count > 1:
        label = digest.label or "one plane"
        shown = f"{label}, which has the largest error of {variable.plane_count} planes; {shown}"
    tiles = digest.worst_tiles
    return _Section(
        name=name,
        shown=shown,
        cell=digest.cell_pixels,
        quicklook=embedded_image(digest_pictures.quicklook_figure(digest)),
        histogram=embedded_image(digest_pictures.histogram_figure(digest)),
        maps=embedded_image(digest_pictures.map_figure(digest)),
        tile_size=" × ".join(map(str, tiles[0].original_db.shape)) if tiles else "",
        tiles=tuple((tile.position, _number(tile.rmse_db)) for tile in tiles),
        tiles_picture=embedded_image(digest_pictures.worst_tiles_figure(digest)) if tiles else None,
    )


def embedded_image(figure: "Figure") -> EmbeddedImage:
    """Convert a figure to a PNG of few colors that a page can contain.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    EmbeddedImage
    """
    from PIL import Image  # comes with Matplotlib

    full, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(full, dpi=_DOTS_PER_INCH, format="png")
    image = Image.open(full).convert("RGB")
    image = image.quantize(_PALETTE_COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(reduced, format="png", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(reduced.getvalue()).decode("ascii")
    return EmbeddedImage(source=source, width=image.width, height=image.height)


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.4g}".replace("-", "−")
