"""From what a user asks for to a quantisation step, measured on a sample of the data itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp import lapped
from xsarcomp.bitstream import pack_classes
from xsarcomp.block import SIGNAL_REACH, Settings, decode_planes, latent_count, mirrored_pixels, signal_of
from xsarcomp.coder import LARGEST_STEP_DB, SMALLEST_STEP_DB, LappedCoder
from xsarcomp.entropy_coding import estimate_bits
from xsarcomp.errors import RateError
from xsarcomp.pixel_classes import VALID

PRESETS = {"archive": 2.0, "analysis": 1.0, "browse": 0.25}
"""Bits per pixel of each preset."""
FLOAT32_BITS = 32
TOLERANCE = 0.01
COARSE_SHARE = 4  # the search begins on every fourth sample
FIRST_STEP_DB = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was asked for: a rate or an error."""

    quantity: str
    """"bits_per_pixel" or "rmse_db"."""
    value: float
    asked: str
    """The argument in words, for messages and metadata."""

    @classmethod
    def from_arguments(
        cls,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
    ) -> "Target":
        """Target from the arguments of ``encode``; the preset "analysis" if none is given.

        Raises
        ------
        RateError
            If more than one is given, or one makes no sense.
        """
        given = {
            name: value
            for name, value in {
                "bits_per_pixel": bits_per_pixel, "ratio": ratio, "rmse_db": rmse_db, "preset": preset,
            }.items()
            if value is not None
        }  # fmt: skip
        if len(given) > 1:
            raise RateError(f"{', '.join(given)} were given together: ask for one of them")
        name, value = next(iter(given.items()), ("preset", "analysis"))
        asked = f"{name}={value}"
        if name == "preset":
            if value not in PRESETS:
                raise RateError(f"preset {value!r} is unknown, expected one of {', '.join(PRESETS)}")
            return cls(quantity="bits_per_pixel", value=PRESETS[value], asked=asked)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not math.isfinite(value)
            or value <= 0
        ):
            raise RateError(f"{name} is {value!r}, expected a positive number")
        if name == "ratio":
            return cls(quantity="bits_per_pixel", value=FLOAT32_BITS / value, asked=asked)
        return cls(quantity=name, value=float(value), asked=asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the sample says about a step."""

    step_db: float
    bits_per_pixel: float
    """Coded chunks over pixels times polarizations, headers and mask included."""
    rmse_db: float | None
    """Root mean square error over valid pixels in dB; None where the target did not ask for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A piece of the data on which a step is tried."""

    backscatter: NDArray
    """Shape (plane, y, x)."""
    scale: str
    nodata: float | None


class _Piece:
    """A sample, analysed once and quantised at many steps."""

    def __init__(self, sample: Sample, coder: LappedCoder):
        settings = Settings(step_db=FIRST_STEP_DB, scale=sample.scale, nodata=sample.nodata)
        signal, classes = signal_of(sample.backscatter, settings, coder)
        self.pixels = classes.size
        self.mask_bits = 8 * len(pack_classes(classes))
        self.valid = classes == VALID
        self.signal = signal
        rows, columns = (
            mirrored_pixels(-SIGNAL_REACH, latent_count(size) * lapped.BLOCK + SIGNAL_REACH, size)
            for size in signal.shape[1:]
        )
        self.latents = coder.analyze(signal[:, rows][:, :, columns])

    def measure(self, coder: LappedCoder, step_db: float, with_error: bool) -> tuple[float, float]:
        """Bits and sum of squared errors in dB."""
        symbols = coder.quantize(self.latents, step_db)
        bits = estimate_bits(symbols, coder.tables, coder.anchor(step_db)) + self.mask_bits
        if not with_error:
            return bits, 0.0
        restored = decode_planes(symbols, self.signal.shape[1:], coder, step_db)
        error = (restored + coder.mean_correction_db(step_db) - self.signal)[self.valid]
        return bits, float((error**2).sum())


def find_step(
    samples: Sequence[Sample],
    target: Target,
    coder: LappedCoder,
    overhead_bits_per_pixel: float,
    inflation: float = 1.0,
) -> Estimate:
    """Quantisation step that meets a target on samples of the data.

    Parameters
    ----------
    samples : sequence of Sample
        Pieces of the data, spread over all of it.
    target : Target
    coder : LappedCoder
    overhead_bits_per_pixel : float
        Headers of the chunks. At most half of an asked rate goes to them: a scene of a few pixels is all header, and
        refusing it would help nobody.
    inflation : float
        Coded pixels over pixels, where chunks that stand alone are filled up to whole blocks.

    Returns
    -------
    Estimate

    Raises
    ------
    RateError
        If the target is out of reach: even the coarsest step gives a higher rate, or even the finest a larger error.
    """
    pieces = [_Piece(sample, coder) for sample in samples if sample.backscatter.size]
    pieces = [piece for piece in pieces if piece.valid.any()]
    if not pieces:  # nothing to code: any step serves
        return Estimate(step_db=FIRST_STEP_DB, bits_per_pixel=overhead_bits_per_pixel, rmse_db=0.0)
    pixels = sum(sample.backscatter.size for sample in samples)
    if target.quantity == "bits_per_pixel":
        overhead_bits_per_pixel = min(overhead_bits_per_pixel, target.value / 2)
    with_error = target.quantity == "rmse_db"

    def estimate(step_db: float, chosen: Sequence[_Piece]) -> Estimate:
        measured = [piece.measure(coder, step_db, with_error) for piece in chosen]
        # pieces without a valid pixel cost nothing, but count as pixels
        share = pixels * sum(piece.pixels for piece in chosen) / sum(piece.pixels for piece in pieces)
        bits_per_pixel = inflation * sum(bits for bits, _ in measured) / share + overhead_bits_per_pixel
        squared = sum(error for _, error in measured) / sum(int(piece.valid.sum()) for piece in chosen)
        return Estimate(
            step_db=step_db, bits_per_pixel=bits_per_pixel, rmse_db=math.sqrt(squared) if with_error else None
        )

    coarse = pieces[::COARSE_SHARE]
    first = _search(lambda step_db: estimate(step_db, coarse), target, FIRST_STEP_DB, final=len(coarse) == len(pieces))
    if len(coarse) == len(pieces):
        return first
    return _search(lambda step_db: estimate(step_db, pieces), target, first.step_db, final=True)


def _search(measure: Callable[[float], Estimate], target: Target, first_step_db: float, final: bool) -> Estimate:
    """Secant steps on logarithmic scales, kept between the steps known to be too fine and too coarse."""
    sign = 1.0 if target.quantity == "rmse_db" else -1.0  # of the slope over the step
    low, high = math.log(SMALLEST_STEP_DB), math.log(LARGEST_STEP_DB)
    position, slope = math.log(first_step_db), 0.7 * sign
    previous: tuple[float, float] | None = None
    best: tuple[float, Estimate] | None = None
    for _ in range(24):
        found = measure(math.exp(position))
        value = getattr(found, target.quantity)
        gap = math.log(max(value, 1e-12) / target.value)
        if abs(gap) < TOLERANCE / (2 if final else 1):
            return found
        if gap < 0 and (best is None or gap > best[0]):
            best = (gap, found)
        too_coarse = gap * sign > 0
        at_limit = position == (low if too_coarse else high) or high - low < 1e-4
        if at_limit and not final:
            return found
        if at_limit:  # where other tables begin, rate and error jump: the side that is no worse than asked is taken
            return _at_limit(found, target, gap) if best is None else best[1]
        low, high = (low, position) if too_coarse else (position, high)
        if previous is not None and abs(position - previous[0]) > 1e-9:
            measured_slope = (gap - previous[1]) / (position - previous[0])
            slope = measured_slope if measured_slope * sign > 0.05 else 0.7 * sign
        previous = (position, gap)
        wanted = position - gap / slope
        margin = 0.02 * (high - low)
        inside = min(max(wanted, low + margin), high - margin)
        # a wish beyond the limits of the step is tried at the limit itself
        limits = (math.log(SMALLEST_STEP_DB), math.log(LARGEST_STEP_DB))
        position = wanted if low < wanted < high and abs(wanted - inside) < 1e-12 else inside
        if wanted <= limits[0] and low == limits[0]:
            position = limits[0]
        elif wanted >= limits[1] and high == limits[1]:
            position = limits[1]
    return found


def _at_limit(found: Estimate, target: Target, gap: float) -> Estimate:
    """At the end of the range of steps: better than asked is fine, worse is an error."""
    if gap < 0:
        return found
    value = getattr(found, target.quantity)
    raise RateError(
        f"{target.asked} cannot be met: the {'finest' if target.quantity == 'rmse_db' else 'coarsest'} step of "
        f"{found.step_db:.3g} dB gives {target.quantity} {value:.4g} on this data. Ask for at least that."
    )
