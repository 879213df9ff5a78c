"""A look at a sample of a variable before it is encoded: its scale, its nodata, and whether it may be encoded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.rate_control import FIRST_STEP_DB, Sample, Target
from xsarcomp.codec.settings import Settings
from xsarcomp.errors import AlreadyLossyError, RadiometryError
from xsarcomp.latents.metadata import LOSS_ATTRIBUTE
from xsarcomp.radiometry.pixel_classes import EXACT, VALID, classify
from xsarcomp.radiometry.scales import check_dtype, check_scale, infer_scale
from xsarcomp.scenes.sampling import sample_windows, sampled_planes
from xsarcomp.scenes.variables import declared_nodata, plane_polarizations, spatial_dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A sample of a variable, and what it says about the whole."""

    settings: Settings
    """Scale, nodata and guarantees of the variable; the step is only a first guess."""
    scale_reason: str
    """How the scale was inferred."""
    windows: list[NDArray]
    """Pieces of the variable, each of shape (plane, y, x)."""
    planes: list[int]
    """Number of the plane that each window is from."""
    polarizations: list[str | None]
    """Polarization of each plane of the variable."""

    @property
    def samples(self) -> list[Sample]:
        """The windows as samples on which steps are tried."""
        return [Sample(backscatter=values, settings=self.settings) for values in self.windows]


def look_at(array: xr.DataArray, target: Target, *, scale: str, recompress: bool, limit: int) -> Look:
    """Check a variable and sample it.

    Parameters
    ----------
    array : xarray.DataArray
        Backscatter with a vertical and a horizontal dimension.
    target : Target
        Its guarantees become part of the settings.
    scale : {"power", "amplitude", "decibel", "auto"}
    recompress : bool
        Whether data that was compressed with loss before is accepted.
    limit : int
        Largest number of pixels of the sample.

    Returns
    -------
    Look

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
    return Look(
        settings=Settings(step_db=FIRST_STEP_DB, scale=known_scale, nodata=nodata, guarantees=guarantees),
        scale_reason=reason,
        windows=windows,
        planes=sampled_planes(array, spatial, limit),
        polarizations=plane_polarizations(array),
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
