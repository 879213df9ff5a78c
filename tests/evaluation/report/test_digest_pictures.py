"""Figures of a digest: what is drawn, not how it looks."""

import numpy as np
import pytest

from xsarcomp.evaluation.report import digest_pictures
from xsarcomp.evaluation.report.digest import digest_arrays
from xsarcomp.scenes.simulation import simulate_scene

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib", reason="figures are optional: pip install matplotlib")

FIGURES = (
    digest_pictures.quicklook_figure,
    digest_pictures.histogram_figure,
    digest_pictures.map_figure,
    digest_pictures.worst_tiles_figure,
)


def brightened(shape=(150, 180), gain_db=0.5):
    scene = simulate_scene(shape, seed=1)[0]
    return digest_arrays(scene, scene * 10 ** (gain_db / 10), scale="power")


def images(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


def test_quicklooks_share_their_stretch_and_show_the_difference():
    original, restored, difference = images(digest_pictures.quicklook_figure(brightened()))
    assert original.get_clim() == restored.get_clim()
    low, high = difference.get_clim()
    assert low == -high
    np.testing.assert_allclose(difference.get_array().compressed(), 0.5, atol=1e-4)
    assert np.ma.getmaskarray(original.get_array()).any()


def test_histograms_are_densities():
    values, errors = digest_pictures.histogram_figure(brightened()).axes
    for patch in (*values.patches, *errors.patches):
        density, edges, _ = patch.get_data()
        assert np.sum(density * np.diff(edges)) == pytest.approx(1)
    assert [text.get_text() for text in values.get_legend().get_texts()] == ["original", "restored"]
    assert errors.get_yscale() == "log"


def test_errors_that_are_all_the_same_have_a_histogram_too(tmp_path):
    plane = np.full((30, 30), 0.1)
    figure = digest_pictures.histogram_figure(digest_arrays(plane, plane * 1.01, scale="power"))
    figure.savefig(tmp_path / "figure.png", dpi=40)
    low, high = figure.axes[1].get_ylim()
    assert 0 < low < high


def test_small_ratios_have_ticks_that_differ():
    plane = np.full((30, 30), 0.1)
    figure = digest_pictures.map_figure(digest_arrays(plane, plane * 1.0001, scale="power"))
    (bar,) = [axes for axes in figure.axes if axes.get_ylabel() == "ratio"]
    labels = [text.get_text() for text in bar.get_yticklabels()]
    assert len(set(labels)) == 5


def test_maps_of_looks_share_their_colours_beside_ratio_and_error():
    original, restored, ratio, error = images(digest_pictures.map_figure(brightened()))
    assert original.get_clim() == restored.get_clim()
    np.testing.assert_allclose(original.get_array().compressed(), restored.get_array().compressed(), rtol=1e-5)
    np.testing.assert_allclose(error.get_array().compressed(), 0.5, atol=1e-4)
    assert error.get_clim()[0] == 0
    np.testing.assert_allclose(ratio.get_array().compressed(), 10**-0.05, rtol=1e-4)
    assert np.prod(ratio.get_clim()) == pytest.approx(1)


def test_each_worst_tile_has_a_column_with_its_place_and_error():
    digest = brightened()
    figure = digest_pictures.worst_tiles_figure(digest)
    assert len(images(figure)) == 3 * len(digest.worst_tiles) == 12
    tile = digest.worst_tiles[0]
    assert figure.axes[0].get_title() == f"row {tile.row}, column {tile.column}: 0.5 dB"
    assert figure.axes[4].get_ylabel() == "restored"


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (700, 3)])
def test_planes_of_any_shape_and_copies_can_be_drawn(draw, shape, tmp_path):
    plane = np.random.default_rng(1).gamma(4, 0.1, shape)
    draw(digest_arrays(plane, plane, scale="power")).savefig(tmp_path / "figure.png", dpi=40)


@pytest.mark.parametrize("draw", FIGURES)
def test_planes_without_a_valid_pixel_can_be_drawn(draw, tmp_path):
    empty = np.full((40, 60), np.nan)
    draw(digest_arrays(empty, empty, scale="decibel")).savefig(tmp_path / "figure.png", dpi=40)
