"""Plan of an encoding: which variables, on which scale, with which step. A sample of the data decides."""

import math
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

import xarray as xr

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.installed_models import load_coder, load_domain
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.rate_control import Estimate, Target, find_step
from xsarcomp.codec.speckle_spectrum import measure_homogeneous_variances
from xsarcomp.codec.window import latent_count
from xsarcomp.errors import DimensionError, caller_stacklevel
from xsarcomp.latents.domain_warning import compare_with_training, report_unlike
from xsarcomp.latents.look import Look, look_at
from xsarcomp.latents.metadata import KEPT_ENCODING, LatentsMetadata, corner_coordinates, kept_attributes
from xsarcomp.latents.plane_steps import fingerprinted
from xsarcomp.scenes.sampling import SAMPLE_PIXELS
from xsarcomp.scenes.variables import spatial_dimensions

CHUNK_OVERHEAD_BYTES = 96
"""Header and rounding of one coded chunk, about."""
LARGEST_METADATA_SHARE = 0.05
"""Share of a rate that goes to metadata at most: the pixels of a small scene do not pay for all of its coordinates."""
REPORTED_MISS = 0.1
"""Share by which a target may be missed on the worse side without a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of a plan beside the target."""

    model: str | None
    """Name or id of a model; the default model if None."""
    scale: str
    """"power", "amplitude", "decibel", or "auto" to infer it."""
    recompress: bool
    """Whether data that was compressed with loss before is accepted."""
    chunk_pixels: int
    """Pixels that share one header."""
    metadata_bytes: int = 0
    """Metadata, coordinates and manifest of a store, about: counted where the target is a ratio of whole stores."""
    measures_speckle: bool = False
    """Whether the spectrum of speckle is measured for the metadata, as latents stores keep it."""
    edges: Mapping[Hashable, tuple[int, int]] | None = None
    """Rows and columns of each variable that are coded together; all of the variable if None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Variables that will be encoded, and how."""

    variables: Mapping[Hashable, LatentsMetadata]
    """Metadata that the latents of each variable will have."""
    estimate: Estimate
    """Rate and error on the sample."""


def make_plan(dataset: xr.Dataset, names: Iterable[Hashable], target: Target, options: PlanOptions) -> Plan:
    """Plan the encoding of variables with one common step.

    One step for all polarizations is the best allocation of bits for squared error in dB.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
    target : Target
    options : PlanOptions

    Returns
    -------
    Plan

    Raises
    ------
    AlreadyLossyError, DimensionError, RadiometryError, RateError, ModelError
        If the request cannot be met; the message names the variable.
    """
    coder = load_coder(options.model)
    names = list(names)
    # all samples stay in memory while the step is searched
    limit = max(SAMPLE_PIXELS // 16, 2 * SAMPLE_PIXELS // max(2, len(names)))
    looks = {
        name: look_at(dataset[name], target, scale=options.scale, recompress=options.recompress, limit=limit)
        for name in names
    }
    estimate = find_step(
        [sample for look in looks.values() for sample in look.samples],
        target,
        coder,
        _overhead_bits_per_pixel(dataset, names, target, options),
        _inflation(dataset, looks, options.edges),
    )
    _report_missed(target, estimate)
    domain = load_domain(coder.model_id)
    compared = {
        name: compare_with_training(str(name), look.samples, look.planes, look.polarizations, coder.card, domain)
        for name, look in looks.items()
    }
    scales = " and ".join(sorted({look.settings.scale for look in looks.values()}))
    report_unlike(compared.values(), coder.card, scale=scales)
    variables = {
        name: _metadata(dataset[name], look, target, estimate, coder, compared[name].outside_share)
        for name, look in looks.items()
    }
    if options.measures_speckle:
        variables = {
            name: replace(
                metadata,
                calm_variances_db2=measure_homogeneous_variances(looks[name].windows, metadata.settings, coder),
            )
            for name, metadata in variables.items()
        }
    return Plan(variables=variables, estimate=estimate)


def _overhead_bits_per_pixel(
    dataset: xr.Dataset, names: Iterable[Hashable], target: Target, options: PlanOptions
) -> float:
    """Headers of all chunks over all pixels, with the metadata of the store where the target counts them."""
    chunks = sum(math.ceil(dataset[name].size / options.chunk_pixels) for name in names)
    pixels = max(1, sum(dataset[name].size for name in names))
    overhead = 8 * CHUNK_OVERHEAD_BYTES * chunks / pixels
    if target.counts_metadata:
        overhead += min(8 * options.metadata_bytes / pixels, LARGEST_METADATA_SHARE * target.value)
    return overhead


def _inflation(
    dataset: xr.Dataset, looks: Mapping[Hashable, Look], edges: Mapping[Hashable, tuple[int, int]] | None
) -> float:
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
            f"{target.request} was asked for, the data gives {value:.3g}: masks, headers or exactly kept values dominate it",
            stacklevel=caller_stacklevel(),
        )


def _metadata(
    array: xr.DataArray, look: Look, target: Target, estimate: Estimate, coder: LappedCoder, outside: float
) -> LatentsMetadata:
    """Metadata that the latents of a variable will have."""
    y, x = spatial_dimensions(array)
    if len({str(name) for name in array.dims}) != array.ndim:
        raise DimensionError(f"array {array.name!r} has dimensions {array.dims}: expected different names")
    encoding = {name: array.encoding[name] for name in KEPT_ENCODING if name in array.encoding}
    metadata = LatentsMetadata(
        name="backscatter" if array.name is None else str(array.name),
        dims=tuple(str(name) for name in array.dims),
        spatial=(str(y), str(x)),
        pixels=(array.sizes[y], array.sizes[x]),
        corners=corner_coordinates(array, (y, x)),
        dtype=array.dtype.str,
        settings=replace(look.settings, step_db=estimate.step_db),
        scale_reason=look.scale_reason,
        model=coder.card.name,
        model_id=coder.model_id,
        anchor=coder.anchor(estimate.step_db),
        target=target.request,
        estimated_bits_per_pixel=estimate.bits_per_pixel,
        estimated_rmse_db=estimate.rmse_db,
        outside_training_range=outside,
        attributes=kept_attributes(array.attrs, array.name),
        encoding=kept_attributes(encoding, array.name),
    )
    return fingerprinted(metadata)
