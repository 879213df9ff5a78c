"""Picture of rate-distortion curves: what is drawn, not how it looks."""

import numpy as np
import pytest

from xsarcomp.benchmarks.pictures import rate_distortion_figure
from xsarcomp.metrics.rate_distortion import RatePoint

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib", reason="figures are optional: pip install matplotlib")


def test_rate_distortion_curves_are_drawn_by_ascending_rate(tmp_path):
    points = [
        RatePoint(setting=0.0, bits_per_pixel=rate, rmse_db=error)
        for rate, error in ((1.0, 0.7), (0.25, 1.5), (2.0, 0.4))
    ]
    figure = rate_distortion_figure({"codec": points, "other": points[:2]})
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0.25, 1, 2])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.5, 0.7, 0.4])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["codec", "other"]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    figure.savefig(tmp_path / "curves.png")
    assert not rate_distortion_figure({}).axes[0].lines


def test_bounds_are_dashed_and_only_the_rates_of_interest_are_drawn():
    points = [RatePoint(setting=0.0, bits_per_pixel=rate, rmse_db=1 / rate) for rate in (0.001, 0.1, 1.0, 3.0, 20.0)]
    (axes,) = rate_distortion_figure({"codec": points}, {"bound": points}, rates=(0.1, 4.0)).axes
    codec, bound = axes.lines
    np.testing.assert_array_equal(codec.get_xdata(), [0.1, 1, 3])
    assert (codec.get_linestyle(), bound.get_linestyle()) == ("-", "--")
    assert bound.get_label() == "bound"


def test_a_second_panel_shows_the_errors_over_those_of_the_reference():
    rates = (0.1, 0.5, 1.0, 3.0)
    curves = {
        name: [RatePoint(setting=0.0, bits_per_pixel=rate, rmse_db=factor / rate) for rate in rates]
        for name, factor in (("codec", 1.2), ("reference", 1.0))
    }
    bound = [RatePoint(setting=0.0, bits_per_pixel=rate, rmse_db=0.9 / rate) for rate in (0.07, 0.3, 2.0)]
    _, below = rate_distortion_figure(curves, {"bound": bound}, reference="reference").axes
    for line, expected in zip(below.lines, (1.2, 1.0, 0.9), strict=True):
        ratios = line.get_ydata()[np.isfinite(line.get_ydata())]
        np.testing.assert_allclose(ratios, expected)
        assert len(ratios) == (2 if expected == 0.9 else 4)  # nothing where the reference was not measured
    assert "reference" in below.get_ylabel()
