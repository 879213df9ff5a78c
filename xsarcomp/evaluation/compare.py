"""Compare restored with original scenes: one flat dictionary of figures.

Planes (y, x) are read one after the other, so that memory is bounded by a plane even for long stacks and lazy
arrays. Errors are pooled over all valid pixels of all planes; the ENL ratio is the median over planes and
edge preservation their mean, weighted with their valid pixels.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.evaluation import fidelity, speckle
from xsarcomp.radiometry import infer_scale
from xsarcomp.variables import backscatter_names

_SPATIAL_NAMES = (
    ("y", "x"),
    ("latitude", "longitude"),
    ("lat", "lon"),
    ("azimuth", "range"),
    ("line", "sample"),
    ("row", "column"),
)

# Percentiles are read from a histogram, because the errors of a long stack do not fit in memory. Its bins
# have a constant relative width of 0.1 %, from below the rounding of float32 to above any possible error.
_LOWEST_EXPONENT, _HIGHEST_EXPONENT, _BINS_PER_DECADE = -7, 4, 2500
_BINS = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) * _BINS_PER_DECADE


def compare_arrays(original, restored, *, scale, nodata=None):
    """Compare two arrays of backscatter.

    Parameters
    ----------
    original, restored : array_like of real numbers, shape (..., y, x)
        Backscatter of equal shape and scale; leading dimensions (time, polarization) are planes.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number of both. NaN, infinity and, in power and amplitude, everything <= 0 are
        invalid anyway.

    Returns
    -------
    dict of str to float or int
        ``rmse_db``, ``bias_db`` (of the mean power), ``max_error_db``, ``p99_error_db`` (to 0.1 %),
        ``psnr_db`` (over 50 dB; infinite for identical arrays), ``enl_ratio``, ``edge_preservation``,
        ``valid_pixels`` (valid in both), ``pixels``, ``mask_mismatch_pixels`` (valid in one only).
        Figures that cannot be told are NaN.

    Raises
    ------
    DimensionError
        If the shapes differ or have fewer than two dimensions.
    RadiometryError
        If `scale` is unknown or the values are not real numbers.
    """
    original, restored = np.asarray(original), np.asarray(restored)
    _check_shapes(original.shape, restored.shape)
    pool = _Pool()
    for index in np.ndindex(original.shape[:-2]):
        pool.add(
            fidelity.power_and_validity(original[index], scale=scale, nodata=nodata),
            fidelity.power_and_validity(restored[index], scale=scale, nodata=nodata),
        )
    return pool.summary()


def compare(original, restored, *, scale=None):
    """Compare two xarray objects.

    Variables are matched by name; where each side has only one, these two are compared. Variables of
    `restored` that `original` does not have are left out, as are masks and scalar variables. Dimensions are
    matched by name, and a declared nodata number (``_FillValue`` or ``nodata``) is heeded; where `restored`
    declares none, that of `original` counts for both.

    Parameters
    ----------
    original, restored : DataArray or Dataset
        Backscatter in the same scale, on the same grid, possibly lazy (loaded plane by plane).
    scale : {"power", "amplitude", "decibel"}, optional
        Scale of both; found out from `original`, for each variable, where it is not given.

    Returns
    -------
    dict of str to float, int or str
        The figures of `compare_arrays`, over all variables together, and ``scale``: the one that was used
        ("mixed" where it was found to differ between variables).

    Raises
    ------
    DimensionError
        If variables, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scale is unknown or cannot be found out, or the values are not real numbers.
    """
    pool, scales = _Pool(), set()
    for original_variable, restored_variable in _matched_variables(original, restored):
        original_nodata = _declared_nodata(original_variable)
        restored_nodata = _declared_nodata(restored_variable, default=original_nodata)
        found_scale = scale or _inferred_scale(original_variable, original_nodata)
        scales.add(found_scale)
        for original_plane, restored_plane in _planes(original_variable, restored_variable):
            pool.add(
                fidelity.power_and_validity(original_plane, scale=found_scale, nodata=original_nodata),
                fidelity.power_and_validity(restored_plane, scale=found_scale, nodata=restored_nodata),
            )
    return {**pool.summary(), "scale": scales.pop() if len(scales) == 1 else "mixed"}


@dataclass(slots=True)
class _Pool:
    """Sums over the planes seen so far."""

    pixels: int = 0
    valid_pixels: int = 0
    mask_mismatch_pixels: int = 0
    squared_error: float = 0.0
    largest_error: float = 0.0
    original_power: float = 0.0
    restored_power: float = 0.0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, dtype=np.int64))
    enl_ratios: list = field(default_factory=list)
    edges: list = field(default_factory=list)

    def add(self, original, restored):
        """Add one plane, each side given as power and validity of shape (y, x)."""
        (original_power, original_valid), (restored_power, restored_valid) = original, restored
        valid = original_valid & restored_valid
        count = int(np.count_nonzero(valid))
        self.pixels += valid.size
        self.mask_mismatch_pixels += int(np.count_nonzero(original_valid ^ restored_valid))
        if not count:
            return
        self.valid_pixels += count
        self.original_power += float(original_power[valid].sum())
        self.restored_power += float(restored_power[valid].sum())
        original_db = fidelity.decibel_from_power(original_power)
        restored_db = fidelity.decibel_from_power(restored_power)
        self._add_errors(np.abs(restored_db[valid] - original_db[valid]))
        self.enl_ratios.append(speckle.enl_ratio(original_power, restored_power, valid))
        self.edges.append((fidelity.edge_preservation(original_db, restored_db, valid), count))

    def _add_errors(self, errors):
        self.squared_error += float(np.sum(errors**2))
        self.largest_error = max(self.largest_error, float(errors.max()))
        exponents = np.log10(np.maximum(errors, 10.0**_LOWEST_EXPONENT))
        bins = ((exponents - _LOWEST_EXPONENT) * _BINS_PER_DECADE).astype(np.int64)
        self.histogram += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)

    def summary(self):
        """Return the figures as plain numbers."""
        rmse = math.sqrt(self.squared_error / self.valid_pixels) if self.valid_pixels else math.nan
        return {
            "rmse_db": rmse,
            "bias_db": self._bias_db(),
            "max_error_db": self.largest_error if self.valid_pixels else math.nan,
            "p99_error_db": self._percentile_error_db(0.99),
            "psnr_db": fidelity.psnr_from_rmse(rmse),
            "enl_ratio": _median(self.enl_ratios),
            "edge_preservation": _weighted_mean(self.edges),
            "valid_pixels": self.valid_pixels,
            "pixels": self.pixels,
            "mask_mismatch_pixels": self.mask_mismatch_pixels,
        }

    def _bias_db(self):
        if not self.valid_pixels:
            return math.nan
        return 10.0 * math.log10(self.restored_power / self.original_power)

    def _percentile_error_db(self, fraction):
        if not self.valid_pixels:
            return math.nan
        position = int(np.searchsorted(np.cumsum(self.histogram), fraction * self.valid_pixels))
        if position == 0:  # the lowest bin also holds the exact copies
            return min(self.largest_error, 10.0**_LOWEST_EXPONENT)
        center = 10.0 ** (_LOWEST_EXPONENT + (position + 0.5) / _BINS_PER_DECADE)
        return min(self.largest_error, center)


def _median(values):
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def _weighted_mean(values_and_weights):
    known = [(value, weight) for value, weight in values_and_weights if not math.isnan(value)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if known else math.nan


def _matched_variables(original, restored):
    """Pair the variables of both sides, restored in the dimension order of original, (y, x) last."""
    originals, restoreds = _backscatter_variables(original), _backscatter_variables(restored)
    if len(originals) == len(restoreds) == 1:
        pairs = [(*originals.values(), *restoreds.values())]
    else:
        missing = [str(name) for name in originals if name not in restoreds]
        if missing or not originals:
            raise DimensionError(
                f"found variables {[str(name) for name in restoreds]} in restored, expected "
                f"{[str(name) for name in originals]} as in original. Select or rename them before comparing."
            )
        pairs = [(variable, restoreds[name]) for name, variable in originals.items()]
    return [_aligned(*pair) for pair in pairs]


def _backscatter_variables(scene):
    if isinstance(scene, xr.DataArray):
        return {scene.name: scene}
    if not isinstance(scene, xr.Dataset):
        raise DimensionError(
            f"found {type(scene).__name__}, expected xarray DataArray or Dataset. Use compare_arrays for NumPy arrays."
        )
    try:  # not angles or noise
        names = set(backscatter_names(scene))
    except DimensionError:
        names = set(scene.data_vars)
    # bytes are masks and land cover classes, not backscatter
    return {
        name: variable
        for name, variable in scene.data_vars.items()
        if name in names and variable.ndim >= 2 and variable.dtype.kind in "fiu" and variable.dtype.itemsize > 1
    }


def _aligned(original, restored):
    if set(original.dims) != set(restored.dims):
        raise DimensionError(
            f"found dimensions {restored.dims} in restored, expected {original.dims} as in original. "
            "Rename or squeeze them before comparing."
        )
    spatial = next((pair for pair in _SPATIAL_NAMES if set(pair) <= set(original.dims)), original.dims[-2:])
    order = (*(name for name in original.dims if name not in spatial), *spatial)
    original, restored = original.transpose(*order), restored.transpose(*order)
    _check_shapes(original.shape, restored.shape)
    for name in order:
        _check_coordinate(name, original, restored)
    return original, restored


def _check_coordinate(name, original, restored):
    """Refuse a shifted, flipped or reordered axis: it would pass for a large error of the codec."""
    if name not in original.indexes or name not in restored.indexes:
        return
    first, second = original.indexes[name], restored.indexes[name]
    if first.equals(second):
        return
    if first.dtype.kind == second.dtype.kind == "f":
        spacing = float(np.min(np.abs(np.diff(first)))) if len(first) > 1 else 1.0
        if np.max(np.abs(first.to_numpy() - second.to_numpy())) < 0.01 * spacing:
            return
    raise DimensionError(
        f"found other coordinates of {name!r} in restored than in original, expected the same grid in the "
        "same order. Align both before comparing, for example with restored.reindex_like(original)."
    )


def _check_shapes(original_shape, restored_shape):
    if original_shape != restored_shape or len(original_shape) < 2:
        raise DimensionError(
            f"found shapes {original_shape} (original) and {restored_shape} (restored), expected two equal "
            "shapes (..., y, x). Compare the same window of both scenes."
        )


def _declared_nodata(variable, default=None):
    declared = [variable.attrs.get("_FillValue"), variable.attrs.get("nodata")]
    # with packing, the encoded fill value is a packed integer that means nothing among decoded values
    if not {"scale_factor", "add_offset"} & set(variable.encoding):
        declared.append(variable.encoding.get("_FillValue"))
    return next((float(number) for number in declared if number is not None), default)


def _planes(original, restored):
    """Load plane after plane of both, as pairs of arrays of shape (y, x)."""
    # both sides in one computation: a lazy restored scene often depends on the original
    both = xr.Dataset({"original": original.variable, "restored": restored.variable})
    leading = original.dims[:-2]
    for index in np.ndindex(original.shape[:-2]):
        plane = both.isel(dict(zip(leading, index, strict=True))).compute()
        yield plane["original"].to_numpy(), plane["restored"].to_numpy()


def _inferred_scale(variable, nodata):
    """Ask the radiometry for the scale, with the first plane that holds any number as a sample."""
    if 0 in variable.shape:
        raise RadiometryError(
            f"found no pixels in {variable.name!r}, expected some to infer the scale. Pass scale=... instead."
        )
    for sample, _ in _planes(variable, variable):
        if np.isfinite(sample).any():
            break
    name = None if variable.name is None else str(variable.name)
    return infer_scale(sample, name=name, attributes=variable.attrs, nodata=nodata).scale
