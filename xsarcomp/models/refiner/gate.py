"""Measurements of coders on whole planes: mean corrections, texture gains, and the gate that compares two coders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_coding import estimate_bits
from xsarcomp.codec.lapped import BLOCK, OVERLAP
from xsarcomp.codec.window import decode_planes, encode_planes
from xsarcomp.metrics.rate_distortion import RatePoint, bd_rate, rmse_at_rates
from xsarcomp.radiometry.filling import round_to_signal_steps
from xsarcomp.training.planes import Plane

GATE_STEPS_DB = (0.7, 1.2, 2.0, 3.4, 5.6, 9.6, 14.0)
"""Quantization steps in dB of the curves."""
GATE_RATES = (0.25, 0.5, 1.0, 2.0)
"""Bits per pixel at which errors are reported."""
CORRECTION_PLANES = 24
"""About the number of planes, of those given, that corrections and gains are measured on."""
TEXTURE_BUDGET = 0.003
"""Share of the squared error that the texture gain may add: about 0.2 % of the bits."""


def _round_trip(coder: LappedCoder, plane: Plane, step_db: float) -> tuple[float, NDArray[np.float64]]:
    """Measure the ideal code length in bits, and the error in dB at valid pixels, without the mean correction."""
    signal = plane.decibel[None].astype(np.float64) - coder.card.offset_db
    symbols = encode_planes(round_to_signal_steps(signal), coder, step_db)
    bits = estimate_bits(symbols, coder.tables, coder.anchor(step_db))
    restored = decode_planes(symbols, plane.decibel.shape, coder, step_db)[0]
    return bits, (restored - signal[0])[plane.valid]


def mean_corrections(coder: LappedCoder, planes: Sequence[Plane]) -> tuple[float, ...]:
    """Measure the decibels to add at each anchor so that decoding keeps the mean power of the training planes.

    Decoding to the mean in dB lowers the mean of the power. The correction is the median over planes of the ratio of
    the mean powers; it is measured, because the errors are not quite Gaussian.

    Parameters
    ----------
    coder : LappedCoder
    planes : sequence of Plane
        Training split.

    Returns
    -------
    tuple of float
        dB, one for each anchor.
    """
    chosen = planes[:: max(1, len(planes) // CORRECTION_PLANES)]
    corrections = []
    for step_db in coder.card.anchor_steps_db:
        ratios = []
        for plane in chosen:
            _, error = _round_trip(coder, plane, step_db)
            power = 10 ** (plane.decibel[plane.valid].astype(np.float64) / 10)
            ratios.append(10 * np.log10(power.sum() / (power * 10 ** (error / 10)).sum()))
        corrections.append(round(float(np.median(ratios)), 5))
    return tuple(corrections)


def texture_gains(coder: LappedCoder, planes: Sequence[Plane]) -> tuple[float, ...]:
    """Measure the factors of the latents at each anchor that restore variance for little error.

    Decoding to the mean lowers the variance of speckle, so the number of looks rises. The squared error is flat around
    its minimum over a factor: the result is the largest factor that raises it by at most ``TEXTURE_BUDGET``.

    Parameters
    ----------
    coder : LappedCoder
    planes : sequence of Plane
        Training split.

    Returns
    -------
    tuple of float
        One for each anchor.
    """
    chosen = planes[:: max(1, len(planes) // CORRECTION_PLANES)]
    return tuple(round(_texture_gain(coder, chosen, step_db), 5) for step_db in coder.card.anchor_steps_db)


def _texture_gain(coder: LappedCoder, planes: Sequence[Plane], step_db: float) -> float:
    """Measure the texture gain at one step; 1 where all restored latents are zero."""
    product = energy = squared = 0.0
    for plane in planes:
        height, width = (size // BLOCK * BLOCK for size in plane.decibel.shape)
        signal = round_to_signal_steps(plane.decibel[None, :height, :width].astype(np.float64) - coder.card.offset_db)
        points = coder.points(encode_planes(signal, coder, step_db), step_db)
        restored = coder.restore(points, step_db).astype(np.float64)
        latents = coder.analyze(np.pad(signal, ((0, 0), (OVERLAP, OVERLAP), (OVERLAP, OVERLAP)), mode="symmetric"))
        border = coder.latent_reach - 1
        latents = latents[:, :, border : latents.shape[2] - border, border : latents.shape[3] - border]
        product += float((latents[:, 1:] * restored[:, 1:]).sum())
        energy += float((restored[:, 1:] ** 2).sum())
        squared += float(((latents - restored) ** 2).sum())
    if energy == 0:
        return 1.0
    # squared error over the factor: squared + energy * ((factor - best)^2 - (1 - best)^2)
    best = product / energy
    return best + float(np.sqrt((1 - best) ** 2 + TEXTURE_BUDGET * squared / energy))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """Rate and RMSE of coders on the same scenes."""

    points: Mapping[str, Sequence[RatePoint]]
    """Model name to the points of its curve; the setting is the step in dB."""
    planes: int
    """Number of measured planes."""

    def to_json(self, name: str) -> dict[str, Any]:
        """Entry ``validation`` of a model's JSON file: errors of its coder, and its rates relative to the other coders.

        Parameters
        ----------
        name : str
            Name of the model.

        Returns
        -------
        dict
            JSON values.
        """
        return {
            "planes": self.planes,
            "rmse_db_at_bits_per_pixel": dict(
                zip(
                    map(str, GATE_RATES),
                    np.round(rmse_at_rates(self.points[name], GATE_RATES), 4).tolist(),
                    strict=True,
                )
            ),
            "bd_rate_percent_against": {
                other: round(bd_rate(self.points[name], points), 2)
                for other, points in self.points.items()
                if other != name
            },
        }

    def lines(self) -> list[str]:
        """Lines to print, one for each coder."""
        return [f"{name} on {self.planes} validation planes: {self.to_json(name)}" for name in self.points]


def gate(coders: Mapping[str, LappedCoder], planes: Sequence[Plane]) -> GateReport:
    """Measure coders on whole planes at ``GATE_STEPS_DB``; rates are ideal code lengths over all pixels.

    Parameters
    ----------
    coders : mapping of str to LappedCoder
    planes : sequence of Plane
        Validation or test planes.

    Returns
    -------
    GateReport
    """
    curves = {}
    pixels = sum(plane.decibel.size for plane in planes)
    valid = sum(int(plane.valid.sum()) for plane in planes)
    for name, coder in coders.items():
        curve = []
        for step_db in GATE_STEPS_DB:
            trips = [_round_trip(coder, plane, step_db) for plane in planes]
            squared = sum(float((error**2).sum()) for _, error in trips)
            rate = sum(bits for bits, _ in trips) / pixels
            rmse_db = float(np.sqrt(squared / valid))
            curve.append(RatePoint(setting=step_db, bits_per_pixel=rate, rmse_db=rmse_db))
        curves[name] = curve
    return GateReport(points=curves, planes=len(planes))
