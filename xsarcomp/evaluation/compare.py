"""Comparison of restored with original scenes: one flat dictionary of metrics.

Pieces of at most 3071 x 3071 pixels are read one after the other, so that memory is bounded for lazy arrays of any size.
:mod:`xsarcomp.evaluation.pooling` describes how planes are combined, :mod:`xsarcomp.evaluation.glossary` each metric and
its goal.
"""

from collections.abc import Set

import xarray as xr
from numpy.typing import ArrayLike

from xsarcomp.evaluation.comparison import Comparison
from xsarcomp.evaluation.map_sums import MapComparer, MapSums
from xsarcomp.evaluation.matching import array_pairs, scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums


def compare_arrays(
    original: ArrayLike, restored: ArrayLike, *, scale: str, nodata: float | None = None
) -> dict[str, float]:
    """Compare two arrays of backscatter.

    Parameters
    ----------
    original, restored : array_like of real numbers, shape (..., y, x)
        Backscatter of equal shape and scale; leading dimensions (time, polarization) are planes.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number of both. NaN, infinity and, in power and amplitude, everything <= 0 are
        always invalid.

    Returns
    -------
    dict of str to float or int
        Errors: ``rmse_db``, ``bias_db`` (of the mean power), ``max_error_db``, ``p99_error_db`` (to 0.1 %),
        ``psnr_db`` (over 50 dB; infinite for identical arrays), ``window_bias_p95_db`` (windows of 25 x 25 pixels).

        Speckle and texture: ``enl_ratio``, ``semivariogram_ratio_1`` and ``_8`` (pixels apart), ``ratio_mean``,
        ``ratio_variance``, ``ratio_correlation_y``, ``ratio_correlation_x`` (original over restored power),
        ``ks_distance``.

        Structure: ``edge_preservation``, ``epd_roa_y``, ``epd_roa_x``, ``ssim``, ``ms_ssim``; ``point_targets`` (how
        many of the 25 brightest of each plane stand out), ``point_target_error_db``, ``point_target_shift_pixels``.

        Counts: ``valid_pixels`` (valid in both), ``pixels``, ``mask_mismatch_pixels`` (valid in only one).

        Undefined metrics are NaN.

    Raises
    ------
    DimensionError
        If the shapes differ or have fewer than two dimensions.
    RadiometryError
        If ``scale`` is unknown or the values are not real numbers.
    """
    errors, texture = ErrorSums(), TextureSums()
    for pair in array_pairs(original, restored, scale=scale, nodata=nodata):
        for piece in pair.pieces():
            errors += ErrorSums.from_pair(piece)
            texture += TextureSums.from_pair(piece)
    return errors.metrics() | texture.metrics()


def compare_array_errors(
    original: ArrayLike, restored: ArrayLike, *, scale: str, nodata: float | None = None
) -> dict[str, float]:
    """Compare two arrays by the metrics that a benchmark repeats many times.

    Parameters and errors are those of :func:`compare_arrays`.

    Returns
    -------
    dict of str to float or int
        ``rmse_db``, ``bias_db``, ``max_error_db``, ``p99_error_db``, ``psnr_db``, ``enl_ratio``,
        ``edge_preservation``, ``valid_pixels``, ``pixels`` and ``mask_mismatch_pixels`` of :func:`compare_arrays`.
    """
    errors = ErrorSums()
    for pair in array_pairs(original, restored, scale=scale, nodata=nodata):
        for piece in pair.pieces():
            errors += ErrorSums.from_pair(piece)
    return errors.metrics()


def compare(
    original: xr.DataArray | xr.Dataset, restored: xr.DataArray | xr.Dataset, *, scale: str | None = None
) -> Comparison:
    """Compare two xarray objects.

    Variables are matched by name; if each side has only one, these two are compared, unless their polarizations differ.
    Bands of a raster are matched with variables by the polarization in their description. Variables of ``restored`` that
    ``original`` does not have are ignored, as are masks and scalar variables. Dimensions are matched by name. A declared
    nodata number (``_FillValue`` or ``nodata``) is invalid; if ``restored`` declares none, that of ``original`` counts for
    both.

    Parameters
    ----------
    original, restored : DataArray or Dataset
        Backscatter in the same scale, on the same grid, possibly lazy (loaded piece by piece).
    scale : {"power", "amplitude", "decibel"}, optional
        Scale of both; by default that of the codec or of the record of the loss, else inferred from ``original``, for each
        variable.

    Returns
    -------
    Comparison
        A dictionary of float, int or str, those with goals first: the metrics of :func:`compare_arrays`, over all variables
        together.

        Maps: ``water_fraction`` and ``water_iou`` of planes whose name contains their polarization;
        ``change_fraction``, ``change_false_alarm_rate`` and ``change_miss_rate`` between consecutive dates
        along a time dimension, see :mod:`xsarcomp.evaluation.map_sums`.

        And ``scale``: the scale that was used ("mixed" if it was inferred and differs between variables).

    Raises
    ------
    DimensionError
        If variables, polarizations, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scales differ, the scale is unknown or cannot be inferred, or the values are not real numbers.
    """
    errors, texture, maps = ErrorSums(), TextureSums(), MapSums()
    map_comparer = MapComparer()
    scales = set()
    for piece in scene_pieces(original, restored, scale=scale):
        errors += ErrorSums.from_pair(piece)
        texture += TextureSums.from_pair(piece)
        maps += map_comparer.compare(piece)
        scales.add(piece.scale)
    return all_metrics(errors, texture, maps, scale=common_scale(scales, requested=scale))


def all_metrics(errors: ErrorSums, texture: TextureSums, maps: MapSums, *, scale: str) -> Comparison:
    """Compute the metrics of sums, in the order of a comparison.

    Parameters
    ----------
    errors, texture, maps : sums
    scale : str
        Scale in which both scenes were given.

    Returns
    -------
    Comparison
    """
    return Comparison.ordered(errors.metrics() | texture.metrics() | maps.metrics() | {"scale": scale})


def common_scale(scales: Set[str], *, requested: str | None = None) -> str:
    """Name the scale of several planes.

    Parameters
    ----------
    scales : set of str
        Scales of the planes.
    requested : str, optional
        Scale that the caller gave for all of them.

    Returns
    -------
    str
        The requested scale, else the only one in ``scales``, else "mixed".
    """
    return requested or (next(iter(scales)) if len(scales) == 1 else "mixed")
