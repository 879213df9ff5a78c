"""The simulated scene against the published statistics of IW GRD High."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.metrics.speckle import equivalent_number_of_looks, neighbor_correlation
from xsarcomp.scenes import simulation

DECIBEL_PER_NEPER = 10 / np.log(10)


@pytest.fixture(scope="module")
def speckle():
    return simulation.simulate_speckle((768, 768), rng=np.random.default_rng(5))


@pytest.fixture(scope="module")
def scene():
    return simulation.simulate_scene((512, 512), seed=5)


def test_speckle_has_unit_mean_and_the_looks_of_the_product(speckle):
    assert speckle.mean() == pytest.approx(1, abs=0.01)
    assert equivalent_number_of_looks(speckle) == pytest.approx(4.4, rel=0.03)


def test_looks_measured_in_small_windows_are_near_those_of_the_product(speckle):
    blocks = speckle[:750, :750].reshape(30, 25, 30, 25).swapaxes(1, 2).reshape(-1, 625)
    assert 4.2 < np.median([equivalent_number_of_looks(block) for block in blocks]) < 4.8


def test_neighbors_are_correlated_in_decibel_as_in_real_scenes(speckle):
    decibel = 10 * np.log10(speckle)
    valid = np.ones(speckle.shape, dtype=bool)
    along_y = neighbor_correlation(decibel, valid, axis=0)
    along_x = neighbor_correlation(decibel, valid, axis=1)
    assert 0.57 < along_x < along_y < 0.70  # the resolution along the track is the coarser one
    assert neighbor_correlation(decibel[::6], valid[::6], axis=0) == pytest.approx(0, abs=0.03)


def test_decibel_statistics_are_near_those_of_gamma_speckle(speckle):
    decibel = 10 * np.log10(speckle)
    # weighted looks are nearly, not exactly, gamma distributed
    assert decibel.std() == pytest.approx(DECIBEL_PER_NEPER * np.sqrt(polygamma(1, 4.4)), rel=0.04)
    assert decibel.mean() == pytest.approx(DECIBEL_PER_NEPER * (digamma(4.4) - np.log(4.4)), abs=0.05)


@pytest.mark.parametrize("looks", [1.5, 3.0, 10.2])
def test_other_numbers_of_looks_can_be_had(looks):
    speckle = simulation.simulate_speckle((512, 512), rng=np.random.default_rng(1), looks=looks)
    assert equivalent_number_of_looks(speckle) == pytest.approx(looks, rel=0.04)


def test_opposite_edges_are_independent():
    speckle = simulation.simulate_speckle((2000, 40), rng=np.random.default_rng(2))
    assert abs(np.corrcoef(speckle[:, 0], speckle[:, -1])[0, 1]) < 0.1


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(scene):
    np.testing.assert_array_equal(simulation.simulate_scene((512, 512), seed=5), scene)
    assert not np.array_equal(simulation.simulate_scene((512, 512), seed=6), scene, equal_nan=True)


def test_the_border_leaves_the_landscape_alone(scene):
    whole = simulation.simulate_scene((512, 512), seed=5, nodata_border=False)
    inside = np.isfinite(scene)
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(whole[inside], scene[inside])


def test_values_are_those_of_a_land_scene(scene):
    assert scene.dtype == np.float32
    assert scene.shape == (2, 512, 512)
    assert np.nanmin(scene) > 0
    vv, vh = 10 * np.log10(scene)
    assert -13 < np.nanmedian(vv) < -9
    assert 6 < np.nanmedian(vv - vh) < 8.5
    assert -26 < np.nanpercentile(vv, 1) < -20  # water
    assert 5 < np.nanmax(vv) < 20  # point targets


def test_scene_over_landscape_is_speckle_independent_between_polarizations():
    scene = simulation.simulate_scene((160, 160), seed=5, nodata_border=False)
    landscape = simulation.simulate_scene((160, 160), seed=5, nodata_border=False, looks=1000)
    vv, vh = (scene / landscape).reshape(2, -1)
    # about 8000 independent samples each
    assert equivalent_number_of_looks(vv) == pytest.approx(4.4, rel=0.1)
    assert equivalent_number_of_looks(vh) == pytest.approx(4.4, rel=0.1)
    assert abs(np.corrcoef(vv, vh)[0, 1]) < 0.05


def test_the_border_is_one_slanted_piece(scene):
    invalid = ~np.isfinite(scene[0])
    np.testing.assert_array_equal(invalid, simulation.slanted_border((512, 512)))
    np.testing.assert_array_equal(invalid, ~np.isfinite(scene[1]))
    assert 0.05 < invalid.mean() < 0.2
    assert invalid[-1].sum() > invalid[256].sum() > 0
    assert not invalid[-1, -1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (8, 8), (33, 100)])
def test_small_scenes_can_be_simulated(shape):
    scene = simulation.simulate_scene(shape, seed=0, nodata_border=False)
    assert scene.shape == (2, *shape)
    assert (scene > 0).all()


def test_the_dataset_looks_like_a_product():
    scene = simulation.simulated_dataset((60, 80), 5)
    np.testing.assert_array_equal(scene.to_dataarray("polarization"), simulation.simulate_scene((60, 80), seed=5))
    assert list(scene.data_vars) == ["vv", "vh"]
    assert scene.vv.dims == ("y", "x")
    assert scene.rio.crs.to_epsg() == 32632
    assert scene.rio.resolution() == (10, -10)
    assert scene.vh.attrs["units"] == "1"
    assert scene.vh.attrs["long_name"] == "sigma nought"


def test_the_scales_of_the_dataset_agree():
    power, amplitude, decibel = (
        simulation.simulated_dataset((40, 50), 5, scale=scale) for scale in ("power", "amplitude", "decibel")
    )
    np.testing.assert_allclose(amplitude.vv**2, power.vv, rtol=1e-6)
    np.testing.assert_allclose(10 ** (decibel.vh / 10), power.vh, rtol=1e-5)
    assert decibel.vv.attrs["units"] == "dB"
    assert amplitude.vv.attrs["scale"] == "amplitude"
    assert {each.vv.dtype for each in (power, amplitude, decibel)} == {np.dtype("float32")}


def test_impossible_scenes_are_refused():
    with pytest.raises(DimensionError, match="expected"):
        simulation.simulate_scene((0, 5), seed=0)
    with pytest.raises(DimensionError, match="expected"):
        simulation.simulate_scene((5,), seed=0)
    with pytest.raises(RadiometryError, match="above 1"):
        simulation.simulate_scene((5, 5), seed=0, looks=1.0)
    with pytest.raises(RadiometryError, match="found scale"):
        simulation.simulated_dataset((5, 5), 0, scale="db")
