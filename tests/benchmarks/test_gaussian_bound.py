"""The Gaussian bound against cases with a known answer."""

import numpy as np
import pytest
from scipy import fft, ndimage

from xsarcomp.benchmarks.gaussian_bound import BLOCK, coefficient_variances, gaussian_sweep
from xsarcomp.benchmarks.measurement import pooled_curve
from xsarcomp.benchmarks.planes import Scene
from xsarcomp.metrics.rate_distortion import RatePoint, rmse_at_rates

RATES = (0.25, 0.5, 1.0, 2.0)


def bound_at(planes, rates=RATES):
    return rmse_at_rates(pooled_curve(gaussian_sweep([Scene(name="one", planes=planes)]), [0]), rates)


def noise(shape, sigma_db=2.0, seed=1):
    return np.random.default_rng(seed).normal(-12.0, sigma_db, shape).astype(np.float32)


def test_white_noise_needs_a_bit_for_each_half_of_its_error():
    # rate distortion function of a Gaussian: D = sigma^2 2^(-2 R)
    expected = 2.0 * 0.5 ** np.array(RATES)
    found = bound_at([noise((512, 512))])
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert (found < expected).all()  # the fit to the plane itself, as the docstring says
    assert (found > 0.985 * expected).all()


def test_correlated_noise_follows_reverse_water_filling_of_its_spectrum():
    plane = ndimage.gaussian_filter(noise((768, 768), seed=2).astype(float), 0.7, mode="wrap")
    kernel = np.zeros((768, 768))
    kernel[0, 0] = 2.0
    spectrum = np.abs(fft.fft2(ndimage.gaussian_filter(kernel, 0.7, mode="wrap"))) ** 2
    levels = np.geomspace(1e-4, spectrum.max(), 200)
    oracle = [
        RatePoint(
            setting=level,
            bits_per_pixel=float(np.mean(0.5 * np.log2(np.maximum(spectrum / level, 1)))),
            rmse_db=float(np.sqrt(np.mean(np.minimum(spectrum, level)))),
        )
        for level in levels
    ]
    # blocks of 32 lose a little at their borders
    np.testing.assert_allclose(bound_at([plane.astype(np.float32)]), rmse_at_rates(oracle, RATES), rtol=0.04)


def test_bits_go_where_the_variance_is():
    quiet, loud = noise((256, 1024), 0.5, seed=3), noise((256, 1024), 4.0, seed=4)
    found = bound_at([np.hstack([quiet, loud])], (0.5, 1.0))
    # while the level is above the quiet half, all bits go to the loud one
    for rate, error in zip((0.5, 1.0), found, strict=True):
        expected = np.sqrt((0.5**2 + (4.0 * 0.5 ** (2 * rate)) ** 2) / 2)
        assert error == pytest.approx(expected, rel=0.05)  # the blocks at the border see both


def test_planes_share_one_water_level():
    planes = [noise((256, 256), 0.5, seed=5), noise((256, 256), 4.0, seed=6)]
    (error,) = bound_at(planes, (0.5,))
    assert error == pytest.approx(np.sqrt((0.5**2 + (4.0 * 0.5) ** 2) / 2), rel=0.05)


def test_gaps_cost_nothing_and_change_nothing_around_them():
    plane = noise((256, 256), seed=7)
    gap = np.vstack([plane, np.full((128, 256), np.nan, np.float32)])
    one, other = (pooled_curve(gaussian_sweep([Scene(name="one", planes=[p])]), [0]) for p in (plane, gap))
    for whole, part in zip(one, other, strict=True):
        assert part.rmse_db == pytest.approx(whole.rmse_db, rel=1e-3)
        assert part.bits_per_pixel == pytest.approx(whole.bits_per_pixel * 2 / 3, rel=0.01, abs=1e-3)


def test_variances_hold_all_the_energy_and_planes_may_have_any_size():
    plane = noise((100, 70), seed=8)
    variances, shares = coefficient_variances(plane)
    assert variances.shape == (4, 3, BLOCK, BLOCK)
    assert (variances >= 0).all()
    assert shares.sum() * BLOCK**2 == pytest.approx(plane.size)
    assert variances.mean() == pytest.approx(4.0, rel=0.1)
    assert coefficient_variances(noise((5, 9)))[0].shape == (1, 1, BLOCK, BLOCK)
