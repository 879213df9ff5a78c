"""Inspection of a variable before it is encoded: a sample, its scale and nodata, and checks that it may be encoded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.rate_control import FIRST_STEP_DB, Sample
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.target import Target
from xsarcomp.errors import AlreadyLossyError, RadiometryError
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS
from xsarcomp.radiometry.fill_values import FillValue, find_fill_values
from xsarcomp.radiometry.pixel_classes import EXACT, VALID, classify
from xsarcomp.radiometry.scales import check_dtype, check_scale, infer_scale
from xsarcomp.scenes.sampling import sample_windows, sampled_planes
from xsarcomp.scenes.variables import declared_nodata, declares_no_nodata, plane_polarizations, spatial_dimensions

_SMALLEST_DECIBEL = 0.5
"""Median magnitude of negative values below which they are no decibels: speckle alone spreads these by 2 to 3."""
_MOST_CLASSES = 4
"""Different integers in a variable, and magnitude of them, that are taken for classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Sample of a variable, and the settings inferred from it."""

    settings: Settings
    """Scale, nodata and guarantees of the variable; the step is only the first that the search tries."""
    scale_reason: str
    """Evidence for the scale, in words."""
    windows: list[NDArray]
    """Sampled windows of the variable, each of shape (plane, y, x)."""
    planes: list[int]
    """Position of the plane that each window was cut from."""
    polarizations: list[str | None]
    """Polarization of each plane of the variable; None where unknown."""
    fill_values: list[FillValue]
    """Numbers that fill areas without data though nobody declared them. One of them may be the nodata of the settings."""

    @property
    def samples(self) -> list[Sample]:
        """Windows as samples on which steps are tried."""
        return [Sample(backscatter=values, settings=self.settings) for values in self.windows]

    @property
    def negative_share(self) -> float:
        """Share of negative values among the numbers of the sample, where the scale has none; else 0."""
        return _negative_share(self.windows, self.settings.scale, self.settings.nodata)


def inspect_variable(
    array: xr.DataArray,
    target: Target,
    *,
    scale: str,
    recompress: bool,
    limit: int,
    earlier: Settings | None = None,
) -> Inspection:
    """Check a variable, sample it, and infer its scale.

    Parameters
    ----------
    array : xarray.DataArray
        Backscatter with a vertical and a horizontal dimension.
    target : Target
        The request; its guarantees become part of the settings.
    scale : {"power", "amplitude", "decibel", "auto"}
        "auto" infers it from attributes and sample.
    recompress : bool
        Whether to accept data that was compressed with loss before.
    limit : int
        Largest number of pixels in the sample.
    earlier : Settings, optional
        Settings of latents to which these will be joined: their nodata is taken where the array declares none.

    Returns
    -------
    Inspection

    Raises
    ------
    AlreadyLossyError, DimensionError, RadiometryError
        If the variable cannot be encoded.
    """
    if not recompress:
        refuse_lossy(array)
    check_dtype(array.dtype)
    spatial, nodata = spatial_dimensions(array), declared_nodata(array)
    windows = sample_windows(array, spatial, _load, limit)
    _refuse_classes(array, windows, scale, nodata)
    known_scale, reason, nodata, fill_values = _scale_and_nodata(array, windows, scale, nodata, earlier)
    guarantees = target.guarantees(array.dtype, nodata, known_scale)
    return Inspection(
        settings=Settings(step_db=FIRST_STEP_DB, scale=known_scale, nodata=nodata, guarantees=guarantees),
        scale_reason=reason,
        windows=windows,
        planes=sampled_planes(array, spatial, limit),
        polarizations=plane_polarizations(array),
        fill_values=fill_values,
    )


def refuse_lossy(array: xr.DataArray) -> None:
    """Refuse data that was compressed with loss before: a second pass would lose more, unnoticed.

    Parameters
    ----------
    array : xarray.DataArray

    Raises
    ------
    AlreadyLossyError
        If the array was decoded from latents, or opened from a transparent store.
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
        note = array.attrs.get(LOSS_ATTRIBUTE, "transparent store")
        note = array.encoding.get(LOSS_SETTINGS, note)
        raise AlreadyLossyError(
            f"variable {array.name!r} was compressed with loss before ({note}). "
            "Encode the original, or pass recompress=True to accept the additional loss"
        )


def _scale_and_nodata(
    array: xr.DataArray, windows: list[NDArray], scale: str, nodata: float | None, earlier: Settings | None
) -> tuple[str, str, float | None, list[FillValue]]:
    """Scale, the reason for it, nodata, and the fill values that nobody declared; the first of these may become nodata."""
    if declares_no_nodata(array):
        return *_scale(array, windows, scale, None), None, []
    if nodata is None and earlier is not None:
        nodata = earlier.nodata
    searches = nodata is None and earlier is None
    impossible = find_fill_values(windows, scale=None) if searches else []
    known_scale, reason = _scale(array, windows, scale, impossible[0].value if impossible else nodata)
    fill_values = find_fill_values(windows, scale=known_scale, nodata=nodata)
    if searches and fill_values:
        nodata = fill_values[0].value
    return known_scale, reason, nodata, fill_values


def _refuse_classes(array: xr.DataArray, windows: list[NDArray], scale: str, nodata: float | None) -> None:
    """Refuse a mask of zeros and ones, and a few neighboring integers: classes, which no lossy codec may touch."""
    numbers: set[float] = set()
    for values in windows:
        known = values[np.isfinite(values)] if array.dtype.kind == "f" else values.ravel()
        known = known if nodata is None else known[known != nodata]
        if known.size and (known.min() < -_MOST_CLASSES or known.max() > _MOST_CLASSES):
            return  # nearly always after the first window
        if array.dtype.kind == "f" and not np.isin(known, (0, 1)).all():
            return
        numbers |= set(np.unique(known).tolist())
    integers = array.dtype.kind in "iu"
    is_mask = numbers == {0, 1} or (integers and numbers == {1})
    if is_mask or (integers and scale == "auto" and 2 <= len(numbers) <= _MOST_CLASSES):
        found = ", ".join(f"{number:g}" for number in sorted(numbers))
        raise RadiometryError(
            f"variable {array.name!r} holds only {found}: a mask or classes, which are no backscatter and must not change. Leave "
            "it out: of a Dataset, variables=[...] names those to compress"
        )


def _load(arrays: Iterable[Any]) -> list[NDArray]:
    """Values of arrays; Dask is imported only if one of them is a Dask array."""
    arrays = list(arrays)
    if any(hasattr(array, "__dask_graph__") for array in arrays):
        from xsarcomp.scenes.windows import compute_together

        return compute_together(arrays)
    return [np.asarray(array) for array in arrays]


def _scale(array: xr.DataArray, windows: list[NDArray], scale: str, nodata: float | None) -> tuple[str, str]:
    """Scale of an array, and the reason for it in words."""
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
    """Refuse power or amplitude that is mostly negative: it is decibels, and each value would be stored as an exception."""
    share = _negative_share(windows, scale, nodata)
    if share > 0.5:
        below = np.concatenate([values[values < 0] for values in windows])
        # decibels spread by several units; noise around zero does not
        looks_like_noise = float(np.median(np.abs(below))) < _SMALLEST_DECIBEL
        raise RadiometryError(
            f"{share:.0%} of the values of {array.name!r} are negative, which {scale} cannot be: they look like "
            + (
                "power from which noise was subtracted. Set negative values to NaN"
                if looks_like_noise
                else "decibels. Pass scale='decibel'"
            )
        )


def _negative_share(windows: list[NDArray], scale: str, nodata: float | None) -> float:
    """Share of negative values among the numbers in windows of power or amplitude; 0 for decibels."""
    if scale == "decibel":
        return 0.0
    numbers = negative = 0
    for values in windows:
        classes = classify(values, scale, nodata)
        is_exact = classes == EXACT
        numbers += int(np.count_nonzero((classes == VALID) | is_exact))
        # the class EXACT also holds negative zero and values beyond 500 dB, which are not negative
        with np.errstate(invalid="ignore"):
            negative += int(np.count_nonzero(is_exact & (values < 0)))
    return negative / numbers if numbers else 0.0


def infer_array_scale(array: xr.DataArray, nodata: float | None) -> str:
    """Infer the scale of an array from its attributes and a sample of its values.

    Parameters
    ----------
    array : xarray.DataArray
    nodata : float or None
        Declared fill value.

    Returns
    -------
    {"power", "amplitude", "decibel"}
    """
    return _scale(array, sample_windows(array, spatial_dimensions(array), _load), "auto", nodata)[0]
