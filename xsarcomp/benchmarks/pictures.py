"""Picture of rate-distortion curves, for the benchmark.

Matplotlib is optional and imported when a figure is drawn.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xsarcomp.evaluation.pictures import new_figure
from xsarcomp.metrics.rate_distortion import RatePoint, rmse_at_rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RATIO_LIMITS = (0.8, 1.4)
"""Lower and upper end of the axis of the second panel."""


def rate_distortion_figure(
    curves: Mapping[str, Sequence[RatePoint]],
    bounds: Mapping[str, Sequence[RatePoint]] | None = None,
    *,
    reference: str | None = None,
    rates: tuple[float, float] = (0.05, 4.0),
) -> "Figure":
    """Draw rate-distortion curves with logarithmic axes.

    Parameters
    ----------
    curves : mapping of str to sequence of RatePoint
        Curve of each codec, by name.
    bounds : mapping of str to sequence of RatePoint, optional
        Theoretical bounds, by name: drawn dashed and without markers.
    reference : str, optional
        Codec among `curves`. A second panel shows the error of each curve over that of this codec at the same rate,
        where good codecs can be distinguished.
    rates : tuple of two float
        Lowest and highest bits per pixel that are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        RMSE in dB against bits per pixel.

    Raises
    ------
    RateError
        If the reference has too few points to interpolate.
    MissingDependencyError
        If Matplotlib is not installed.
    """
    figure = new_figure((7.0, 5.0) if reference is None else (7.0, 9.0))
    axes, *ratio_panels = figure.subplots(1 if reference is None else 2, sharex=True, squeeze=False)[:, 0]
    solid, dashed = {"marker": "."}, {"linestyle": "--", "color": "black"}
    groups: tuple[tuple[Mapping[str, Sequence[RatePoint]], dict[str, Any]], ...]
    groups = ((curves, solid), (bounds or {}, dashed))
    for group, style in groups:
        for name, points in group.items():
            ordered = sorted((point.bits_per_pixel, point.rmse_db) for point in points)
            drawn = np.array([pair for pair in ordered if rates[0] <= pair[0] <= rates[1]]).reshape(-1, 2)
            axes.plot(*drawn.T, label=name, **style)
            if reference is not None:
                ratios = drawn[:, 1] / rmse_at_rates(curves[reference], drawn[:, 0].tolist())
                ratio_panels[0].plot(drawn[:, 0], ratios, **style)
    axes.set(xscale="log", yscale="log", ylabel="RMSE [dB]")
    axes.yaxis.set_major_formatter("{x:g}")
    for panel in ratio_panels:
        panel.set(ylim=_RATIO_LIMITS, ylabel=f"RMSE over that of {reference}")
    figure.axes[-1].set_xlabel("bits per pixel and polarization")
    for panel in figure.axes:
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(visible=True, which="both", alpha=0.3)
    if curves or bounds:
        axes.legend()
    return figure
