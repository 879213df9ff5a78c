"""Compare restored with original scenes: one flat dictionary of figures.

Pieces of at most 3071 x 3071 pixels are read one after the other, so that memory is bounded even for lazy arrays of any
size. `xsarcomp.evaluation.pooling` says how planes are put together, `xsarcomp.evaluation.glossary` what each figure
means and how far it may go.
"""

from xsarcomp.evaluation.map_sums import Mapper, MapSums
from xsarcomp.evaluation.matching import array_pairs, scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums


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
        Errors: ``rmse_db``, ``bias_db`` (of the mean power), ``max_error_db``, ``p99_error_db`` (to 0.1 %),
        ``psnr_db`` (over 50 dB; infinite for identical arrays), ``window_bias_p95_db`` (windows of 25 x 25 pixels).

        Speckle and texture: ``enl_ratio``, ``semivariogram_ratio_1`` and ``_8`` (pixels apart), ``ratio_mean``,
        ``ratio_variance``, ``ratio_correlation_y``, ``ratio_correlation_x`` (original over restored power),
        ``ks_distance``.

        Structure: ``edge_preservation``, ``epd_roa_y``, ``epd_roa_x``, ``ssim``, ``ms_ssim``; ``point_targets`` (how
        many of the 25 brightest of each plane stand out), ``point_target_error_db``, ``point_target_shift_pixels``.

        Counts: ``valid_pixels`` (valid in both), ``pixels``, ``mask_mismatch_pixels`` (valid in one only).

        Figures that cannot be told are NaN.

    Raises
    ------
    DimensionError
        If the shapes differ or have fewer than two dimensions.
    RadiometryError
        If `scale` is unknown or the values are not real numbers.
    """
    errors, texture = ErrorSums(), TextureSums()
    for pair in array_pairs(original, restored, scale=scale, nodata=nodata):
        for piece in pair.pieces():
            errors, texture = errors + ErrorSums.of(piece), texture + TextureSums.of(piece)
    return errors.figures() | texture.figures()


def compare_array_errors(original, restored, *, scale, nodata=None):
    """Compare two arrays by the figures that a benchmark repeats many times.

    Parameters and errors are those of `compare_arrays`.

    Returns
    -------
    dict of str to float or int
        ``rmse_db``, ``bias_db``, ``max_error_db``, ``p99_error_db``, ``psnr_db``, ``enl_ratio``,
        ``edge_preservation``, ``valid_pixels``, ``pixels`` and ``mask_mismatch_pixels`` of `compare_arrays`.
    """
    errors = ErrorSums()
    for pair in array_pairs(original, restored, scale=scale, nodata=nodata):
        errors = sum(map(ErrorSums.of, pair.pieces()), errors)
    return errors.figures()


def compare(original, restored, *, scale=None):
    """Compare two xarray objects.

    Variables are matched by name; where each side has only one, these two are compared. Variables of
    `restored` that `original` does not have are left out, as are masks and scalar variables. Dimensions are
    matched by name, and a declared nodata number (``_FillValue`` or ``nodata``) is heeded; where `restored`
    declares none, that of `original` counts for both.

    Parameters
    ----------
    original, restored : DataArray or Dataset
        Backscatter in the same scale, on the same grid, possibly lazy (loaded piece by piece).
    scale : {"power", "amplitude", "decibel"}, optional
        Scale of both; found out from `original`, for each variable, where it is not given.

    Returns
    -------
    dict of str to float, int or str
        The figures of `compare_arrays`, over all variables together.

        Maps: ``water_fraction`` and ``water_iou`` of planes whose name says their polarization;
        ``change_fraction``, ``change_false_alarm_rate`` and ``change_miss_rate`` between dates that follow each other
        along a dimension of time, see `xsarcomp.evaluation.map_sums`.

        And ``scale``: the one that was used ("mixed" where it was found to differ between variables).

    Raises
    ------
    DimensionError
        If variables, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scale is unknown or cannot be found out, or the values are not real numbers.
    """
    errors, texture, maps, scales = ErrorSums(), TextureSums(), MapSums(), set()
    mapper = Mapper()
    for piece in scene_pieces(original, restored, scale=scale):
        errors, texture, maps = errors + ErrorSums.of(piece), texture + TextureSums.of(piece), maps + mapper.of(piece)
        scales.add(piece.scale)
    return errors.figures() | texture.figures() | maps.figures() | {"scale": one_scale(scales, asked=scale)}


def one_scale(scales, *, asked=None):
    """Name the scale of several planes: the one that was asked for, the only one found, or "mixed"."""
    return asked or (next(iter(scales)) if len(scales) == 1 else "mixed")
