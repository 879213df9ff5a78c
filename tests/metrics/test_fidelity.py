"""Fidelity measures against closed forms and independent computations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.metrics import fidelity
from xsarcomp.scenes.simulation import simulate_speckle

TWO_PLANE_MEASURES = (
    fidelity.rmse_db,
    fidelity.max_error_db,
    fidelity.percentile_error_db,
    fidelity.peak_signal_to_noise_ratio,
    fidelity.edge_preservation,
    fidelity.structural_similarity,
)


def speckle_db(seed, shape=(128, 160)):
    return 10 * np.log10(simulate_speckle(shape, rng=np.random.default_rng(seed)))


def everywhere(plane):
    return np.ones(plane.shape, dtype=bool)


def test_identical_planes_have_no_error_and_full_similarity():
    plane = speckle_db(1)
    valid = everywhere(plane)
    assert fidelity.rmse_db(plane, plane, valid) == 0
    assert fidelity.max_error_db(plane, plane, valid) == 0
    assert fidelity.percentile_error_db(plane, plane, valid) == 0
    assert fidelity.radiometric_bias_db(10**plane, 10**plane, valid) == 0
    assert fidelity.peak_signal_to_noise_ratio(plane, plane, valid) == math.inf
    assert fidelity.edge_preservation(plane, plane, valid) == pytest.approx(1)
    assert fidelity.structural_similarity(plane, plane, valid) == pytest.approx(1)


def test_errors_of_known_size_are_measured():
    original = np.zeros((10, 10))
    restored = original.copy()
    restored[0, :4] = [1, -2, 3, -4]
    valid = everywhere(original)
    assert fidelity.rmse_db(original, restored, valid) == pytest.approx(math.sqrt(30 / 100))
    assert fidelity.max_error_db(original, restored, valid) == 4
    assert fidelity.percentile_error_db(original, restored, valid, 100) == 4
    assert fidelity.percentile_error_db(original, restored, valid, 90) == 0


def test_an_error_of_half_a_decibel_is_40_decibels_below_a_range_of_50():
    original = np.zeros((8, 8))
    psnr = fidelity.peak_signal_to_noise_ratio(original, original + 0.5, everywhere(original), 50.0)
    assert psnr == pytest.approx(40)


@given(st.floats(-20, 20))
def test_a_gain_is_the_bias_in_decibel(gain_db):
    power = np.random.default_rng(0).gamma(4.4, 0.02, size=(12, 9))
    bias = fidelity.radiometric_bias_db(power, power * 10 ** (gain_db / 10), everywhere(power))
    assert bias == pytest.approx(gain_db, abs=1e-9)


def test_bias_is_of_the_mean_power_and_not_of_the_mean_decibel():
    power = np.array([[1.0, 3.0]])
    swapped_mean = np.array([[2.0, 2.0]])
    assert fidelity.radiometric_bias_db(power, swapped_mean, everywhere(power)) == pytest.approx(0)


def test_two_independent_speckle_fields_have_no_edge_preservation():
    first, second = speckle_db(1, (512, 512)), speckle_db(2, (512, 512))
    # about 2e5 correlated samples: the standard deviation of a zero correlation is below 0.01
    assert abs(fidelity.edge_preservation(first, second, everywhere(first))) < 0.03


def test_edge_preservation_falls_with_added_noise_and_ignores_gain_and_offset():
    original, noise = speckle_db(1), speckle_db(2)
    valid = everywhere(original)
    scores = [fidelity.edge_preservation(original, original + part * noise, valid) for part in (0, 0.3, 1)]
    assert scores[0] > scores[1] > scores[2] > 0
    assert fidelity.edge_preservation(original, 0.5 * original - 7, valid) == pytest.approx(1)


def test_edge_preservation_agrees_with_gradients_computed_by_hand():
    rng = np.random.default_rng(3)
    original, restored = rng.normal(size=(2, 6, 7))

    def magnitudes(plane):
        smooth, slope = np.array([1, 2, 1]), np.array([-1, 0, 1])
        patches = np.lib.stride_tricks.sliding_window_view(plane, (3, 3))
        along_y = np.einsum("yxab,a,b->yx", patches, slope, smooth)
        along_x = np.einsum("yxab,a,b->yx", patches, smooth, slope)
        return np.sqrt(along_y**2 + along_x**2).ravel()

    expected = np.corrcoef(magnitudes(original), magnitudes(restored))[0, 1]
    measured = fidelity.edge_preservation(original, restored, everywhere(original))
    assert measured == pytest.approx(expected)


def test_edge_preservation_is_undefined_without_variation():
    flat = np.zeros((9, 9))
    ramp = np.arange(81.0).reshape(9, 9) / 10
    assert math.isnan(fidelity.edge_preservation(flat, flat, everywhere(flat)))
    assert math.isnan(fidelity.edge_preservation(ramp, ramp, everywhere(ramp)))


def test_smoothing_lowers_structural_similarity():
    original = speckle_db(4)
    smoothed = np.full_like(original, original.mean())
    assert fidelity.structural_similarity(original, smoothed, everywhere(original)) < 0.8


@pytest.mark.parametrize("measure", TWO_PLANE_MEASURES)
def test_values_under_invalid_pixels_do_not_matter(measure):
    original, restored = speckle_db(1), speckle_db(2)
    valid = everywhere(original)
    valid[20:50, 30:40] = False
    valid[:, :5] = False
    expected = measure(original, restored, valid)
    original[~valid], restored[~valid] = np.nan, 1e6
    assert measure(original, restored, valid) == expected


@pytest.mark.parametrize("measure", [*TWO_PLANE_MEASURES, fidelity.radiometric_bias_db])
def test_no_valid_pixel_gives_nan(measure):
    plane = np.full((9, 9), np.nan)
    assert math.isnan(measure(plane, plane, np.isfinite(plane)))


@pytest.mark.parametrize("measure", [*TWO_PLANE_MEASURES, fidelity.radiometric_bias_db])
def test_shapes_that_differ_are_refused(measure):
    with pytest.raises(DimensionError, match="expected three equal ones"):
        measure(np.ones((9, 9)), np.ones((9, 8)), np.ones((9, 9), dtype=bool))


def test_scales_describe_the_same_power():
    decibel = np.array([[-20.0, 0.0, 10.0]])
    expected = np.array([[0.01, 1.0, 10.0]])
    for scale, values in (("decibel", decibel), ("power", expected), ("amplitude", np.sqrt(expected))):
        power, valid = fidelity.power_and_validity(values, scale=scale)
        np.testing.assert_allclose(power, expected)
        assert valid.all()
    np.testing.assert_allclose(fidelity.decibel_from_power(expected), decibel, atol=1e-12)


def test_invalid_pixels_are_found_in_every_scale():
    values = np.array([np.nan, np.inf, -np.inf, -9999.0, 0.0, -1.0, 2.0], dtype=np.float32)
    for scale in ("power", "amplitude"):
        power, valid = fidelity.power_and_validity(values, scale=scale, nodata=-9999)
        assert valid.tolist() == [False] * 6 + [True]
        assert (power > 0).all()
    _, valid = fidelity.power_and_validity(values, scale="decibel", nodata=-9999)
    assert valid.tolist() == [False] * 4 + [True] * 3


def test_a_nodata_number_is_recognized_after_rounding_to_the_stored_type():
    values = np.array([-3.4e38, 1.0], dtype=np.float32)
    _, valid = fidelity.power_and_validity(values, scale="decibel", nodata=-3.4e38)
    assert valid.tolist() == [False, True]
    _, valid = fidelity.power_and_validity(np.array([0, 7], dtype=np.uint16), scale="decibel", nodata=0.0)
    assert valid.tolist() == [False, True]


def test_unknown_scales_and_complex_values_are_refused():
    with pytest.raises(RadiometryError, match="found scale 'db'"):
        fidelity.power_and_validity(np.ones(2), scale="db")
    with pytest.raises(RadiometryError, match="complex"):
        fidelity.power_and_validity(np.ones(2, dtype=complex), scale="power")
