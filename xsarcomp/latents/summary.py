"""Summaries of datasets for ``.sarcomp`` itself: what a dataset is, and what can be done with it next.

Names, sizes, types and attributes are read, never values: a summary costs nothing, also for lazy data.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import xarray as xr

from xsarcomp.codec.target import FLOAT32_BITS, PRESETS
from xsarcomp.display import Summary, listed, number, short, size
from xsarcomp.errors import SarcompError
from xsarcomp.latents.info import guarantee_words, transparent_configuration, type_words
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.radiometry.scales import claimed_scale
from xsarcomp.scenes.choice import check_quantity, choose_variables
from xsarcomp.scenes.variables import has_spatial_dimensions, is_lazy

_COMPARE = (".compare(original)", "measure what was lost; html= writes a report")
_SCENE_METHODS = (
    (".preview()", "choose a rate by looking: size, errors and pictures"),
    (".encode(bits_per_pixel=1)", "latents, which .sarcomp.to_zarr(path) writes"),
    (".encoding(bits_per_pixel=1)", "encoding of a transparent store, for to_zarr"),
    _COMPARE,
)
_LATENTS_METHODS = (
    (".to_zarr(path)", "write the latents, entropy coded"),
    (".decode()", "backscatter; overview=8 for a quicklook"),
    (".info()", "all settings"),
)


def summarize(dataset: xr.Dataset, *, is_array: bool = False) -> Summary:
    """Summarize a dataset: backscatter, latents, or backscatter that was decoded.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any dataset; its values are not read.
    is_array : bool
        Whether the dataset holds a DataArray, which is its own choice of variables.

    Returns
    -------
    Summary
    """
    latents = {name: array for name, array in dataset.variables.items() if ATTRIBUTE in array.attrs}
    if latents:
        return _summarize_latents(latents, is_array)
    records = {name: record for name, array in dataset.variables.items() if (record := _record(array)) is not None}
    if records:
        return _summarize_decoded(dataset, records)
    return _summarize_scene(dataset, is_array)


def summary_of(scene: xr.Dataset | xr.DataArray, dataset: Callable[[], xr.Dataset]) -> Summary:
    """Summarize what an accessor belongs to; where that fails, say why: showing an object must never fail.

    Parameters
    ----------
    scene : xarray.Dataset or xarray.DataArray
    dataset : callable
        Function that returns it as a dataset.

    Returns
    -------
    Summary
    """
    try:
        return summarize(dataset(), is_array=isinstance(scene, xr.DataArray))
    except Exception as error:  # whatever a dataset of strangers holds
        return Summary(title="no summary", facts=(("reason", short(f"{type(error).__name__}: {error}")),))


def _summarize_latents(latents: Mapping[Hashable, xr.Variable], is_array: bool) -> Summary:
    if is_array:
        advice = ("on the Dataset: .decode()", "decoding needs all parts of it, and this is one")
        return Summary(title="one part of latents", methods=(advice,))
    facts: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, array in latents.items():
        try:
            metadata = LatentsMetadata.from_attribute(array.attrs[ATTRIBUTE])
        except SarcompError as error:
            facts.setdefault((("cannot be read", short(error)),), []).append(str(name))
        else:
            facts.setdefault(_latents_facts(metadata), []).append(str(metadata.name))
    rows = [row for same, names in facts.items() for row in (("variables", listed(names)), *same)]
    return Summary(title="latents: encoded backscatter", facts=tuple(rows), methods=_LATENTS_METHODS)


def _latents_facts(metadata: LatentsMetadata) -> tuple[tuple[str, str], ...]:
    expected = f"{number(metadata.estimated_bits_per_pixel)} bits per pixel"
    if metadata.estimated_rmse_db is not None:
        expected += f", RMSE {number(metadata.estimated_rmse_db)} dB"
    sizes = dict(zip(metadata.spatial, metadata.pixels, strict=True))
    return (
        ("decoded", f"{_dimensions(sizes, metadata.leading)}; {type_words(metadata.dtype)}"),
        ("asked for", short(metadata.target)),
        ("expected", f"{expected} (on the sample that was looked at)"),
        ("model", short(metadata.model)),
        ("scale", short(metadata.settings.scale)),
        ("guarantees", guarantee_words(metadata.settings.guarantees)),
    )


def _record(array: xr.Variable) -> str | None:
    """Record of the loss of a variable, in words; None without one."""
    configuration = transparent_configuration(array)
    if configuration is not None:
        model, scale, step = (short(number(configuration.get(key)), 17) for key in ("model", "scale", "step_db"))
        return f"opened from a transparent store: model {model}, scale {scale}, quantization step {step} dB"
    if LOSS_ATTRIBUTE not in array.attrs:
        return None
    return short(array.encoding.get(LOSS_SETTINGS, array.attrs[LOSS_ATTRIBUTE]), 400)


def _summarize_decoded(dataset: xr.Dataset, records: Mapping[Hashable, str]) -> Summary:
    by_record: dict[str, list[Hashable]] = {}
    for name, record in records.items():
        by_record.setdefault(record, []).append(name)
    facts = [(f"loss of {listed(names)}", record) for record, names in by_record.items()]
    facts.append(("size", f"{size(_float32_bytes(dataset, records))} as float32"))
    if others := [name for name in dataset.data_vars if name not in records]:
        facts.append(("others", f"{listed(others)}: nothing says that they lost anything"))
    methods = [_COMPARE]
    if any(record.startswith("opened from") for record in by_record):
        methods.append((".drop_encoding()", "of the Dataset, before a copy: to_zarr would compress it again"))
    return Summary(title="backscatter that was compressed with loss", facts=tuple(facts), methods=tuple(methods))


def _summarize_scene(dataset: xr.Dataset, is_array: bool) -> Summary:
    kept: Mapping[Hashable, str] = {}
    try:
        if is_array:
            names = list(dataset.data_vars)
            check_quantity(dataset[names[0]])
            if not has_spatial_dimensions(dataset[names[0]]):
                raise SarcompError(
                    f"its dimensions are {listed(dataset.dims)}" if dataset.dims else "it has no dimensions"
                )
        else:
            choice = choose_variables(dataset)
            names, kept = choice.names, choice.kept
    except SarcompError as error:
        advice = (('.encode(variables=["..."])', "says which variables are backscatter"),) if dataset.data_vars else ()
        return Summary(
            title="no backscatter found", facts=(("reason", short(error, 400)),), methods=() if is_array else advice
        )
    facts = [("to compress", _variables_words(dataset[name] for name in names))]
    if kept:
        first = [f"{short(name, 60)} ({short(reason, 80)})" for name, reason in list(kept.items())[:5]]
        facts.append(("to keep exactly", ", ".join(first) + _more(list(kept)[5:])))
    count = _float32_bytes(dataset, names)
    coded = size(count * PRESETS["analysis"] / FLOAT32_BITS)
    facts.append(("size", f"{size(count)} as float32, about {coded} at 1 bit per pixel, the default"))
    return Summary(title="backscatter, not compressed", facts=tuple(facts), methods=_SCENE_METHODS)


def _more(names: Iterable[Hashable]) -> str:
    others = len(list(names))
    return f", and {others:,} more" if others else ""


def _variables_words(arrays: Iterable[xr.DataArray]) -> str:
    """Names, and scale, type and dimensions of variables; those with the same together."""
    same: dict[str, list[Hashable]] = {}
    for array in arrays:
        name = None if array.name is None else str(array.name)
        scale = claimed_scale(name, array.attrs) or "scale found from the values"
        words = f"{_dimensions(array.sizes)}; {array.dtype}; {scale}{'; lazy' if is_lazy(array.data) else ''}"
        same.setdefault(words, []).append(array.name)
    groups = [f"{listed(names)} ({words})" for words, names in same.items()]
    return ", ".join(groups[:4]) + _more(groups[4:])


def _dimensions(sizes: Mapping[Any, int], others: Iterable[Hashable] = ()) -> str:
    """Dimensions with their sizes, after those whose size is not known."""
    return ", ".join(
        [*(short(name, 40) for name in others), *(f"{short(name, 40)}: {n:,}" for name, n in sizes.items())]
    )


def _float32_bytes(dataset: xr.Dataset, names: Iterable[Hashable]) -> int:
    return sum(FLOAT32_BITS // 8 * math.prod(dataset.variables[name].shape) for name in names)
