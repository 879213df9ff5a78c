"""Plan of an encoding: variables, scale and quantization step, chosen on a sample of the data."""

import math
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

import xarray as xr

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.installed_models import load_coder, load_domain
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.rate_control import REACH, SMALL_SCENE, Estimate, find_step
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.target import Target
from xsarcomp.codec.window import latent_count
from xsarcomp.errors import DimensionError, caller_stacklevel
from xsarcomp.latents.domain_warning import compare_with_training, warn_if_unlike
from xsarcomp.latents.fill_warning import warn_of_fill_values
from xsarcomp.latents.inspection import Inspection, inspect_variable
from xsarcomp.latents.metadata import KEPT_ENCODING_KEYS, LatentsMetadata, corner_coordinates, storable_attributes
from xsarcomp.latents.plane_steps import with_fingerprint
from xsarcomp.latents.speckle_scales import with_measured_speckle
from xsarcomp.scenes.sampling import SAMPLE_PIXELS
from xsarcomp.scenes.variables import spatial_dimensions

CHUNK_OVERHEAD_BYTES = 96
"""Approximate size of the header and the rounding of one coded chunk."""
LARGEST_METADATA_SHARE = 0.05
"""Largest share of a rate that is reserved for metadata: the pixels of a small scene do not pay for all of its coordinates."""
TOLERATED_MISS = 0.1
"""Share by which a target may be missed on the worse side without a warning."""
LARGE_SCENE = 2**22
"""Pixels times polarizations from which a target must be met closely."""
LARGEST_NEGATIVE_SHARE, LARGEST_EXACT_SHARE = 0.01, 0.25
"""Share of negative power or amplitude among the values, and of masks and exact values in the rate, up to which nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of a plan beside the target."""

    model: str | None
    """Name or id of a model; None for the default model."""
    scale: str
    """"power", "amplitude", "decibel", or "auto" to infer it."""
    recompress: bool
    """True to accept data that was compressed with loss before."""
    chunk_pixels: int
    """Pixels of a chunk, which share one header."""
    metadata_bytes: int = 0
    """Approximate size of metadata, coordinates and manifest: counted where the target is a ratio of whole stores."""
    measures_speckle: bool = False
    """True to measure the variances of latents in homogeneous areas for the metadata, as latents stores keep them."""
    coded_shapes: Mapping[Hashable, tuple[int, int]] | None = None
    """Rows and columns of each variable that are coded together; None where that is the whole variable."""
    earlier: Mapping[Hashable, Settings] | None = None
    """Settings of latents to which those of each variable will be joined; None where they stand alone."""
    separate_parts: bool = False
    """True if masks and exact values are arrays of their own, as in latents stores, and not sections of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Variables to be encoded, with their settings."""

    variables: Mapping[Hashable, LatentsMetadata]
    """Metadata of the latents of each variable."""
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
        The request: rate, error or step, and guarantees.
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
    # all samples stay in memory during the search for the step
    limit = max(SAMPLE_PIXELS // 16, 2 * SAMPLE_PIXELS // max(2, len(names)))
    inspections = {
        name: inspect_variable(
            dataset[name],
            target,
            scale=options.scale,
            recompress=options.recompress,
            limit=limit,
            earlier=options.earlier[name] if options.earlier else None,
        )
        for name in names
    }
    warn_of_fill_values(inspections)
    estimate = find_step(
        [sample for inspection in inspections.values() for sample in inspection.samples],
        target,
        coder,
        _overhead_bits_per_pixel(dataset, names, target, options),
        _padding_ratio(dataset, inspections, options.coded_shapes),
        separate_parts=options.separate_parts,
    )
    pixels = sum(dataset[name].size for name in names)
    _warn_if_missed(target, estimate, pixels)
    if pixels > SMALL_SCENE:
        _warn_of_negative(inspections, estimate)
    domain = load_domain(coder.model_id)
    comparisons = {
        name: compare_with_training(
            str(name), inspection.samples, inspection.planes, inspection.polarizations, coder.card, domain
        )
        for name, inspection in inspections.items()
    }
    scales = " and ".join(sorted({inspection.settings.scale for inspection in inspections.values()}))
    warn_if_unlike(comparisons.values(), coder.card, scale=scales)
    variables = {
        name: _metadata(dataset[name], inspection, target, estimate, coder, comparisons[name].outside_share)
        for name, inspection in inspections.items()
    }
    if options.measures_speckle:
        variables = {
            name: with_measured_speckle(metadata, dataset[name], inspections[name], coder)
            for name, metadata in variables.items()
        }
    return Plan(variables=variables, estimate=estimate)


def _overhead_bits_per_pixel(
    dataset: xr.Dataset, names: Iterable[Hashable], target: Target, options: PlanOptions
) -> float:
    """Bits of all headers per pixel, with the metadata of the store where the target counts them."""
    chunks = sum(_chunk_count(dataset[name], name, options) for name in names)
    pixels = max(1, sum(dataset[name].size for name in names))
    overhead = 8 * CHUNK_OVERHEAD_BYTES * chunks / pixels
    if target.counts_metadata:
        overhead += min(8 * options.metadata_bytes / pixels, LARGEST_METADATA_SHARE * target.value)
    return overhead


def _chunk_count(array: xr.DataArray, name: Hashable, options: PlanOptions) -> int:
    """Number of chunks of a variable; those at the far edges count like whole ones."""
    edge = math.isqrt(options.chunk_pixels)
    shape = options.coded_shapes[name] if options.coded_shapes else (edge, edge)
    spatial = [array.sizes[dim] for dim in spatial_dimensions(array)]
    planes = array.size // max(1, math.prod(spatial))
    return planes * math.prod(-(-size // max(1, length)) for size, length in zip(spatial, shape, strict=True))


def _padding_ratio(
    dataset: xr.Dataset,
    inspections: Mapping[Hashable, Inspection],
    coded_shapes: Mapping[Hashable, tuple[int, int]] | None,
) -> float:
    """Padding to whole blocks in the coded arrays over that in the sample: padded pixels cost bits too."""
    in_coded = in_sample = 0.0
    for name, inspection in inspections.items():
        array = dataset[name]
        shape = coded_shapes[name] if coded_shapes else [array.sizes[dim] for dim in spatial_dimensions(array)]
        for values in inspection.windows:
            in_coded += values.size * _padding_factor(shape)
            in_sample += values.size * _padding_factor(values.shape[-2:])
    return in_coded / in_sample if in_sample else 1.0


def _padding_factor(shape: Iterable[int]) -> float:
    """Coded pixels over pixels of an area, which is padded to whole blocks."""
    return math.prod(latent_count(size) * BLOCK / max(1, size) for size in shape)


def _warn_if_missed(target: Target, estimate: Estimate, pixels: int) -> None:
    """Warn if the result will be worse than the target; of a large scene also if it takes fewer bits than were asked for."""
    value = getattr(estimate, target.quantity, target.value)  # a bound is always met
    if value > target.value * (1 + TOLERATED_MISS):
        warnings.warn(
            f"{target.request} was asked for, the data gives {value:.3g}: masks, headers or exactly kept values dominate it",
            stacklevel=caller_stacklevel(),
        )
    is_below = target.quantity == "bits_per_pixel" and value < target.value * (1 - REACH)
    if is_below and pixels >= LARGE_SCENE and not target.is_preset:
        warnings.warn(
            f"{target.request} was asked for, the data gives {value:.3g} at a step of {estimate.step_db:.3g} dB: it holds too "
            "little for more",
            stacklevel=caller_stacklevel(),
        )


def _warn_of_negative(inspections: Mapping[Hashable, Inspection], estimate: Estimate) -> None:
    """Warn of negative power or amplitude, which noise subtraction leaves, where it costs much: it is kept exactly."""
    if estimate.exact_bits_per_pixel < LARGEST_EXACT_SHARE * estimate.bits_per_pixel:
        return
    shares = {name: inspection.negative_share for name, inspection in inspections.items()}
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] > LARGEST_NEGATIVE_SHARE:
        warnings.warn(
            f"{shares[worst]:.0%} of the values of {worst!r} are negative, which {inspections[worst].settings.scale} has no decibels "
            f"for: they are kept exactly, and with the masks take about {estimate.exact_bits_per_pixel:.3g} of "
            f"{estimate.bits_per_pixel:.3g} bits per pixel. dataset.clip(min=1e-3) puts a value in place of them that costs "
            "little, dataset.where(dataset > 0) leaves a mask",
            stacklevel=caller_stacklevel(),
        )


def _metadata(
    array: xr.DataArray, inspection: Inspection, target: Target, estimate: Estimate, coder: LappedCoder, outside: float
) -> LatentsMetadata:
    """Metadata of the latents of a variable."""
    y, x = spatial_dimensions(array)
    if len({str(name) for name in array.dims}) != array.ndim:
        raise DimensionError(f"array {array.name!r} has dimensions {array.dims}: expected different names. Rename them")
    encoding = {name: array.encoding[name] for name in KEPT_ENCODING_KEYS if name in array.encoding}
    metadata = LatentsMetadata(
        name="backscatter" if array.name is None else str(array.name),
        dims=tuple(str(name) for name in array.dims),
        spatial=(str(y), str(x)),
        pixels=(array.sizes[y], array.sizes[x]),
        corners=corner_coordinates(array, (y, x)),
        dtype=array.dtype.str,
        settings=replace(inspection.settings, step_db=estimate.step_db),
        scale_reason=inspection.scale_reason,
        model=coder.card.name,
        model_id=coder.model_id,
        anchor=coder.anchor(estimate.step_db),
        target=target.request,
        estimated_bits_per_pixel=estimate.bits_per_pixel,
        estimated_rmse_db=estimate.rmse_db,
        outside_training_range=outside,
        attributes=storable_attributes(array.attrs, array.name),
        encoding=storable_attributes(encoding, array.name),
    )
    return with_fingerprint(metadata)
