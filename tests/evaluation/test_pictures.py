"""Pictures of scenes: what is drawn, not how it looks."""

import sys

import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import DimensionError, MissingDependencyError
from xsarcomp.evaluation import pictures
from xsarcomp.scenes.simulation import simulate_scene, simulated_dataset

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib", reason="figures are optional: pip install matplotlib")


def panels(figure):
    """The axes that show an image, row by row, without color bars."""
    return [axes for axes in figure.axes if axes.images]


@pytest.fixture(scope="module")
def scene():
    return simulate_scene((60, 70), seed=1)


def test_each_polarization_has_a_row_with_original_restored_and_difference(scene):
    figure = pictures.comparison_figure(scene, scene * 10**0.05, "power")
    drawn = panels(figure)
    assert len(drawn) == 6
    for row in (drawn[:3], drawn[3:]):
        original, restored, difference = (axes.images[0] for axes in row)
        assert original.get_clim() == restored.get_clim()
        low, high = difference.get_clim()
        assert low == -high
        np.testing.assert_allclose(difference.get_array().compressed(), 0.5, atol=1e-5)


def test_values_are_drawn_in_decibel_whatever_the_scale(scene):
    drawn = [
        panels(pictures.comparison_figure(values, values, scale))[0].images[0].get_array()
        for scale, values in (
            ("power", scene),
            ("amplitude", np.sqrt(scene)),
            ("decibel", 10 * np.log10(scene)),
        )
    ]
    for other in drawn[1:]:
        np.testing.assert_allclose(other.filled(0), drawn[0].filled(0), atol=1e-4)


def test_invalid_pixels_are_gaps():
    plane = np.full((20, 20), -12.0)
    plane[0], plane[1] = np.nan, -9999
    drawn = panels(pictures.comparison_figure(plane, plane, "decibel", nodata=-9999))
    assert drawn[0].images[0].get_array().mask.sum() == 40


def test_datasets_and_data_arrays_name_their_rows():
    dataset = simulated_dataset((40, 50), 1)
    stack = dataset.to_dataarray("polarization")
    for original in (dataset, stack):
        titles = [axes.get_title() for axes in panels(pictures.comparison_figure(original, original, "power"))]
        assert titles[0] == "vv: original"
        assert titles[5] == "vh: restored - original"
    single = pictures.comparison_figure(dataset.vh, dataset.vh, "power")
    assert panels(single)[0].get_title() == "vh: original"


def test_large_scenes_are_thinned_out():
    plane = np.ones((3300, 10))
    drawn = panels(pictures.comparison_figure(plane, plane, "power"))[0].images[0].get_array()
    assert drawn.shape == (1100, 4)


def test_scenes_without_a_valid_pixel_can_be_drawn(tmp_path):
    empty = np.full((20, 20), np.nan)
    pictures.save_comparison(tmp_path / "empty.png", empty, empty, "decibel")


def test_a_comparison_is_saved_without_a_display(tmp_path, scene):
    target = tmp_path / "comparison.png"
    pictures.save_comparison(target, scene, scene, "power", dots_per_inch=40)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_global_state_of_matplotlib_is_left_alone(tmp_path, scene):
    plt = pytest.importorskip("matplotlib.pyplot")
    pictures.save_comparison(tmp_path / "comparison.png", scene, scene, "power", dots_per_inch=40)
    assert plt.get_fignums() == []


def test_scenes_that_do_not_fit_are_refused(scene):
    with pytest.raises(DimensionError, match="same window"):
        pictures.comparison_figure(scene, scene[:, :50], "power")
    with pytest.raises(DimensionError, match="Select the same"):
        pictures.comparison_figure(scene, scene[0], "power")
    with pytest.raises(DimensionError, match="one date"):
        pictures.comparison_figure(scene[None], scene[None], "power")
    with pytest.raises(DimensionError, match="no variable"):
        pictures.comparison_figure(xr.Dataset(), xr.Dataset(), "power")


def test_missing_matplotlib_is_reported_with_the_command(monkeypatch, scene):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "xsarcomp\[plot\]"'):
        pictures.comparison_figure(scene, scene, "power")
