"""From what a user asks for to a quantization step, measured on a sample of the data itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import LARGEST_STEP_DB, SMALLEST_STEP_DB, LappedCoder
from xsarcomp.codec.entropy_coding import estimate_bits
from xsarcomp.codec.error_bound import residuals_of
from xsarcomp.codec.residual_coding import encode_integers
from xsarcomp.codec.sections import pack_classes
from xsarcomp.codec.settings import Guarantees, Settings
from xsarcomp.codec.tile_means import TILE
from xsarcomp.codec.window import SIGNAL_REACH, classes_of, decode_planes, latent_count, mirrored_pixels, signal_of
from xsarcomp.errors import RateError
from xsarcomp.radiometry.pixel_classes import VALID

PRESETS = {"archive": 2.0, "analysis": 1.0, "browse": 0.25, "8x": 4.0, "16x": 2.0, "32x": 1.0}
"""Bits per pixel of each preset: named after a use, or after the ratio of float32 to all bytes of a store."""
FLOAT32_BITS = 32
TOLERANCE = 0.01
COARSE_SHARE = 4  # the search begins on every fourth sample
FIRST_STEP_DB = 3.0
GAIN_BITS = 8
"""Bits of the gain and the level of a tile, about."""
LEAST_WIDEST_STEP_DB = 6.0
"""Steps up to this are tried for any bound."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was asked for: a rate or an error, and what is kept whatever the rate."""

    quantity: str
    """"bits_per_pixel" or "rmse_db"; "max_error_db" where the cheapest step that keeps a bound is wanted; "step_db"."""
    value: float
    asked: str
    """The arguments in words, for messages and metadata."""
    max_error_db: float | None = None
    """Bound on the error of each pixel; None without one."""
    keep_means: bool = False
    """Whether the mean power of each tile is kept."""
    counts_store: bool = False
    """Whether metadata and coordinates of a store count too."""

    def guarantees(self, dtype: np.dtype, nodata: float | None, scale: str) -> Guarantees:
        """What is promised for a variable."""
        return Guarantees.from_request(self.max_error_db, self.keep_means, dtype, nodata, scale)

    @classmethod
    def from_arguments(
        cls,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
        max_error_db: float | None = None,
        keep_means: bool = False,
    ) -> "Target":
        """Target from the arguments of ``encode``; the preset "analysis" if there is no rate, error or bound.

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
        kept = Guarantees.from_request(max_error_db, keep_means, np.dtype(np.float32)).request
        default = ("preset", "analysis") if max_error_db is None else ("max_error_db", max_error_db)
        name, value = next(iter(given.items()), default)
        asked = ", ".join(f"{key}={argument}" for key, argument in ({name: value} | kept).items())
        if name == "preset":
            if value not in PRESETS:
                raise RateError(f"preset {value!r} is unknown, expected one of {', '.join(PRESETS)}")
            is_ratio = value.endswith("x")
            rate = PRESETS[value] * (1 - TOLERANCE / 2 if is_ratio else 1)  # the search may miss by that
            return cls(quantity="bits_per_pixel", value=rate, asked=asked, counts_store=is_ratio, **kept)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= 0:
            raise RateError(f"{name} is {value!r}, expected a positive number")
        if name == "ratio":
            return cls(quantity="bits_per_pixel", value=FLOAT32_BITS / value, asked=asked, **kept)
        return cls(quantity=name, value=float(value), asked=asked, **kept)


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
    """A piece of the data on which steps are tried."""

    backscatter: NDArray
    """Shape (plane, y, x)."""
    settings: Settings
    """Scale, nodata and guarantees; the step is not used."""


class _Piece:
    """A sample, analyzed once and quantized at many steps."""

    def __init__(self, sample: Sample, coder: LappedCoder):
        guarantees = sample.settings.guarantees
        classes = classes_of(sample.backscatter, sample.settings)
        signal = signal_of(sample.backscatter, classes, sample.settings, coder)
        self.pixels = classes.size
        self.fixed_bits = 8 * len(pack_classes(classes))
        self.spacing_db = guarantees.residual_spacing_db
        if guarantees.keep_means:
            self.fixed_bits += GAIN_BITS * classes.size / TILE**2
        self.classes, self.valid = classes, classes == VALID
        self.signal = signal
        rows, columns = (
            mirrored_pixels(-SIGNAL_REACH, latent_count(size) * lapped.BLOCK + SIGNAL_REACH, size)
            for size in signal.shape[1:]
        )
        self.latents = coder.analyze(signal[:, rows][:, :, columns])

    def measure(self, coder: LappedCoder, step_db: float, with_error: bool) -> tuple[float, float]:
        """Bits and sum of squared errors in dB."""
        symbols = coder.quantize(self.latents, step_db)
        bits = estimate_bits(symbols, coder.tables, coder.anchor(step_db)) + self.fixed_bits
        if not with_error and not self.spacing_db:
            return bits, 0.0
        restored = decode_planes(symbols, self.signal.shape[1:], coder, step_db) + coder.mean_correction_db(step_db)
        if self.spacing_db:
            residuals = residuals_of(self.signal, restored, self.classes, self.spacing_db)
            bits += 8 * len(encode_integers(residuals))
            restored = restored + residuals * self.spacing_db
        return bits, float(((restored - self.signal)[self.valid] ** 2).sum())


def find_step(
    samples: Sequence[Sample],
    target: Target,
    coder: LappedCoder,
    overhead_bits_per_pixel: float,
    inflation: float = 1.0,
) -> Estimate:
    """Quantization step that meets a target on samples of the data.

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
        step_db = target.value if target.quantity == "step_db" else FIRST_STEP_DB
        return Estimate(step_db=step_db, bits_per_pixel=overhead_bits_per_pixel, rmse_db=0.0)
    pixels = sum(sample.backscatter.size for sample in samples)
    headers = overhead_bits_per_pixel
    if target.quantity == "bits_per_pixel":
        overhead_bits_per_pixel = min(headers, target.value / 2)
    with_error = target.quantity != "bits_per_pixel"

    def estimate(step_db: float, chosen: Sequence[_Piece]) -> Estimate:
        measured = [piece.measure(coder, step_db, with_error) for piece in chosen]
        # pieces without a valid pixel cost nothing, but count as pixels
        share = pixels * sum(piece.pixels for piece in chosen) / sum(piece.pixels for piece in pieces)
        bits_per_pixel = inflation * sum(bits for bits, _ in measured) / share + overhead_bits_per_pixel
        squared = sum(error for _, error in measured) / sum(int(piece.valid.sum()) for piece in chosen)
        return Estimate(
            step_db=step_db, bits_per_pixel=bits_per_pixel, rmse_db=math.sqrt(squared) if with_error else None
        )

    if target.quantity == "step_db":
        return estimate(target.value, pieces)
    coarse = pieces[::COARSE_SHARE]
    largest = LARGEST_STEP_DB
    if target.max_error_db is not None:  # coarser symbols than the cheapest cost more in residuals than they save
        cheapest = _cheapest(lambda step_db: estimate(step_db, coarse), target.max_error_db)
        if target.quantity == "max_error_db":
            return estimate(cheapest, pieces)
        largest = cheapest
    step_db = min(FIRST_STEP_DB, largest)
    if len(coarse) < len(pieces):
        step_db = _search(lambda step: estimate(step, coarse), target, step_db, largest, headers, final=False).step_db
    return _search(lambda step: estimate(step, pieces), target, step_db, largest, headers, final=True)


def _cheapest(measure: Callable[[float], Estimate], max_error_db: float) -> float:
    """Step with the lowest rate of symbols and residuals together, to about 5 %, by golden sections.

    Coarse symbols need many residuals, fine ones are more than the bound asks for. The best step grows with the bound, but
    for small bounds it stays at 1 to 2 dB, where residuals take over.
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
    """Secant steps on logarithmic scales, kept between the steps known to be too fine and too coarse."""
    sign = 1.0 if target.quantity == "rmse_db" else -1.0  # of the slope over the step
    low, high = math.log(SMALLEST_STEP_DB), math.log(last_db)
    position, slope = math.log(first_db), 0.7 * sign
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
            return _at_limit(found, target, gap, headers) if best is None else best[1]
        low, high = (low, position) if too_coarse else (position, high)
        if previous is not None and abs(position - previous[0]) > 1e-9:
            measured_slope = (gap - previous[1]) / (position - previous[0])
            slope = measured_slope if measured_slope * sign > 0.05 else 0.7 * sign
        previous = (position, gap)
        wanted = position - gap / slope
        margin = 0.02 * (high - low)
        inside = min(max(wanted, low + margin), high - margin)
        # a wish beyond the limits of the step is tried at the limit itself
        limits = (math.log(SMALLEST_STEP_DB), math.log(last_db))
        position = wanted if low < wanted < high and abs(wanted - inside) < 1e-12 else inside
        if wanted <= limits[0] and low == limits[0]:
            position = limits[0]
        elif wanted >= limits[1] and high == limits[1]:
            position = limits[1]
    return found


def _at_limit(found: Estimate, target: Target, gap: float, headers: float) -> Estimate:
    """At the end of the range of steps: better than asked is fine, worse is an error."""
    if gap < 0:
        return found
    value = getattr(found, target.quantity)
    if target.quantity == "bits_per_pixel":  # of a higher rate more goes to headers: what is named must do
        coded = value - min(headers, target.value / 2)
        value = coded + min(headers, coded)
    which = "finest" if target.quantity == "rmse_db" else "coarsest"
    if target.max_error_db is not None:
        which = f"cheapest that keeps max_error_db={target.max_error_db}, a"
    raise RateError(
        f"{target.asked} cannot be met: the {which} step of {found.step_db:.3g} dB gives {target.quantity} {value:.4g} on "
        "this data. Ask for at least that."
    )
