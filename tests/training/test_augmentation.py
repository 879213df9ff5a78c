"""Augmentations against the physics they claim: group laws, levels, and log-gamma moments from SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma, polygamma

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.augmentation import (
    AugmentationConfig,
    apply_gain,
    apply_speckle,
    augment,
    flip,
    transpose,
)

DECIBEL_PER_NEPER = 10 / np.log(10)


@pytest.fixture
def patch():
    return np.random.default_rng(1).normal(-12, 4, (24, 24)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(True, False), (False, True), (True, True)])
def test_flipping_twice_gives_the_patch_back(patch, rows, columns):
    flipped = flip(patch, rows=rows, columns=columns)
    assert not np.array_equal(flipped, patch)
    np.testing.assert_array_equal(flip(flipped, rows=rows, columns=columns), patch)


def test_flips_and_transposes_make_the_rotations_by_90_degrees(patch):
    np.testing.assert_array_equal(flip(transpose(patch), rows=True), np.rot90(patch))


def test_gain_multiplies_power(patch):
    power = 10 ** (patch.astype(float) / 10)
    louder = 10 ** (apply_gain(patch, 3.0).astype(float) / 10)
    np.testing.assert_allclose(louder / power, 10**0.3, rtol=1e-4)


@pytest.mark.parametrize("looks", [1.0, 4.4, 30.0])
def test_speckle_has_the_log_gamma_moments(looks):
    count = 400_000
    flat = np.full((count // 500, 500), -12.0, np.float32)
    speckle = apply_speckle(flat, looks, np.random.default_rng(7)).astype(float) + 12
    deviation = DECIBEL_PER_NEPER * np.sqrt(polygamma(1, looks))
    assert speckle.mean() == pytest.approx(
        DECIBEL_PER_NEPER * (digamma(looks) - np.log(looks)), abs=5 * deviation / np.sqrt(count)
    )
    assert speckle.std() == pytest.approx(deviation, rel=0.01)
    skewness = ((speckle - speckle.mean()) ** 3).mean() / speckle.std() ** 3
    assert skewness == pytest.approx(polygamma(2, looks) / polygamma(1, looks) ** 1.5, abs=0.05)


@pytest.mark.parametrize("looks", [1.0, 4.4])
def test_speckle_keeps_the_mean_power_and_has_its_number_of_looks(looks):
    power = 10 ** (apply_speckle(np.zeros((600, 600), np.float32), looks, np.random.default_rng(3)) / 10)
    assert power.mean() == pytest.approx(1, abs=0.01)
    assert power.mean() ** 2 / power.var() == pytest.approx(looks, rel=0.02)


def test_speckle_is_multiplicative_so_its_size_in_decibel_ignores_the_level():
    dark = apply_speckle(np.full((64, 64), -30, np.float32), 4, np.random.default_rng(5)) + 30
    bright = apply_speckle(np.full((64, 64), 10, np.float32), 4, np.random.default_rng(5)) - 10
    np.testing.assert_allclose(dark, bright, atol=1e-4)


def test_speckle_of_far_less_than_one_look_stays_finite():
    speckled = apply_speckle(np.zeros((200, 200), np.float32), 0.001, np.random.default_rng(0))
    assert np.isfinite(speckled).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_without_gain_and_speckle_the_values_are_only_moved(seed):
    ramp = np.arange(36, dtype=np.float32).reshape(6, 6)
    moved = augment(ramp, AugmentationConfig(), np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(moved, axis=None), ramp.ravel())


def test_all_eight_orientations_occur(patch):
    generator = np.random.default_rng(0)
    seen = {augment(patch, AugmentationConfig(), generator).tobytes() for _ in range(200)}
    assert len(seen) == 8


def test_without_transposes_rows_stay_rows():
    rows = np.repeat(np.arange(6, dtype=np.float32)[:, None], 6, axis=1)
    generator = np.random.default_rng(0)
    for _ in range(50):
        moved = augment(rows, AugmentationConfig(transposes=False), generator)
        assert (moved == moved[:, :1]).all()


def test_random_gain_is_one_number_a_patch_within_its_limit(patch):
    config = AugmentationConfig(flips=False, transposes=False, gain_db=2.0)
    generator = np.random.default_rng(0)
    gains = np.array([augment(patch, config, generator) - patch for _ in range(300)])
    assert gains.std(axis=(1, 2)).max() < 1e-5
    assert np.abs(gains).max() <= 2.00001
    assert gains.min() < -1.8
    assert gains.max() > 1.8


def test_the_patch_that_came_in_is_not_changed(patch):
    before = patch.copy()
    augment(patch, AugmentationConfig(gain_db=3, speckle_looks=4), np.random.default_rng(2))
    np.testing.assert_array_equal(patch, before)


@pytest.mark.parametrize("wrong", [{"gain_db": -1}, {"gain_db": np.inf}, {"speckle_looks": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="expected"):
        AugmentationConfig(**wrong)
