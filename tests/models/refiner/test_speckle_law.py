"""The fit of the constants of restored speckle: it finds what was put in."""

import numpy as np
import pytest

from xsarcomp.codec.installed_models import load_coder
from xsarcomp.models.refiner.speckle_law import missing_shares, share_for_looks, usual_calm_variances
from xsarcomp.scenes.simulation import simulate_speckle
from xsarcomp.training.planes import Plane


@pytest.fixture(scope="module")
def coder():
    return load_coder("s1-grd-10m-lapped")


@pytest.fixture(scope="module")
def planes():
    """Two planes of speckle alone."""
    made = []
    for seed in (1, 2):
        decibel = (10 * np.log10(simulate_speckle((256, 264), rng=np.random.default_rng(seed))) - 12).astype(np.float32)
        made.append(Plane(f"speckle {seed}", "vv", decibel, np.ones(decibel.shape, bool)))
    return made


def test_calm_variances_add_up_to_that_of_speckle(coder, planes):
    usual = usual_calm_variances(coder, planes)
    np.testing.assert_array_equal(usual, usual.T)
    lowest_db2 = np.mean([plane.decibel.reshape(32, 8, 33, 8).mean(axis=(1, 3)).var() for plane in planes])
    total_db2 = np.mean([plane.decibel.var() for plane in planes])
    assert usual.sum() / 64 == pytest.approx(total_db2 - lowest_db2, rel=0.1)


def test_missing_shares_are_near_those_of_even_quantisation_and_absent_without_channels(coder, planes):
    shares = missing_shares(coder, planes, 1.0)
    assert np.isnan(shares[0, 0])  # at this step each channel with so much variance has a trellis
    known = shares[np.isfinite(shares)]
    assert ((known > 0.04) & (known < 0.14)).all()


def test_more_looks_need_less_noise(coder, planes):
    fewer, more = (share_for_looks(coder, planes, 8.0, target) for target in (0.9, 1.2))
    assert 0 < more < fewer < 2
