"""Judgment whether a variable is backscatter (sigma0, gamma0, beta0), from its texts: names, attributes, labels of bands."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import xarray as xr

from xsarcomp.scenes.variables import band_labels

# texts are compared in lower case, with spaces instead of other separators
_POLARIZATION = re.compile(r"(?<![a-z])(?:vv|vh|hh|hv)(?![a-z]|db[a-z])|(?<![a-z])(?:vv|vh|hh|hv)(?=db\b)")
_BACKSCATTER = re.compile(
    r"(?:sigma|gamma|beta) ?(?:0|zero|naught|nought)|[σγβ] ?[0°⁰]|backscatter|backwards scattering|\bnrcs\b|radar cross section"
)
_SAR_NAME = re.compile(r"\b(?:grd|rtc)\b|^(?:intensity|amplitude)(?: db)?$")
_PRODUCT = re.compile(r"\b(?:s1[a-d]?|sentinel ?1[a-d]?|rtc|grd|sar)\b")
_OTHER = re.compile(
    r"coherence|\bcoh\b|\bcorr\b|correlation|interferogra|phase|wrapped|\bunw\b|displacement|velocity"
    r"|\bstd(?:dev)?\b|\bstdev\b|\bsd\b|standard deviation|\bvar\b|variance|variation|\bcv\b"
    r"|\bnesz\b|noise equivalent|\bratio\b|\bindex\b|\b(?:rvi|rfdi|dprvi|ndpi|ndvi|ndwi|ndsi)\b|entropy|anisotropy|\balpha\b"
    r"|\benl\b|\blooks\b|speckle|glcm|texture|contrast|homogeneity|dissimilarity"
    r"|\bmask\b|\bflags?\b|\bquality\b|\bqa\b|\bqc\b|\bclass(?:es|ification)?\b|\blabels?\b|land ?cover|land ?use|water|flood"
    r"|\bcounts?\b|\bn ?obs\b|\bnum(?:ber)?\b|\bweights?\b|\bvalid\b|probability|confidence|uncertainty|\berrors?\b"
    r"|\bdiff(?:erence)?\b|\bchange\b|optical|reflectance|\bb(?:0[1-9]|1[0-2]|8a)\b|cloud|\bscl\b"
)
"""Quantities that are not backscatter, even of a polarization, and even if the text speaks of backscatter."""
_BESIDE = re.compile(
    r"angle|incidence|\binci?\b|\blia\b|shadow|layover|\bls map\b|\bd[est]m\b|elevation|height|altitude|slope|aspect"
    r"|\blat(?:itude)?\b|\blon(?:gitude)?\b|\barea\b|\blut\b|\bnoise\b|\bcrs\b|spatial ref|temperature|precipitation|\brain"
    r"|\bwind\b|moisture|\bdate\b|\btime\b|\bdoy\b|\bdistance\b"
)
"""Quantities that lie beside backscatter; a description of backscatter may name them: corrected for the incidence angle."""
_TREATMENT = re.compile(
    r"(?:\b(?:local|incidence|angle|thermal|noise|area|terrain|slope|mask|shadow|water|flood|cloud)[ ,]*)+"
    r"(?:removed|removal|corrected|correction|normali[sz]ed|flattened|free|subtracted|masked|filtered)\b|\buse\b.*"
)
"""What was done to backscatter, in the names of products; SNAP appends "use_local_inci_from_dem"."""
_AUXILIARY = re.compile(r"\b(?:calibration|quality|conditions|noise|annotations?|auxiliary|metadata)\b")
"""Words in the paths of groups that hold tables beside the scene, such as those of sigma0 by which a product is calibrated."""
_OTHER_UNITS = {
    "degree",
    "degrees",
    "deg",
    "°",
    "rad",
    "radian",
    "radians",
    "m",
    "metre",
    "metres",
    "meter",
    "meters",
    "k",
}
_BACKSCATTER_UNITS = {"db", "decibel", "decibels", "m2 m-2", "m2/m2", "m2.m-2", "m^2/m^2", "m^2 m^-2", "m²/m²"}
_GENERIC = re.compile(
    r"(?:xarray dataarray variable|band ?data|bands?(?: ?\d+)?|data|measurements?|raster|image|values?)?"
)
"""Names that readers give; then the name of the file counts."""


class Kind(Enum):
    """What the texts of a variable say that it is."""

    BACKSCATTER = "backscatter"
    OTHER = "other"
    UNKNOWN = "unknown"
    MIXED = "mixed"
    """Bands of backscatter beside others."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """Kind of a variable, with the reason."""

    kind: Kind
    reason: str
    """Part of a sentence about the variable, such as "its name says coherence"."""


def judge_quantity(array: xr.DataArray) -> Judgment:
    """Judge by its texts and its type whether an array holds backscatter.

    Parameters
    ----------
    array : xarray.DataArray
        Its values are not read.

    Returns
    -------
    Judgment
    """
    if array.dtype.kind not in "fiuc":
        return Judgment(Kind.OTHER, f"its type is {array.dtype}")
    if flags := next((name for name in ("flag_values", "flag_masks", "flag_meanings") if name in array.attrs), None):
        return Judgment(Kind.OTHER, f"it has {flags}")
    whole = _judge_texts("" if array.name is None else str(array.name), array.attrs, array.encoding.get("source"))
    labels = band_labels(array)
    if labels is None or whole.kind is Kind.OTHER:
        return whole
    return _judge_bands(labels[1], whole)


def is_sentinel_1(attributes: Mapping[Any, Any]) -> bool:
    """Check if the attributes of a dataset name Sentinel-1 as its source."""
    keys = (
        "title",
        "platform",
        "constellation",
        "mission",
        "family_name",
        "sensor",
        "source",
        "product_type",
        "sar:product_type",
    )
    return any(_PRODUCT.search(_normalized(str(attributes[key]))) for key in keys if key in attributes)


def is_auxiliary(path: str) -> bool:
    """Check if the path of a group says that it holds what lies beside a scene: tables of calibration, noise, quality."""
    return bool(_AUXILIARY.search(_normalized(path)))


def _judge_bands(labels: Iterable[str], whole: Judgment) -> Judgment:
    """Judge an array by the labels of its bands; by all of it where they say nothing."""
    judged = {label: _judge_texts(label, {}, None) for label in labels}
    kinds = {judgment.kind for judgment in judged.values()}
    if kinds == {Kind.UNKNOWN}:
        return whole
    if len(kinds) == 1:
        return Judgment(next(iter(kinds)), f"its bands are {', '.join(judged)}")
    if Kind.BACKSCATTER not in kinds:
        return Judgment(Kind.OTHER, f"its bands are {', '.join(judged)}")
    others = ", ".join(repr(label) for label, judgment in judged.items() if judgment.kind is not Kind.BACKSCATTER)
    return Judgment(Kind.MIXED, f"its bands {', '.join(judged)} hold more than backscatter: {others}")


def _judge_texts(name: str, attributes: Mapping[Any, Any], source: Any) -> Judgment:
    """Judge by name, attributes and the name of the file, in this order."""
    plain = _TREATMENT.sub("", _normalized(name))
    if word := _OTHER.search(plain) or _BESIDE.search(plain):
        return Judgment(Kind.OTHER, f"its name says {word[0].strip()!r}")
    units = str(attributes.get("units", "")).strip().lower()
    if units in _OTHER_UNITS:
        return Judgment(Kind.OTHER, f"its units are {attributes['units']!r}")
    names_it = _names_backscatter(plain)
    for key in ("long_name", "standard_name"):
        text = _normalized(attributes[key]) if isinstance(attributes.get(key), str) else ""
        described = bool(_BACKSCATTER.search(text))
        word = _OTHER.search(text) or (None if described or names_it else _BESIDE.search(text))
        if word:
            return Judgment(Kind.OTHER, f"its {key} says {word[0].strip()!r}")
        names_it = names_it or _names_backscatter(text)
    if names_it or units in _BACKSCATTER_UNITS or {"polarization", "polarisation"} & set(attributes):
        return Judgment(Kind.BACKSCATTER, "its name or attributes say so")
    if isinstance(source, str) and _GENERIC.fullmatch(plain.strip()):
        return _judge_file(PurePosixPath(source.replace("\\", "/")).stem)
    return Judgment(Kind.UNKNOWN, "nothing says that it is backscatter")


def _names_backscatter(plain: str) -> bool:
    """Check if a text names backscatter: a polarization, a coefficient, a product of backscatter."""
    return any(pattern.search(plain) for pattern in (_POLARIZATION, _BACKSCATTER, _SAR_NAME))


def _judge_file(stem: str) -> Judgment:
    """Judge by the name of the file."""
    plain = _TREATMENT.sub("", _normalized(stem))
    if word := _OTHER.search(plain) or _BESIDE.search(plain):
        return Judgment(Kind.OTHER, f"the name of its file says {word[0].strip()!r}")
    if any(pattern.search(plain) for pattern in (_POLARIZATION, _BACKSCATTER, _PRODUCT)):
        return Judgment(Kind.BACKSCATTER, "the name of its file says so")
    return Judgment(Kind.UNKNOWN, "nothing says that it is backscatter")


def _normalized(text: str) -> str:
    """Text in lower case, its words separated by single spaces: "localIncidence_angle" is "local incidence angle"."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])(?!B\b)|(?<=[a-z]\d)(?=[A-Z])", " ", text)  # dB is one word
    return " ".join(re.split(r"[\s_\-./:;()\[\]]+", text.lower())).strip()
