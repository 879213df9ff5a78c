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
from xsarcomp.latents.metadata import LOSS_ATTRIBUTE, LOSS_SETTINGS
from xsarcomp.radiometry.pixel_classes import EXACT, VALID, classify
from xsarcomp.radiometry.scales import check_dtype, check_scale, infer_scale
from xsarcomp.scenes.sampling import sample_windows, sampled_planes
from xsarcomp.scenes.variables import declared_nodata, plane_polarizations, spatial_dimensions


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

    @property
    def samples(self) -> list[Sample]:
        """Windows as samples on which steps are tried."""
        return [Sample(backscatter=values, settings=self.settings) for values in self.windows]

    @property
    def negative_share(self) -> float:
        """Share of negative values among the numbers of the sample, where the scale has none; else 0."""
        return _negative_share(self.windows, self.settings.scale, self.settings.nodata)


def inspect_variable(array: xr.DataArray, target: Target, *, scale: str, recompress: bool, limit: int) -> Inspection:
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
    known_scale, reason = _scale(array, windows, scale, nodata)
    guarantees = target.guarantees(array.dtype, nodata, known_scale)
    return Inspection(
        settings=Settings(step_db=FIRST_STEP_DB, scale=known_scale, nodata=nodata, guarantees=guarantees),
        scale_reason=reason,
        windows=windows,
        planes=sampled_planes(array, spatial, limit),
        polarizations=plane_polarizations(array),
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
        raise RadiometryError(
            f"{share:.0%} of the values of {array.name!r} are negative, which {scale} cannot be: they look like decibels. Pass "
            "scale='decibel'"
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
