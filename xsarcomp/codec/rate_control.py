"""Search of the quantization step that meets a requested rate or error, on samples of the data.

:class:`~xsarcomp.codec.target.Target` is the request. :func:`find_step` encodes samples at several steps, estimates bits and
error of each, and returns the step that meets the target.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import LARGEST_STEP_DB, SMALLEST_STEP_DB, LappedCoder
from xsarcomp.codec.entropy_coding import estimate_bits
from xsarcomp.codec.error_bound import compute_residuals
from xsarcomp.codec.residual_coding import encode_integers
from xsarcomp.codec.sections import deflate, pack_classes
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.target import TOLERANCE, Target
from xsarcomp.codec.tile_means import TILE
from xsarcomp.codec.window import (
    classify_backscatter,
    decode_planes,
    latent_count,
    mirrored_pixel_indices,
    signal_from_backscatter,
)
from xsarcomp.errors import RateError
from xsarcomp.radiometry.pixel_classes import EXACT, VALID, exact_values

COARSE_SHARE = 4
"""The search begins on one in so many samples."""
FIRST_STEP_DB = 3.0
"""Step at which the search begins."""
GAIN_BITS, LEVEL_BITS = 8, 5
"""Bits of the gain of a tile with its level, and of the mean level of a tile, about."""
LEAST_WIDEST_STEP_DB = 6.0
"""Steps up to this are tried for every error bound."""
ORDINARY = {"bits_per_pixel": 4.0, "rmse_db": 4.0}
"""Targets beyond which it is an error if no step reaches them; presets are not beyond."""
SPECIAL = {"bits_per_pixel": 4.0, "rmse_db": 1.0}
"""Rate of the finest step, and error of the coarsest, up to which data hold next to nothing, such as constant scenes: they
are coded better than any target, which is no error."""
SMALL_SCENE = 64 * 64
"""Values up to which the headers of chunks decide the rate."""
REACH = 0.05
"""Share by which a target may be missed on the better side."""
STORED_MASK = 1.1
"""Bytes of a mask that is an array of its own over those in a frame, about: zstd of bytes, deflate of bits."""
STORED_EXACT = 0.94
"""Bytes of an array of exact values in a store over those that deflate makes of it, about: zstd tries harder."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Rate and error of a step, estimated on samples."""

    step_db: float
    """Quantization step in dB."""
    bits_per_pixel: float
    """Bits of coded chunks over pixels times polarizations, headers and mask included."""
    rmse_db: float | None
    """Root mean square error over valid pixels in dB; None if the target is a rate, which does not need it."""
    exact_bits_per_pixel: float = 0.0
    """Bits of values that are kept exactly, and of the masks, over pixels times polarizations; a part of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Part of the data on which steps are tried."""

    backscatter: NDArray
    """Shape (plane, y, x), in the scale of the settings."""
    settings: Settings
    """Scale, nodata and guarantees; the step is not used."""


class _AnalyzedSample:
    """Latents of a sample, which is analyzed once and quantized at many steps."""

    def __init__(self, sample: Sample, coder: LappedCoder, separate_parts: bool) -> None:
        guarantees = sample.settings.guarantees
        classes = classify_backscatter(sample.backscatter, sample.settings)
        signal = signal_from_backscatter(sample.backscatter, classes, sample.settings, coder)
        self.pixels = classes.size
        self.exact_bits = _exact_bits(sample.backscatter, classes, separate_parts)
        self.spacing_db = guarantees.residual_spacing_db
        bits = LEVEL_BITS if guarantees.mean_levels else GAIN_BITS
        self.fixed_bits = bits * classes.size / TILE**2 if guarantees.keep_means else 0.0
        self.classes, self.valid = classes, classes == VALID
        self.signal, reach = signal, coder.signal_reach
        rows, columns = (
            mirrored_pixel_indices(-reach, latent_count(size) * lapped.BLOCK + reach, size) for size in signal.shape[1:]
        )
        self.latents = coder.analyze(signal[:, rows][:, :, columns])

    def measure(self, coder: LappedCoder, step_db: float, with_error: bool) -> tuple[float, float]:
        """Bits, and sum of squared errors in dB2; 0 if it is not needed."""
        symbols = coder.quantize(self.latents, step_db)
        bits = estimate_bits(symbols, coder.tables, coder.anchor(step_db)) + self.fixed_bits
        if not with_error and not self.spacing_db:
            return bits, 0.0
        height, width = self.signal.shape[1:]
        decoded = decode_planes(symbols, (height, width), coder, step_db) + coder.mean_correction_db(step_db)
        if self.spacing_db:
            residuals = compute_residuals(self.signal, decoded, self.classes, self.spacing_db)
            bits += 8 * len(encode_integers(residuals))
            decoded = decoded + residuals * self.spacing_db
        return bits, float(((decoded - self.signal)[self.valid] ** 2).sum())


def _exact_bits(backscatter: NDArray, classes: NDArray[np.uint8], separate_parts: bool) -> float:
    """Bits of the mask and of the values that are kept exactly, as a store holds them."""
    mask = len(pack_classes(classes)) * (STORED_MASK if separate_parts else 1)
    exact = exact_values(backscatter, classes)
    if exact.size == 0:
        return 8 * mask
    if not separate_parts:
        return 8 * (mask + len(deflate(exact.tobytes())))
    separate = np.where(classes == EXACT, backscatter, 0).astype(backscatter.dtype)
    return 8 * (mask + STORED_EXACT * len(zlib.compress(separate.tobytes())))


def find_step(
    samples: Sequence[Sample],
    target: Target,
    coder: LappedCoder,
    overhead_bits_per_pixel: float,
    inflation: float = 1.0,
    *,
    separate_parts: bool = False,
) -> Estimate:
    """Find the quantization step that meets a target on samples of the data.

    Parameters
    ----------
    samples : sequence of Sample
        Parts of the data, spread over all of it.
    target : Target
        Rate or error to meet.
    coder : LappedCoder
        Model that encodes.
    overhead_bits_per_pixel : float
        Bits of the headers of chunks. At most half of a requested rate is reserved for them: a scene of a few pixels is all
        header, and refusing it would help nobody.
    inflation : float
        Coded pixels over pixels; more than 1 where each chunk is filled up to whole blocks.
    separate_parts : bool
        Masks and exact values are arrays of their own, as in latents stores, and not sections of frames.

    Returns
    -------
    Estimate

    Raises
    ------
    RateError
        If the target is out of reach: even the coarsest step gives a higher rate, or even the finest a larger error; or the
        other way round, for a target beyond ``ORDINARY`` on data that are not ``SPECIAL``.
    """
    analyzed = [_AnalyzedSample(sample, coder, separate_parts) for sample in samples if sample.backscatter.size]
    analyzed = [sample for sample in analyzed if sample.valid.any()]
    if not analyzed:  # nothing to encode: any step serves
        step_db = target.value if target.quantity == "step_db" else FIRST_STEP_DB
        return Estimate(step_db=step_db, bits_per_pixel=overhead_bits_per_pixel, rmse_db=0.0)
    pixels = sum(sample.backscatter.size for sample in samples)
    headers = overhead_bits_per_pixel
    if target.quantity == "bits_per_pixel":
        overhead_bits_per_pixel = min(headers, target.value / 2)
    exact = sum(sample.exact_bits for sample in analyzed) / pixels
    # masks and exact values leave at least half of a preset's rate to the others, which is not met then
    counted_exact = min(exact, target.value / 2) if target.is_preset else exact
    with_error = target.quantity != "bits_per_pixel"

    def estimate(step_db: float, chosen: Sequence[_AnalyzedSample]) -> Estimate:
        measured = [sample.measure(coder, step_db, with_error) for sample in chosen]
        # samples without a valid pixel cost nothing, but count as pixels
        chosen_pixels = pixels * sum(sample.pixels for sample in chosen) / sum(sample.pixels for sample in analyzed)
        bits_per_pixel = inflation * sum(bits for bits, _ in measured) / chosen_pixels
        bits_per_pixel += overhead_bits_per_pixel + counted_exact
        mean_square = sum(error for _, error in measured) / sum(int(sample.valid.sum()) for sample in chosen)
        rmse_db = math.sqrt(mean_square) if with_error else None
        return Estimate(
            step_db=step_db, bits_per_pixel=bits_per_pixel, rmse_db=rmse_db, exact_bits_per_pixel=counted_exact
        )

    found = _find(estimate, analyzed, target, headers)
    return replace(found, bits_per_pixel=found.bits_per_pixel + exact - counted_exact, exact_bits_per_pixel=exact)


def _find(
    estimate: Callable[[float, Sequence[_AnalyzedSample]], Estimate],
    analyzed: Sequence[_AnalyzedSample],
    target: Target,
    headers: float,
) -> Estimate:
    """Find the step on some of the samples, then on all of them."""
    if target.quantity == "step_db":
        return estimate(target.value, analyzed)
    some = analyzed[::COARSE_SHARE]
    largest = LARGEST_STEP_DB
    if target.max_error_db is not None:  # coarser symbols than the cheapest cost more in residuals than they save
        cheapest = _cheapest_step(lambda step_db: estimate(step_db, some), target.max_error_db)
        if target.quantity == "max_error_db":
            return estimate(cheapest, analyzed)
        largest = cheapest
    step_db = min(FIRST_STEP_DB, largest)
    if len(some) < len(analyzed):
        step_db = _search(lambda step: estimate(step, some), target, step_db, largest, headers, final=False).step_db
    found = _search(lambda step: estimate(step, analyzed), target, step_db, largest, headers, final=True)
    if sum(sample.pixels for sample in analyzed) > SMALL_SCENE:
        _refuse_beyond(found, target)
    return found


def _refuse_beyond(found: Estimate, target: Target) -> None:
    """Refuse a target that asks for more bits, or a larger error, than any step gives on this data."""
    value = getattr(found, target.quantity)
    is_beyond = value < target.value * (1 - REACH) and target.value > ORDINARY[target.quantity]
    if is_beyond and value > SPECIAL[target.quantity]:
        which = "coarsest" if target.quantity == "rmse_db" else "finest"
        raise RateError(
            f"{target.request} is out of reach: {target.quantity} {target.value:.4g} was asked for, and the {which} step of "
            f"{found.step_db:.3g} dB gives {value:.4g} on this data. Ask for at most that."
        )


def _cheapest_step(measure: Callable[[float], Estimate], max_error_db: float) -> float:
    """Find the step with the lowest rate of symbols and residuals together, to about 5 %, by golden-section search.

    Coarse symbols need many residuals, fine ones are more exact than the bound requires. The best step grows with the bound,
    but for small bounds it stays at 1 to 2 dB, where most bits go to residuals.
    """
    low = math.log(max(SMALLEST_STEP_DB, min(max_error_db, LARGEST_STEP_DB) / 2))
    high = math.log(min(LARGEST_STEP_DB, max(8 * max_error_db, LEAST_WIDEST_STEP_DB)))
    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    rates = [measure(math.exp(position)).bits_per_pixel for position in inner]
    while high - low > 0.1:
        if rates[0] <= rates[1]:
            high, inner, rates = inner[1], [inner[1] - _GOLDEN * (inner[1] - low), inner[0]], [0.0, rates[0]]
            fresh = 0
        else:
            low, inner, rates = inner[0], [inner[1], inner[0] + _GOLDEN * (high - inner[0])], [rates[1], 0.0]
            fresh = 1
        rates[fresh] = measure(math.exp(inner[fresh])).bits_per_pixel
    return math.exp(inner[int(rates[1] < rates[0])])


def _search(
    measure: Callable[[float], Estimate], target: Target, first_db: float, last_db: float, headers: float, final: bool
) -> Estimate:
    """Search by secants on logarithmic scales, bracketed by the steps known to be too fine and too coarse."""
    sign = 1.0 if target.quantity == "rmse_db" else -1.0  # of the slope over the step: the error grows, the rate falls
    low, high = math.log(SMALLEST_STEP_DB), math.log(last_db)
    position, slope = math.log(first_db), 0.7 * sign
    previous: tuple[float, float] | None = None
    best: tuple[float, Estimate] | None = None
    for _ in range(24):
        estimate = measure(math.exp(position))
        value = getattr(estimate, target.quantity)
        gap = math.log(max(value, 1e-12) / target.value)
        if abs(gap) < TOLERANCE / (2 if final else 1):
            return estimate
        if gap < 0 and (best is None or gap > best[0]):
            best = (gap, estimate)
        too_coarse = gap * sign > 0
        at_limit = position == (low if too_coarse else high) or high - low < 1e-4
        if at_limit and not final:
            return estimate
        if at_limit:  # where other tables begin, rate and error jump: the side that is no worse than requested is taken
            return _at_limit(estimate, target, gap, headers) if best is None else best[1]
        low, high = (low, position) if too_coarse else (position, high)
        if previous is not None and abs(position - previous[0]) > 1e-9:
            measured_slope = (gap - previous[1]) / (position - previous[0])
            slope = measured_slope if measured_slope * sign > 0.05 else 0.7 * sign
        previous = (position, gap)
        wanted = position - gap / slope
        margin = 0.02 * (high - low)
        inside = min(max(wanted, low + margin), high - margin)
        # a position beyond the limits of the step is tried at the limit itself
        limits = (math.log(SMALLEST_STEP_DB), math.log(last_db))
        position = wanted if low < wanted < high and abs(wanted - inside) < 1e-12 else inside
        if wanted <= limits[0] and low == limits[0]:
            position = limits[0]
        elif wanted >= limits[1] and high == limits[1]:
            position = limits[1]
    return estimate


def _at_limit(estimate: Estimate, target: Target, gap: float, headers: float) -> Estimate:
    """Return the estimate at the end of the range of steps if it is better than requested; worse is an error."""
    if gap < 0:
        return estimate
    value = getattr(estimate, target.quantity)
    if (
        target.quantity == "bits_per_pixel"
    ):  # a higher rate leaves more for headers: the message must name one that works
        coded = value - min(headers, target.value / 2)
        value = coded + min(headers, coded)
    which = "finest" if target.quantity == "rmse_db" else "coarsest"
    if target.max_error_db is not None:
        which = f"cheapest that keeps max_error_db={target.max_error_db}, a"
    raise RateError(
        f"{target.request} cannot be met: the {which} step of {estimate.step_db:.3g} dB gives {target.quantity} {value:.4g} on "
        f"this data{_exact_part(estimate, target)}. Ask for at least that."
    )


def _exact_part(estimate: Estimate, target: Target) -> str:
    """Cost of values that are kept exactly in words, where it decides."""
    exact = estimate.exact_bits_per_pixel
    if target.quantity != "bits_per_pixel" or exact < estimate.bits_per_pixel / 2:
        return ""
    return (
        f", of which {exact:.4g} go to masks and to values that are kept exactly, such as negative power, which has no "
        "decibels (dataset.clip(min=1e-3) puts a value in place of them that costs little, dataset.where(dataset > 0) leaves a mask)"
    )
