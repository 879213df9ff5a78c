"""What each figure of `compare` means, where it comes from, and how far it may go.

Goals are those of a scene that is still fit for quantitative work. They are meant for about 1 bit per pixel; at low
rates no codec reaches them. Figures without a goal are there to be read together with the others.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of `xsarcomp.evaluation.compare.compare`."""

    title: str
    """Name in words."""
    group: str
    """Heading under which it stands."""
    definition: str
    """What is computed, in one or two sentences."""
    ideal: str
    """Value of a perfect copy."""
    unit: str = ""
    """Unit; empty for numbers without one."""
    source: str = ""
    """Paper or book."""
    lowest: float = -math.inf
    """Goal: not below it."""
    highest: float = math.inf
    """Goal: not above it."""

    @property
    def goal(self):
        """Goal in words; empty where there is none."""
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

    def is_met(self, value):
        """Tell whether a value meets the goal: bool, or None without a goal or for NaN."""
        if not self.goal or math.isnan(value):
            return None
        return self.lowest <= value <= self.highest


_ERRORS, _SPECKLE, _STRUCTURE = "Errors", "Speckle and texture", "Structure and targets"
_MAPS, _COUNTS = "Maps of water and change", "Pixels"
_RATIO = "original over restored power"

FIGURES = {
    "rmse_db": Figure(
        title="Root mean square error",
        group=_ERRORS,
        definition="Root of the mean squared difference in dB over all valid pixels.",
        unit="dB",
        ideal="0",
    ),
    "bias_db": Figure(
        title="Radiometric bias",
        group=_ERRORS,
        definition="Mean restored over mean original power, in dB: what calibrated work loses.",
        unit="dB",
        ideal="0",
        lowest=-0.02,
        highest=0.02,
    ),
    "window_bias_p95_db": Figure(
        title="Bias of windows, 95th percentile",
        group=_ERRORS,
        definition="Absolute bias of the mean power that 95 % of the windows of 25 x 25 pixels stay below.",
        unit="dB",
        ideal="0",
    ),
    "p99_error_db": Figure(
        title="99th percentile of the error",
        group=_ERRORS,
        definition="Absolute error that 99 % of the valid pixels stay below.",
        unit="dB",
        ideal="0",
    ),
    "max_error_db": Figure(
        title="Largest error",
        group=_ERRORS,
        definition="Largest absolute error of any valid pixel.",
        unit="dB",
        ideal="0",
    ),
    "psnr_db": Figure(
        title="Peak signal-to-noise ratio",
        group=_ERRORS,
        definition="20 log10 of 50 dB over the root mean square error. The range of 50 dB is fixed, not that of the scene.",
        unit="dB",
        ideal="infinite",
    ),
    "enl_ratio": Figure(
        title="Ratio of the number of looks",
        group=_SPECKLE,
        definition="Equivalent number of looks, restored over original: median over the most homogeneous windows of "
        "25 x 25 pixels, chosen on the original. Above 1 speckle was smoothed.",
        ideal="1",
        source="Oliver and Quegan (2004), chapter 4",
        lowest=0.95,
        highest=1.08,
    ),
    "semivariogram_ratio_1": Figure(
        title="Semivariogram ratio, 1 pixel",
        group=_SPECKLE,
        definition="Mean squared difference of neighbors in dB, restored over original. Below 1 texture was smoothed, "
        "above 1 noise was added.",
        ideal="1",
        source="Matheron (1963)",
    ),
    "semivariogram_ratio_8": Figure(
        title="Semivariogram ratio, 8 pixels",
        group=_SPECKLE,
        definition="The same for pixels that are 8 apart, beyond the reach of speckle.",
        ideal="1",
        source="Matheron (1963)",
    ),
    "ratio_mean": Figure(
        title="Ratio image, mean",
        group=_SPECKLE,
        definition=f"Mean of {_RATIO}.",
        ideal="1",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ratio_variance": Figure(
        title="Ratio image, variance",
        group=_SPECKLE,
        definition=f"Variance of {_RATIO}; 1 over the number of looks where all speckle was taken away.",
        ideal="0",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ratio_correlation_y": Figure(
        title="Ratio image, structure along y",
        group=_SPECKLE,
        definition=f"Correlation of neighbors of {_RATIO}, in dB. High where structure was taken away.",
        ideal="undefined",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ratio_correlation_x": Figure(
        title="Ratio image, structure along x",
        group=_SPECKLE,
        definition="The same along x.",
        ideal="undefined",
        source="Gomez, Ospina and Frery (2017)",
    ),
    "ks_distance": Figure(
        title="Kolmogorov-Smirnov distance",
        group=_SPECKLE,
        definition="Largest difference of the cumulative distributions of dB values.",
        ideal="0",
        source="Massey (1951)",
    ),
    "edge_preservation": Figure(
        title="Edge preservation",
        group=_STRUCTURE,
        definition="Pearson correlation of the gradient magnitudes in dB; 0 for independent speckle.",
        ideal="1",
        source="after Sattar et al. (1997)",
        lowest=0.92,
    ),
    "epd_roa_y": Figure(
        title="Edge preservation degree along y",
        group=_STRUCTURE,
        definition="Sum of the ratios of neighboring powers, restored over original (EPD-ROA). Below 1 edges and "
        "speckle were smoothed.",
        ideal="1",
        source="Feng, Hou and Gong (2011)",
    ),
    "epd_roa_x": Figure(
        title="Edge preservation degree along x",
        group=_STRUCTURE,
        definition="The same along x.",
        ideal="1",
        source="Feng, Hou and Gong (2011)",
    ),
    "ssim": Figure(
        title="Structural similarity (SSIM)",
        group=_STRUCTURE,
        definition="Mean over windows of 7 x 7 pixels in dB, over a fixed range of 50 dB.",
        ideal="1",
        source="Wang et al. (2004)",
    ),
    "ms_ssim": Figure(
        title="Structural similarity at five scales (MS-SSIM)",
        group=_STRUCTURE,
        definition="Product over five scales, Gaussian windows of 11 x 11 pixels in dB, over a fixed range of 50 dB. "
        "Undefined below 176 pixels a side.",
        ideal="1",
        source="Wang, Simoncelli and Bovik (2003)",
    ),
    "point_targets": Figure(
        title="Point targets",
        group=_STRUCTURE,
        definition="How many of the 25 brightest local maxima of each plane stand at least 10 dB above its median.",
        ideal="any",
    ),
    "point_target_error_db": Figure(
        title="Error of their peaks",
        group=_STRUCTURE,
        definition="Mean absolute difference of the peaks.",
        unit="dB",
        ideal="0",
        source="after Cumming and Wong (2005), section 2.8",
    ),
    "point_target_shift_pixels": Figure(
        title="Shift of their peaks",
        group=_STRUCTURE,
        definition="Mean distance from the peak to the brightest restored pixel within 3 pixels of it.",
        unit="pixels",
        ideal="0",
        source="after Cumming and Wong (2005), section 2.8",
    ),
    "water_fraction": Figure(
        title="Water",
        group=_MAPS,
        definition="Share of the original that is water: averaged over 3 x 3 pixels it is below -15 dB in VV and HH, -21.5 dB "
        "in VH and HV. Undefined where no name says a polarization.",
        ideal="any",
    ),
    "water_iou": Figure(
        title="Agreement of the water maps",
        group=_MAPS,
        definition="Intersection over union of the water of both scenes. Undefined where less than 1 % of the original is "
        "water.",
        ideal="1",
        source="Jaccard (1912)",
    ),
    "change_fraction": Figure(
        title="Change between dates",
        group=_MAPS,
        definition="Share of the original that changed by more than 3 dB from one date to the next, averaged over 5 x 5 "
        "pixels. Undefined without a dimension of time.",
        ideal="any",
        source="Rignot and van Zyl (1993)",
    ),
    "change_false_alarm_rate": Figure(
        title="Changes added",
        group=_MAPS,
        definition="Share of the unchanged pixels of the original that changed in the restored scene.",
        ideal="0",
        source="Rignot and van Zyl (1993)",
    ),
    "change_miss_rate": Figure(
        title="Changes lost",
        group=_MAPS,
        definition="Share of the changed pixels of the original that did not change in the restored scene.",
        ideal="0",
        source="Rignot and van Zyl (1993)",
    ),
    "valid_pixels": Figure(
        title="Valid pixels", group=_COUNTS, definition="Valid in both scenes; only these are measured.", ideal="any"
    ),
    "pixels": Figure(title="All pixels", group=_COUNTS, definition="Over all planes.", ideal="any"),
    "mask_mismatch_pixels": Figure(
        title="Mask differences",
        group=_COUNTS,
        definition="Pixels that are valid in one of the scenes only.",
        ideal="0",
        highest=0,
    ),
}
"""Every number that `compare` gives, in the order of the report."""
