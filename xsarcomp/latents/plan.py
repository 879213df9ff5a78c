"""From a request to a plan: which variables are encoded, on which scale, with which step. Looks at a sample of the data."""

import math
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.guarantees import Guarantees
from xsarcomp.codec.installed_models import load_coder, load_domain
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.rate_control import Estimate, Sample, Target, find_step
from xsarcomp.codec.speckle_spectrum import measured_calm_variances
from xsarcomp.codec.window import latent_count
from xsarcomp.errors import AlreadyLossyError, DimensionError, RadiometryError, callers_level
from xsarcomp.latents.domain_warning import compare_with_training, report_unlike
from xsarcomp.latents.metadata import (
    KEPT_ENCODING,
    LOSS_ATTRIBUTE,
    LatentsMetadata,
    corner_coordinates,
    kept_attributes,
)
from xsarcomp.latents.plane_steps import fingerprinted
from xsarcomp.radiometry.pixel_classes import EXACT, VALID, classify
from xsarcomp.radiometry.scales import check_dtype, check_scale, infer_scale
from xsarcomp.scenes.sampling import SAMPLE_PIXELS, sample_windows, sampled_planes
from xsarcomp.scenes.variables import declared_nodata, plane_polarizations, spatial_dimensions

CHUNK_OVERHEAD_BYTES = 96
"""Header and rounding of one coded chunk, about."""
LARGEST_METADATA_SHARE = 0.05
"""Share of a rate that goes to metadata at most: the pixels of a small scene do not pay for all of its coordinates."""
REPORTED_MISS = 0.1
"""Share by which a target may be missed on the worse side without a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be encoded and how."""

    records: Mapping[Hashable, LatentsMetadata]
    """Variable name to what its latents will remember."""
    estimate: Estimate
    """What the sample says."""


def make_plan(
    dataset: xr.Dataset,
    names: Iterable[Hashable],
    target: Target,
    *,
    model: str | None,
    scale: str,
    recompress: bool,
    chunk_pixels: int,
    metadata_bytes: int = 0,
    notes_speckle: bool = False,
    edges: Mapping[Hashable, tuple[int, int]] | None = None,
) -> Plan:
    """Plan the encoding of variables with one common step.

    One step for all polarizations is the best allocation of bits for squared error in dB.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
    target : Target
    model : str or None
        Name or id; the default model if None.
    scale : {"power", "amplitude", "decibel", "auto"}
    recompress : bool
        Whether data that was compressed with loss before is accepted.
    chunk_pixels : int
        Pixels that share one header.
    metadata_bytes : int
        Metadata, coordinates and manifest of a store, about: counted where the target is a ratio of whole stores.
    notes_speckle : bool
        Whether the spectrum of speckle is measured for the records, as latents stores keep it.
    edges : mapping, optional
        Variable name to the rows and columns that are coded together; all of the variable if not given.

    Returns
    -------
    Plan

    Raises
    ------
    AlreadyLossyError, DimensionError, RadiometryError, RateError, ModelError
        Where the request cannot be met, with what was found.
    """
    coder = load_coder(model)
    names = list(names)
    # all samples stay in memory while the step is searched
    limit = max(SAMPLE_PIXELS // 16, 2 * SAMPLE_PIXELS // max(2, len(names)))
    looks = {name: _look(dataset[name], scale, recompress, limit, target) for name in names}
    chunks = sum(math.ceil(dataset[name].size / chunk_pixels) for name in names)
    pixels = sum(dataset[name].size for name in names)
    overhead = 8 * CHUNK_OVERHEAD_BYTES * chunks / max(1, pixels)
    if target.counts_store:
        overhead += min(8 * metadata_bytes / max(1, pixels), LARGEST_METADATA_SHARE * target.value)
    estimate = find_step(
        [sample for look in looks.values() for sample in look.samples],
        target,
        coder,
        overhead,
        _inflation(dataset, looks, edges),
    )
    _report_missed(target, estimate)
    domain = load_domain(coder.model_id)
    compared = {
        name: compare_with_training(str(name), look.samples, look.planes, look.polarizations, coder.card, domain)
        for name, look in looks.items()
    }
    scales = " and ".join(sorted({look.scale for look in looks.values()}))
    report_unlike(compared.values(), coder.card, scale=scales)
    records = {
        name: _record(dataset[name], look, target, estimate, coder, compared[name].outside_share)
        for name, look in looks.items()
    }
    if notes_speckle:
        records = {
            name: replace(record, calm_variances_db2=measured_calm_variances(look.windows, record.settings, coder))
            for (name, record), look in zip(records.items(), looks.values(), strict=True)
        }
    return Plan(records=records, estimate=estimate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a look at a sample of a variable says."""

    scale: str
    reason: str
    nodata: float | None
    windows: list[NDArray]
    guarantees: Guarantees
    polarizations: list[str | None]
    """Of the planes that the windows are from."""
    planes: list[int]
    """Number of the plane of each window."""

    @property
    def samples(self) -> list[Sample]:
        return [
            Sample(backscatter=values, scale=self.scale, nodata=self.nodata, guarantees=self.guarantees)
            for values in self.windows
        ]


def _look(array: xr.DataArray, scale: str, recompress: bool, limit: int, target: Target) -> _Look:
    """Check a variable and look at a sample of it."""
    if not recompress:
        refuse_lossy(array)
    check_dtype(array.dtype)
    spatial, nodata = spatial_dimensions(array), declared_nodata(array)
    windows = sample_windows(array, spatial, _load, limit)
    found, reason = _scale(array, windows, scale, nodata)
    return _Look(
        scale=found,
        reason=reason,
        nodata=nodata,
        windows=windows,
        guarantees=target.guarantees(array.dtype, nodata, found),
        polarizations=plane_polarizations(array),
        planes=sampled_planes(array, spatial, limit),
    )


def _inflation(dataset: xr.Dataset, looks: Mapping[Hashable, _Look], edges: Mapping | None) -> float:
    """Coded pixels of what is coded together over those of the sample: whole blocks cost more than their pixels."""
    padded = expected = 0.0
    for name, look in looks.items():
        array = dataset[name]
        together = edges[name] if edges else [array.sizes[dim] for dim in spatial_dimensions(array)]
        for values in look.windows:
            padded += values.size * _padding(together)
            expected += values.size * _padding(values.shape[-2:])
    return padded / expected if expected else 1.0


def _padding(shape: Iterable[int]) -> float:
    """Coded pixels over pixels of an area, which is filled up to whole blocks."""
    return math.prod(latent_count(size) * BLOCK / max(1, size) for size in shape)


def _report_missed(target: Target, estimate: Estimate) -> None:
    """Say aloud that the result will be worse than what was asked for."""
    value = getattr(estimate, target.quantity, target.value)  # a bound is always met
    if value > target.value * (1 + REPORTED_MISS):
        warnings.warn(
            f"{target.asked} was asked for, the data gives {value:.3g}: masks, headers or exactly kept values dominate it",
            stacklevel=callers_level(),
        )


def refuse_lossy(array: xr.DataArray) -> None:
    """Refuse data that already lost something: a second pass would lose more, and nobody would see it.

    Raises
    ------
    AlreadyLossyError
        If the array was decoded by xsarcomp, or opened from a transparent store.
    """
    codecs = [array.encoding.get("serializer"), *np.atleast_1d(array.encoding.get("compressors") or []).tolist()]
    names = [
        codec.get("name", codec.get("id"))
        if isinstance(codec, Mapping)
        else getattr(codec, "codec_name", getattr(codec, "codec_id", None))
        for codec in codecs
    ]
    lossy = LOSS_ATTRIBUTE in array.attrs or any(str(name).startswith("xsarcomp.") for name in names)
    if lossy:
        raise AlreadyLossyError(
            f"variable {array.name!r} was compressed with loss before ({array.attrs.get(LOSS_ATTRIBUTE, 'transparent store')}). "
            "Encode the original, or pass recompress=True to accept the additional loss"
        )


def _load(arrays: Iterable[Any]) -> list[NDArray]:
    """Values of arrays; Dask is loaded only if one of them is a Dask array."""
    arrays = list(arrays)
    if any(hasattr(array, "__dask_graph__") for array in arrays):
        from xsarcomp.scenes.windows import compute_together

        return compute_together(arrays)
    return [np.asarray(array) for array in arrays]


def _scale(array: xr.DataArray, windows: list[NDArray], scale: str, nodata: float | None) -> tuple[str, str]:
    """Scale of an array and how it is known."""
    if scale != "auto":
        check_scale(scale)
        _refuse_wrong_scale(array, windows, scale, nodata)
        return scale, "given by the caller"
    sample = np.concatenate(
        [values.reshape(-1)[:: max(1, len(windows) // 4)] for values in windows] or [np.empty(0, array.dtype)]
    )
    name = None if array.name is None else str(array.name)
    evidence = infer_scale(sample, name=name, attributes=array.attrs, nodata=nodata)
    return evidence.scale, evidence.reason


def _refuse_wrong_scale(array: xr.DataArray, windows: list[NDArray], scale: str, nodata: float | None) -> None:
    """Refuse power or amplitude that is mostly negative: those are decibels, and each would be kept as an exception."""
    if scale == "decibel":
        return
    classes = [classify(values, scale, nodata) for values in windows]
    numbers = sum(int(((found == VALID) | (found == EXACT)).sum()) for found in classes)
    # of what is kept exactly, negative zero and what is beyond 500 dB are not negative
    with np.errstate(invalid="ignore"):
        kept = [(found == EXACT) & (values < 0) for found, values in zip(classes, windows, strict=True)]
    negative = sum(map(int, map(np.count_nonzero, kept)))
    if negative > numbers / 2:
        raise RadiometryError(
            f"{negative / numbers:.0%} of the values of {array.name!r} are negative, which {scale} cannot be: they look like "
            "decibels, say scale='decibel'"
        )


def array_scale(array: xr.DataArray, nodata: float | None) -> str:
    """Scale of an array, found out from its attributes and a sample of its values."""
    return _scale(array, sample_windows(array, spatial_dimensions(array), _load), "auto", nodata)[0]


def _record(
    array: xr.DataArray, look: _Look, target: Target, estimate: Estimate, coder: LappedCoder, outside: float
) -> LatentsMetadata:
    y, x = spatial_dimensions(array)
    if len({str(name) for name in array.dims}) != array.ndim:
        raise DimensionError(f"array {array.name!r} has dimensions {array.dims}: expected different names")
    record = LatentsMetadata(
        name="backscatter" if array.name is None else str(array.name),
        dims=tuple(str(name) for name in array.dims),
        spatial=(str(y), str(x)),
        pixels=(array.sizes[y], array.sizes[x]),
        corners=corner_coordinates(array, (y, x)),
        dtype=array.dtype.str,
        scale=look.scale,
        scale_reason=look.reason,
        nodata=look.nodata,
        model=coder.card.name,
        model_id=coder.model_id,
        anchor=coder.anchor(estimate.step_db),
        step_db=estimate.step_db,
        target=target.asked,
        estimated_bits_per_pixel=estimate.bits_per_pixel,
        estimated_rmse_db=estimate.rmse_db,
        outside_training_range=outside,
        **asdict(look.guarantees),
        attributes=kept_attributes(array.attrs, array.name),
        encoding=kept_attributes(
            {name: array.encoding[name] for name in KEPT_ENCODING if name in array.encoding}, array.name
        ),
    )
    return fingerprinted(record)
