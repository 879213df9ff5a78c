"""Scale of backscatter (power, decibel, amplitude), inferred from its texts and values, with the reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xsarcomp.errors import RadiometryError

SCALES = ("power", "decibel", "amplitude")
"""Scales of backscatter: sigma0 or gamma0 as ratio of powers, its 10 log10, its square root."""

_SCALE_WORDS = {
    "power": "power", "linear": "power", "decibel": "decibel", "decibels": "decibel", "db": "decibel",
    "amplitude": "amplitude", "intensity": "power",
}  # fmt: skip
_POWER_UNITS = {"m2 m-2", "m2/m2", "m2.m-2", "m^2/m^2", "m^2 m^-2", "m2 / m2", "m²/m²", "m² m⁻²"}
_NEUTRAL_UNITS = {"1", "", "linear", "dimensionless", "unitless"}
_DIGITAL_UNITS = {"dn", "digital number", "digital numbers", "count", "counts"}

# code in product names of ASF HyP3 RTC: sigma0 or gamma0, power/decibel/amplitude, water mask, filter, clip, DEM matching.
_HYP3_CODE = re.compile(r"(?:^|_)[A-Z]_[sg]([pda])[uw][nf][ec][dm](?=$|[^A-Za-z0-9])")
_HYP3_SCALES = {"p": "power", "d": "decibel", "a": "amplitude"}
_DECIBEL_WORD = re.compile(r"(?<![A-Za-z0-9])(?:dB|db|DB|[Dd]ecibels?)(?![A-Za-z0-9])")
_POWER_WORD = re.compile(r"(?i)(?:sigma|gamma|beta)[ _-]?(?:0|zero|naught|nought)|backscatter|(?<![a-z])power")

_INTENSITY_MEDIAN = 3000.0  # digital numbers of GRD have medians of 50 to 1000 over land, their squares 1e4 to 1e6
_AMPLITUDE_WORD = re.compile(r"(?i)(?<![a-z])amplitude")
_INTENSITY_WORD = re.compile(r"(?i)(?<![a-z])intensity")
_ADVICE_NAME_SCALE = "Say scale='power', 'decibel' or 'amplitude' if you know it."
_SAID = "attribute scale is "  # whoever says so may mean digital numbers, too
_FILL_LIMIT = 500.0  # dB; larger magnitudes are fill values: float32 power ends at -448 dB
_ENOUGH_VALUES = 16  # fewer values cannot contradict a text


@dataclass(frozen=True, slots=True)
class ScaleEvidence:
    """Inferred scale of backscatter, with the reason."""

    scale: str
    """One of `SCALES`."""
    reason: str
    """Sentence with the text or the numbers that decided."""


@dataclass(frozen=True, slots=True)
class _ValueSummary:
    """Statistics of the valid, nonzero values of a sample."""

    count: int
    zero_count: int
    negative_share: float
    decibel_like_share: float
    lowest: float
    median: float
    highest: float
    median_magnitude: float
    is_integer: bool

    @property
    def text(self) -> str:
        return (
            f"{self.count} nonzero valid values from {self.lowest:.4g} to {self.highest:.4g}, "
            f"median {self.median:.4g}, {100 * self.negative_share:.3g} % negative"
        )


def check_scale(scale: str) -> None:
    """Refuse a scale that is not one of ``SCALES``.

    Raises
    ------
    RadiometryError
        If the scale is unknown.
    """
    if scale not in SCALES:
        meant = _SCALE_WORDS.get(str(scale).strip().lower())
        advice = f" Say scale={meant!r} for {str(scale).strip()}." if meant else ""
        raise RadiometryError(f"found scale {scale!r}, expected 'power', 'decibel' or 'amplitude'.{advice}")


def check_dtype(dtype: DTypeLike) -> None:
    """Refuse a dtype that cannot hold backscatter.

    Parameters
    ----------
    dtype : dtype
        Accepted are float16, float32, float64 and all integers, in any byte order.

    Raises
    ------
    RadiometryError
        If the dtype is complex, bool, object, time, text or a longer float; the message says what to do.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    advice = {
        "c": "Detect it first: power = abs(values)**2. The phase would be lost.",
        "b": "A mask is not backscatter: store it without loss.",
        "O": "Convert it to float32 first.",
        "f": "Convert it to float64 first.",
    }.get(dtype.kind, "Times, texts and records are not backscatter: leave this variable out.")
    raise RadiometryError(f"found dtype {dtype}, expected float16, float32, float64 or integers. {advice}")


def infer_scale(
    sample: ArrayLike, *, name: str | None = None, attributes: Mapping[Any, Any], nodata: float | None = None
) -> ScaleEvidence:
    """Infer the scale of backscatter (sigma0, gamma0).

    The first evidence counts: attribute ``scale``; attribute ``units``; an ASF HyP3 product name in ``name``,
    ``source`` or ``long_name``; the word dB in ``long_name`` or ``name``; then the values. A text that the
    values contradict is refused, not overruled. Zeros are left out of the statistics: they are mostly fill.

    Parameters
    ----------
    sample : ndarray of real numbers, any shape
        Values that represent the variable; more values decide more surely.
    name : str, optional
        Name of the variable or of the file.
    attributes : mapping
        Attributes of the variable; ``long_name`` may be a tuple, as rioxarray gives for bands.
    nodata : float, optional
        Declared fill value, left out of the statistics.

    Returns
    -------
    ScaleEvidence

    Raises
    ------
    RadiometryError
        If the dtype is not real, the values are packed or uncalibrated digital numbers, a text contradicts
        the values, or the values fit no scale.

    References
    ----------
    ASF HyP3, *Sentinel-1 RTC Product Guide*, section "Naming Convention".
    """
    sample = np.asarray(sample)
    check_dtype(sample.dtype)
    _refuse_packed(sample, attributes)
    values = _summarize(sample, nodata)
    claim = _scale_from_texts(name, attributes)
    if claim is not None:
        _refuse_contradiction(claim, values, _digital_advice(name, attributes, values))
        return claim
    return _scale_from_values(values, attributes, _digital_advice(name, attributes, values))


def _digital_advice(name: str | None, attributes: Mapping[Any, Any], values: _ValueSummary | None = None) -> str:
    """Advice for digital numbers: they are amplitudes, and their squares intensities, which have the scale of power."""
    texts = [*_texts(name), *_texts(attributes.get("long_name"))]
    is_intensity = any(map(_INTENSITY_WORD.search, texts)) or (values is not None and values.median > _INTENSITY_MEDIAN)
    if is_intensity and not any(map(_AMPLITUDE_WORD.search, texts)):
        as_they_are = "scale='power' to compress intensity, the square of digital numbers, as it is"
    else:
        as_they_are = (
            "scale='amplitude' to compress digital numbers as they are (scale='power' if they are squares: intensity)"
        )
    unpacked = ", multiply packed integers by their factor" if values is not None and values.is_integer else ""
    return f"Calibrate to sigma0 or gamma0 first{unpacked}, or say {as_they_are}."


def claimed_scale(name: str | None, attributes: Mapping[Any, Any]) -> str | None:
    """Read the scale that name and attributes claim, without a look at the values; None if they claim none.

    Units of 1 claim nothing here: power has them, and amplitude, too.

    Parameters
    ----------
    name : str or None
        Name of the variable.
    attributes : mapping
        Attributes of the variable.
    """
    is_neutral = str(attributes.get("units", "")).strip().lower() in _NEUTRAL_UNITS
    try:
        claim = _scale_from_texts(name, {**attributes, "units": ""} if is_neutral else attributes)
    except RadiometryError:  # digital numbers
        return None
    return None if claim is None else claim.scale


def negative_share(sample: ArrayLike, nodata: float | None = None) -> float | None:
    """Share of negative values among the finite ones that are neither zero nor nodata: most decibels are, power never is.

    Parameters
    ----------
    sample : array_like of real numbers
    nodata : float, optional
        Declared fill value.

    Returns
    -------
    float or None
        None for too few values to tell.
    """
    values = _summarize(np.asarray(sample), nodata)
    return values.negative_share if values.count >= _ENOUGH_VALUES else None


def _refuse_packed(sample: NDArray[Any], attributes: Mapping[Any, Any]) -> None:
    factor, offset = attributes.get("scale_factor", 1), attributes.get("add_offset", 0)
    if sample.dtype.kind in "iu" and (factor != 1 or offset != 0):
        raise RadiometryError(
            f"found packed integers (scale_factor={factor}, add_offset={offset}), expected backscatter. "
            "Open the file with mask_and_scale=True."
        )


def _summarize(sample: NDArray[Any], nodata: float | None) -> _ValueSummary:
    with np.errstate(all="ignore"):
        numbers = sample.astype(np.float64).ravel()
        is_known = np.isfinite(numbers)
        if nodata is not None:
            is_known &= numbers != float(nodata)
            if sample.dtype.kind == "f":  # -9999.9 declared in float64 is another number in float32
                is_known &= numbers != float(np.asarray(nodata, np.float64).astype(sample.dtype.newbyteorder("=")))
    numbers = numbers[is_known]
    zero_count = int(np.count_nonzero(numbers == 0))
    numbers = numbers[numbers != 0]
    if numbers.size == 0:
        return _ValueSummary(0, zero_count, 0.0, 0.0, np.nan, np.nan, np.nan, np.nan, sample.dtype.kind in "iu")
    return _ValueSummary(
        count=numbers.size,
        zero_count=zero_count,
        negative_share=float(np.mean(numbers < 0)),
        decibel_like_share=float(np.mean((numbers >= -100) & (numbers <= 60))),
        lowest=float(numbers.min()),
        median=float(np.median(numbers)),
        highest=float(numbers.max()),
        median_magnitude=float(np.median(np.abs(numbers))),
        is_integer=sample.dtype.kind in "iu",
    )


def _scale_from_texts(name: str | None, attributes: Mapping[Any, Any]) -> ScaleEvidence | None:
    """Read the scale from the texts, in the order of their weight; None if they do not name it."""
    scale_text = attributes.get("scale")
    if isinstance(scale_text, str) and scale_text.strip().lower() in _SCALE_WORDS:
        return ScaleEvidence(_SCALE_WORDS[scale_text.strip().lower()], f"{_SAID}{scale_text!r}")
    units = str(attributes.get("units", "")).strip()
    long_names = _texts(attributes.get("long_name"))
    if units.lower() in _DIGITAL_UNITS:
        raise RadiometryError(
            f"found units {units!r}, digital numbers; expected backscatter. {_digital_advice(name, attributes)}"
        )
    if units.lower() in ("db", "decibel", "decibels"):
        return ScaleEvidence("decibel", f"attribute units is {units!r}")
    for text in [*_texts(name), *_texts(attributes.get("source")), *long_names]:
        code = _HYP3_CODE.search(text)
        if code:
            return ScaleEvidence(_HYP3_SCALES[code[1]], f"product name {text!r} has the HyP3 code of this scale")
    for text in [*long_names, *_texts(name)]:
        if _DECIBEL_WORD.search(text):
            return ScaleEvidence("decibel", f"name {text!r} says decibel")
    named_amplitude = next((text for text in long_names if _AMPLITUDE_WORD.search(text)), None)
    if named_amplitude and units.lower() in _NEUTRAL_UNITS:
        return ScaleEvidence("amplitude", f"long_name {named_amplitude!r} says amplitude")
    named_power = next((text for text in long_names if _POWER_WORD.search(text)), None)
    if units.lower() in _POWER_UNITS or (units and units.lower() in _NEUTRAL_UNITS and named_power):
        return ScaleEvidence(
            "power", f"attribute units is {units!r}" + (f", long_name {named_power!r}" * bool(named_power))
        )
    return None


def _texts(value: object) -> list[str]:
    """List the texts of an attribute that is a text, a tuple of texts or missing."""
    if isinstance(value, str):
        return [value]
    return [text for text in value if isinstance(text, str)] if isinstance(value, (tuple, list)) else []


def _refuse_contradiction(claim: ScaleEvidence, values: _ValueSummary, digital_advice: str) -> None:
    """Raise where the values cannot have the scale that the texts claim."""
    if values.count < _ENOUGH_VALUES:
        return
    problem: str | None = None
    advice: str | None = None
    if claim.scale == "decibel":
        if values.negative_share == 0 and values.median < 1:
            problem, advice = "look like power", "Correct the attribute, or convert with 10 * log10(power)."
        elif values.decibel_like_share < 0.99 or max(-values.lowest, values.highest) > _FILL_LIMIT:
            problem = "are no decibels"
            advice = f"Declare the fill value as nodata if there is one, or correct the attribute. {_ADVICE_NAME_SCALE}"
    elif values.negative_share > 0.5:
        problem = "are mostly negative, as decibels are"
        advice = "Correct the attribute, or say scale='decibel'."
    elif values.median > 10 and not (claim.scale == "amplitude" and claim.reason.startswith(_SAID)):
        problem, advice = "look like uncalibrated digital numbers", digital_advice
    if problem:
        raise RadiometryError(f"{claim.reason}: {claim.scale} expected, but the {values.text} {problem}. {advice}")


def _scale_from_values(values: _ValueSummary, attributes: Mapping[Any, Any], digital_advice: str) -> ScaleEvidence:
    """Infer the scale from the values, or refuse them."""
    if values.count == 0 and values.zero_count:
        # Zero is fill in power and stored exactly; were it really 0 dB, nothing would be lost either.
        return ScaleEvidence("power", f"no valid pixel but {values.zero_count} zeros, which are fill in power")
    if values.count == 0:
        return ScaleEvidence("decibel", "no valid pixel")
    if values.negative_share > 0.01:
        packed = ", and multiply packed integers by their factor" if values.is_integer else ""
        if values.decibel_like_share < 0.99 or max(-values.lowest, values.highest) > _FILL_LIMIT:
            raise RadiometryError(
                f"{values.text}: expected decibels within -100 to 60, or positive power. "
                f"Declare the fill value as nodata if there is one{packed}. {_ADVICE_NAME_SCALE}"
            )
        if values.median_magnitude < 0.5:  # speckle spreads decibels by 2 to 3
            raise RadiometryError(
                f"{values.text}: negative, but too small for decibels; power with noise subtracted looks "
                f"like this. {_ADVICE_NAME_SCALE}"
            )
        return ScaleEvidence("decibel", f"{values.text}: many are negative, within -100 to 60 dB")
    if values.is_integer or values.median > 10:
        kind = "integers" if values.is_integer else "a median above 10"
        raise RadiometryError(
            f"{values.text}: found {kind}, expected sigma0 or gamma0; these look like uncalibrated digital "
            f"numbers. {digital_advice}"
        )
    units = f"units {attributes['units']!r} and " if attributes.get("units") else ""
    return ScaleEvidence("power", f"{units}{values.text}: positive and small, as calibrated power is")
