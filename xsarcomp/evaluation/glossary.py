"""Meaning of each metric of a comparison: definition, source, value of a perfect copy, goal.

The goals describe a scene that is still fit for quantitative work. They are meant for about 1 bit per pixel; at low rates no
codec reaches them. Metrics without a goal are there to be read together with the others.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Explanation of one metric of :func:`xsarcomp.evaluation.compare.compare`."""

    title: str
    """Name in words."""
    group: str
    """Heading of its part of the table."""
    definition: str
    """Definition in one or two sentences."""
    ideal: str
    """Value of a perfect copy."""
    unit: str = ""
    """Unit; empty for numbers without one."""
    source: str = ""
    """Paper or book; empty for common metrics."""
    lowest: float = -math.inf
    """Lowest value that meets the goal."""
    highest: float = math.inf
    """Highest value that meets the goal."""

    @property
    def goal(self) -> str:
        """Goal in words; empty without a goal."""
        unit = f" {self.unit}" if self.unit else ""
        if math.isinf(self.lowest) and math.isinf(self.highest):
            return ""
        if math.isinf(self.highest):
            return f"at least {self.lowest:g}{unit}"
        if math.isinf(self.lowest):
            return f"at most {self.highest:g}{unit}"
        if self.lowest == -self.highest:
            return f"within ±{self.highest:g}{unit}"
        return f"{self.lowest:g} to {self.highest:g}{unit}"

    def is_met(self, value: float) -> bool | None:
        """Compare a value with the goal.

        Parameters
        ----------
        value : float
            Value of the metric, in ``unit``.

        Returns
        -------
        bool or None
            None without a goal or for NaN.
        """
        if not self.goal or math.isnan(value):
            return None
        return self.lowest <= value <= self.highest


_ERRORS, _SPECKLE, _STRUCTURE = "Errors", "Speckle and texture", "Structure and targets"
_MAPS, _COUNTS = "Maps of water and change", "Pixels"

METRICS = {
    "rmse_db": Metric(
        title="Root mean square error (RMSE)",
        group=_ERRORS,
        definition="Square root of the mean squared difference in dB, over all valid pixels.",
        unit="dB",
        ideal="0",
    ),
    "bias_db": Metric(
        title="Radiometric bias",
        group=_ERRORS,
        definition="Mean restored power over mean original power, in dB: the error of averages of calibrated backscatter.",
        unit="dB",
        ideal="0",
        lowest=-0.02,
        highest=0.02,
    ),
    "window_bias_p95_db": Metric(
        title="Window bias, 95th percentile",
        group=_ERRORS,
        definition="Absolute bias of the mean power of windows of 25 x 25 pixels; 95% of the windows have a smaller one.",
        unit="dB",
        ideal="0",
    ),
    "p99_error_db": Metric(
        title="Error, 99th percentile",
        group=_ERRORS,
        definition="Absolute error of pixels; 99% of the valid pixels have a smaller one.",
        unit="dB",
        ideal="0",
    ),
    "max_error_db": Metric(
        title="Largest error",
        group=_ERRORS,
        definition="Largest absolute error of all valid pixels.",
        unit="dB",
        ideal="0",
    ),
    "psnr_db": Metric(
        title="Peak signal-to-noise ratio (PSNR)",
        group=_ERRORS,
        definition="20 log10 (50 dB / RMSE). The range of 50 dB is fixed; it does not depend on the scene.",
        unit="dB",
        ideal="infinite",
    ),
    "enl_ratio": Metric(
        title="ENL ratio",
        group=_SPECKLE,
        definition="Equivalent number of looks (ENL), restored over original: median over the most homogeneous windows of "
        "25 x 25 pixels, which are chosen on the original. Above 1, speckle was smoothed.",
        ideal="1",
        source="Oliver and Quegan (2004), chapter 4",
        lowest=0.95,
        highest=1.08,
    ),
    "semivariogram_ratio_1": Metric(
        title="Semivariogram ratio, 1 pixel",
        group=_SPECKLE,
        definition="Mean squared difference of neighboring pixels in dB, restored over original. Below 1, texture was "
        "smoothed; above 1, noise was added.",
        ideal="1",
        source="Matheron (1963)",
    ),
    "semivariogram_ratio_8": Metric(
        title="Semivariogram ratio, 8 pixels",
        group=_SPECKLE,
        definition="Mean squared difference of pixels 8 apart in dB, restored over original. Speckle is not correlated over "
        "this distance.",
        ideal="1",
        source="Matheron (1963)",
    ),
    "ratio_mean": Metric(
        title="Ratio image, mean",
        group=_SPECKLE,
        definition="Mean of the ratio image, which is original power over restored power.",
        ideal="1",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ratio_variance": Metric(
        title="Ratio image, variance",
        group=_SPECKLE,
        definition="Variance of the ratio image. It is 1 over the number of looks if all speckle was removed.",
        ideal="0",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ratio_correlation_y": Metric(
        title="Ratio image, correlation along y",
        group=_SPECKLE,
        definition="Correlation of vertically neighboring pixels of the ratio image in dB. A high value means that structure "
        "was removed.",
        ideal="undefined",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ratio_correlation_x": Metric(
        title="Ratio image, correlation along x",
        group=_SPECKLE,
        definition="Correlation of horizontally neighboring pixels of the ratio image in dB.",
        ideal="undefined",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ks_distance": Metric(
        title="Kolmogorov-Smirnov distance",
        group=_SPECKLE,
        definition="Largest difference between the cumulative distributions of both scenes in dB, from 0 to 1.",
        ideal="0",
        source="Massey (1951)",
    ),
    "edge_preservation": Metric(
        title="Edge preservation",
        group=_STRUCTURE,
        definition="Pearson correlation of the gradient magnitudes of both scenes in dB. It is 0 for independent speckle.",
        ideal="1",
        source="after Sattar et al. (1997)",
        lowest=0.92,
    ),
    "epd_roa_y": Metric(
        title="Edge preservation degree (EPD-ROA) along y",
        group=_STRUCTURE,
        definition="Sum of the power ratios of vertically neighboring pixels, restored over original. Below 1, edges and "
        "speckle were smoothed.",
        ideal="1",
        source="Feng, Hou and Gong (2011)",
    ),
    "epd_roa_x": Metric(
        title="Edge preservation degree (EPD-ROA) along x",
        group=_STRUCTURE,
        definition="Sum of the power ratios of horizontally neighboring pixels, restored over original.",
        ideal="1",
        source="Feng, Hou and Gong (2011)",
    ),
    "ssim": Metric(
        title="Structural similarity (SSIM)",
        group=_STRUCTURE,
        definition="Mean over windows of 7 x 7 pixels in dB, for a fixed range of 50 dB.",
        ideal="1",
        source="Wang et al. (2004)",
    ),
    "ms_ssim": Metric(
        title="Multiscale structural similarity (MS-SSIM)",
        group=_STRUCTURE,
        definition="Product over five scales, in Gaussian windows of 11 x 11 pixels in dB, for a fixed range of 50 dB. "
        "Undefined for planes with fewer than 176 rows or columns.",
        ideal="1",
        source="Wang, Simoncelli and Bovik (2003)",
    ),
    "point_targets": Metric(
        title="Point targets",
        group=_STRUCTURE,
        definition="Number of point targets: those of the 25 brightest local maxima of each plane that are at least 10 dB "
        "above its median.",
        ideal="any",
    ),
    "point_target_error_db": Metric(
        title="Point targets, peak error",
        group=_STRUCTURE,
        definition="Mean absolute difference between the original and the restored peak.",
        unit="dB",
        ideal="0",
        source="after Cumming and Wong (2005), section 2.8",
    ),
    "point_target_shift_pixels": Metric(
        title="Point targets, peak shift",
        group=_STRUCTURE,
        definition="Mean distance from the original peak to the brightest restored pixel within 3 pixels along y and x.",
        unit="pixels",
        ideal="0",
        source="after Cumming and Wong (2005), section 2.8",
    ),
    "water_fraction": Metric(
        title="Water fraction",
        group=_MAPS,
        definition="Share of the original that is mapped as water: power averaged over 3 x 3 pixels is below -15 dB in VV and "
        "HH, or -21.5 dB in VH and HV. Undefined if no variable or band name contains a polarization.",
        ideal="any",
    ),
    "water_iou": Metric(
        title="Water maps, intersection over union",
        group=_MAPS,
        definition="Pixels that are water in both scenes, over pixels that are water in at least one. Undefined if less than "
        "1% of the original is water.",
        ideal="1",
        source="Jaccard (1912)",
    ),
    "change_fraction": Metric(
        title="Change fraction",
        group=_MAPS,
        definition="Share of the original that changes by more than 3 dB from one date to the next, in power averaged over "
        "5 x 5 pixels. Undefined without a time dimension.",
        ideal="any",
        source="Rignot and van Zyl (1993)",
    ),
    "change_false_alarm_rate": Metric(
        title="False changes",
        group=_MAPS,
        definition="Share of the unchanged pixels of the original that change in the restored scene.",
        ideal="0",
        source="Rignot and van Zyl (1993)",
    ),
    "change_miss_rate": Metric(
        title="Missed changes",
        group=_MAPS,
        definition="Share of the changed pixels of the original that do not change in the restored scene.",
        ideal="0",
        source="Rignot and van Zyl (1993)",
    ),
    "valid_pixels": Metric(
        title="Valid pixels",
        group=_COUNTS,
        definition="Pixels that are valid in both scenes. Only these are measured.",
        ideal="any",
    ),
    "pixels": Metric(title="All pixels", group=_COUNTS, definition="Pixels of all planes, valid or not.", ideal="any"),
    "mask_mismatch_pixels": Metric(
        title="Mask differences",
        group=_COUNTS,
        definition="Pixels that are valid in only one of the scenes.",
        ideal="0",
        highest=0,
    ),
}
"""Every number that :func:`~xsarcomp.evaluation.compare.compare` returns, in the order of the report."""
