"""Preview of a scene at several rates: what each takes and loses, measured on a sample, beside pictures of one crop."""

import math
import os
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.codec.target import FLOAT32_BITS, Target
from xsarcomp.display import Cell, listed, short, size, text_table
from xsarcomp.errors import ConfigurationError, RateError, caller_stacklevel
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums
from xsarcomp.evaluation.preview_sample import Area, SceneSample, crop_area, structured_crop, take_sample
from xsarcomp.latents.append import plan_latents
from xsarcomp.latents.decode import decode_dataset
from xsarcomp.latents.encode import encode_dataset
from xsarcomp.latents.plan import Plan
from xsarcomp.scenes.variables import spatial_dimensions
from xsarcomp.stores.report import coded_sizes
from xsarcomp.whole_files import write_atomically

CROP_PIXELS = 256
"""Side of the crop unless another is asked for."""
RATE = "bits_per_pixel"
"""Dimension of the rates that were asked for."""
TOGETHER = "all"
"""Name of all variables together in the table."""

_LEAST_CROP_PIXELS = 8
_UNITS = {
    "stored_bytes": "bytes",
    "stored_bits_per_pixel": "bits",
    "rmse_db": "dB",
    "bias_db": "dB",
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Preview:
    """Scene at several rates, as ``.sarcomp.preview`` makes it: figures, and one crop to look at.

    Terminals show the figures, notebooks the figures and the pictures.
    """

    table: xr.Dataset
    """Figures, dimensions (variable, bits_per_pixel): ``stored_bytes`` of the whole scene without metadata, all its dates together;
    ``stored_bits_per_pixel``; ``ratio`` to float32; ``rmse_db``, ``bias_db``, ``enl_ratio``, ``edge_preservation`` as in
    :func:`xsarcomp.evaluation.compare.compare`. The variable "all" stands for all together."""
    original: xr.Dataset
    """Crop of the original, dimensions (y, x)."""
    crops: xr.Dataset
    """The same crop after decoding, dimensions (bits_per_pixel, y, x)."""
    crop: Mapping[Hashable, slice]
    """Pixels of the crop in the scene, as ``crop=`` of another preview takes them."""
    measured_on: str
    """How much of the scene the figures were measured on, in words."""
    scales: Mapping[Hashable, str]
    """Scale of each variable."""
    out_of_reach: Mapping[float, str]
    """Rates that were asked for and cannot be met on this scene, and why."""

    def __repr__(self) -> str:
        return "\n".join([f"<xsarcomp> {self._title()}", text_table([_HEADER, *self._rows()], indent=2), self._notes()])

    def _repr_html_(self) -> str:
        from xsarcomp.evaluation.preview_pictures import preview_markup

        return preview_markup(self, f"xsarcomp {self._title()}", [_HEADER, *self._rows()], self._notes())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write table and pictures to one HTML page that needs no other file.

        Parameters
        ----------
        path : str or path-like
            File to write, ending in .html; an existing file is replaced.

        Raises
        ------
        ConfigurationError
            If it does not end in .html, or its folder does not exist.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm") or not path.absolute().parent.is_dir():
            raise ConfigurationError(f"found {path}, expected a file that ends in .html in an existing folder")
        from xsarcomp.evaluation.preview_pictures import preview_page

        write_atomically(path, preview_page(self._title(), self._repr_html_()))

    def _title(self) -> str:
        return f"preview of {listed(self.original)} at {self.table.sizes[RATE]} rates"

    def _notes(self) -> str:
        spans = (f"{short(dim, 40)} {span.start:,} to {span.stop:,}" for dim, span in self.crop.items())
        return (
            f"Measured on {self.measured_on}. Sizes are those of the whole scene, without metadata. "
            f"Crop: {', '.join(spans)}."
        ) + "".join(f" Left out: {reason}" for reason in self.out_of_reach.values())

    def _rows(self) -> list[list[Cell]]:
        rows = []
        for rate in self.table[RATE].values.tolist():
            for name in self.table["variable"].values.tolist():
                found = self.table.sel({"variable": name, RATE: rate})
                values = {key: float(found[key]) for key in found.data_vars}
                first = f"{rate:g}" if name == self.table["variable"].values[0] else ""
                texts = (
                    size(values["stored_bytes"]),
                    f"{values['stored_bits_per_pixel']:.3f}",
                    f"{values['ratio']:.3g}",
                    f"{values['rmse_db']:.3f} dB",
                    f"{round(values['bias_db'], 3) + 0.0:+.3f} dB",
                    f"{values['enl_ratio']:.3f}",
                    f"{values['edge_preservation']:.3f}",
                )
                rows.append([Cell(first, "number"), Cell(short(name, 60)), *(Cell(text, "number") for text in texts)])
        return rows


_HEADER = [
    Cell(text, "" if text == "variable" else "number")
    for text in ("bits per pixel", "variable", "stored", "bits got", "ratio", "RMSE", "bias", "ENL ratio", "edges")
]


def make_preview(
    dataset: xr.Dataset,
    names: Iterable[Hashable],
    rates: Iterable[float] | float,
    *,
    crop: Mapping[Hashable, slice] | int,
    scale: str,
    model: str | None,
    recompress: bool,
) -> Preview:
    """Encode and decode a sample of a scene at several rates; see ``.sarcomp.preview``.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
    rates : iterable of float
        Bits per pixel.
    crop : mapping of dimension name to slice, or int
    scale, model, recompress
        As for ``.sarcomp.encode``.

    Returns
    -------
    Preview
    """
    asked = checked_rates(rates)
    sample, chosen = _sample(dataset, list(names), crop)
    request: dict[str, Any] = {"like": None, "model": model, "scale": scale, "recompress": recompress}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plans, out_of_reach = _plans(sample.planes, asked, request)
        scales = {name: metadata.settings.scale for name, metadata in next(iter(plans.values())).variables.items()}
        place = chosen or structured_crop(sample, crop if isinstance(crop, int) else CROP_PIXELS, scales)
        results = [_measured(sample, encode_dataset(sample.planes, plan), scales, place) for plan in plans.values()]
    _warn_once(caught)
    coordinate = {RATE: (RATE, np.array(list(plans)), {"long_name": "bits per pixel asked for"})}
    pixels = _place_in_scene(sample, place)
    coordinates = {dim: dataset[dim][span] for dim, span in pixels.items() if dim in dataset.coords}
    return Preview(
        table=_table(sample, results).assign_coords(coordinate),
        original=_cut(sample.planes, place).assign_coords(coordinates),
        crops=xr.concat([result.crop for result in results], RATE).assign_coords(coordinate | coordinates),
        crop=pixels,
        measured_on=_measured_on(sample),
        scales=scales,
        out_of_reach=out_of_reach,
    )


def _plans(
    planes: xr.Dataset, rates: Iterable[float], request: Mapping[str, Any]
) -> tuple[dict[float, Plan], dict[float, str]]:
    """Plans by rate, and the reasons of rates that cannot be met; at least one can.

    A small scene needs some bits for each block: the lowest rates may be out of its reach.
    """
    plans: dict[float, Plan] = {}
    reasons: dict[float, str] = {}
    for rate in rates:
        try:
            plans[rate] = plan_latents(planes, list(planes), {RATE: rate}, **request)
        except RateError as error:
            reasons[rate], last = str(error), error
    if not plans:
        raise last
    return plans, reasons


def _warn_once(caught: Iterable[warnings.WarningMessage]) -> None:
    """Give each warning once: one rate repeats what another said. That a rate was missed stands in the table."""
    texts = dict.fromkeys((str(warning.message), warning.category) for warning in caught)
    for text, category in texts:
        if "was asked for" not in text:
            warnings.warn(text, category, stacklevel=caller_stacklevel())


def checked_rates(rates: Iterable[float] | float) -> list[float]:
    """Rates without repetition.

    Raises
    ------
    RateError
        If there is none, or one is no positive number.
    """
    several = list(rates) if isinstance(rates, Iterable) and not isinstance(rates, str) else [rates]
    if not several:
        raise RateError("rates is empty, expected some bits per pixel, like rates=[0.25, 0.5, 1, 2]")
    return list(dict.fromkeys(Target.from_arguments(bits_per_pixel=rate).value for rate in several))


def _sample(
    dataset: xr.Dataset, names: list[Hashable], crop: Mapping[Hashable, slice] | int
) -> tuple[SceneSample, tuple[int, Area] | None]:
    """Sample of a scene, and the crop in it where the caller has chosen one: its area, rows and columns."""
    if not isinstance(crop, Mapping):
        if not isinstance(crop, int) or isinstance(crop, bool) or crop < _LEAST_CROP_PIXELS:
            raise ConfigurationError(
                f"crop is {crop!r}, expected its side in pixels, at least {_LEAST_CROP_PIXELS}, or slices along both dimensions"
            )
        return take_sample(dataset, names), None
    wanted = crop_area(crop, dataset.sizes, spatial_dimensions(dataset[names[0]]))
    sample = take_sample(dataset, names, wanted)
    top, left = (span.start for span in sample.areas[0])
    rows, columns = wanted
    place = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return sample, (0, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """Sample at one rate."""

    sizes: Mapping[str, int]
    """Coded bytes of each variable."""
    errors: Mapping[str, ErrorSums]
    """Errors of each variable."""
    crop: xr.Dataset
    """Decoded crop."""


def _measured(
    sample: SceneSample, encoded: xr.Dataset, scales: Mapping[Hashable, str], place: tuple[int, Area]
) -> _Result:
    """Code and decode the sample, and measure what was lost."""
    decoded = decode_dataset(encoded)
    errors: dict[str, ErrorSums] = {}
    for name, scale in scales.items():
        pieces = scene_pieces(sample.planes[name], decoded[name], scale=scale)
        errors[str(name)] = sum((ErrorSums.from_pair(piece) for piece in pieces), start=ErrorSums())
    return _Result(sizes=coded_sizes(encoded), errors=errors, crop=_cut(decoded, place))


def _cut(planes: xr.Dataset, place: tuple[int, Area]) -> xr.Dataset:
    """Crop of a sample, without what says that areas are stacked."""
    area, (rows, columns) = place
    *leading, y, x = next(iter(planes.values())).dims
    return planes.isel({**dict.fromkeys(leading, area), y: rows, x: columns}, drop=True).copy(deep=True)


def _place_in_scene(sample: SceneSample, place: tuple[int, Area]) -> dict[Hashable, slice]:
    """Pixels of a crop in the scene."""
    number, inside = place
    return {
        dim: slice(area.start + span.start, area.start + span.stop)
        for dim, area, span in zip(sample.spatial, sample.areas[number], inside, strict=True)
    }


def _table(sample: SceneSample, results: list[_Result]) -> xr.Dataset:
    """Figures of all variables and rates."""
    names = [str(name) for name in sample.planes]
    groups = {name: [name] for name in names}
    if len(names) > 1 and TOGETHER not in names:
        groups = {TOGETHER: names} | groups
    pixels = {str(name): count for name, count in sample.pixels.items()}
    sampled = {str(name): array.size for name, array in sample.planes.items()}
    rows = [[_figures(result, group, pixels, sampled) for result in results] for group in groups.values()]
    variables = {
        key: (
            ("variable", RATE),
            np.array([[figures[key] for figures in row] for row in rows]),
            {"units": _UNITS.get(key, "1")},
        )
        for key in rows[0][0]
    }
    return xr.Dataset(variables, coords={"variable": list(groups)})


def _figures(
    result: _Result, names: list[str], pixels: Mapping[str, int], sampled: Mapping[str, int]
) -> dict[str, float]:
    """Figures of some variables together at one rate."""
    stored = sum(result.sizes[name] * pixels[name] / sampled[name] for name in names)
    total = sum(pixels[name] for name in names)
    metrics = sum((result.errors[name] for name in names), start=ErrorSums()).metrics()
    return {
        "stored_bytes": stored,
        "stored_bits_per_pixel": 8 * stored / total,
        "ratio": FLOAT32_BITS / 8 * total / stored if stored else math.inf,
        **{key: metrics[key] for key in ("rmse_db", "bias_db", "enl_ratio", "edge_preservation")},
    }


def _measured_on(sample: SceneSample) -> str:
    """Words for the sample: "4 areas of 512 x 512 pixels of 25,000 x 16,000, 0.26% of all pixels"."""
    rows, columns = (span.stop - span.start for span in sample.areas[0])
    if sample.is_whole:
        words = f"all {rows:,} x {columns:,} pixels"
    else:
        plural = "s" if len(sample.areas) > 1 else ""
        shape = " x ".join(f"{length:,}" for length in sample.shape)
        words = f"{len(sample.areas)} area{plural} of {rows} x {columns} pixels of {shape}"
    chosen = f" ({sample.chosen})" if sample.chosen else ""
    return f"{words}{chosen}{f', {sample.share:.2%} of all pixels' if sample.share < 1 else ''}"
