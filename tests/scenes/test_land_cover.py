"""The noise-free landscape under a simulated scene."""

import numpy as np
import pytest

from xsarcomp.scenes import land_cover


@pytest.fixture(scope="module")
def landscape():
    return land_cover.simulate_landscape((400, 500), rng=np.random.default_rng(0))


def test_every_land_cover_occurs(landscape):
    _, cover = landscape
    shares = np.bincount(cover.ravel(), minlength=4) / cover.size
    assert (shares > 0.01).all()
    assert shares[land_cover.FIELD] > 0.3


def test_each_land_cover_has_its_level_and_polarization_ratio(landscape):
    (vv, vh), cover = landscape
    levels = {land_cover.WATER: -22, land_cover.FIELD: -11.5, land_cover.FOREST: -9, land_cover.TOWN: -5.5}
    for kind, level_db in levels.items():
        assert np.median(vv[cover == kind]) == pytest.approx(level_db, abs=1)
        assert 5.5 < np.median((vv - vh)[cover == kind]) < 8.5


def test_parcels_are_flat_inside_and_differ_from_each_other(landscape):
    (vv, _), cover = landscape
    field = (cover == land_cover.FIELD)[:, 1:] & (cover == land_cover.FIELD)[:, :-1]
    steps = np.abs(np.diff(vv, axis=1))[field]
    assert np.median(steps) < 0.1
    assert np.percentile(steps, 99) > 1


def test_point_targets_keep_peak_and_width():
    cover = np.full((300, 300), land_cover.TOWN)
    targets = land_cover.simulate_point_targets(cover, rng=np.random.default_rng(0), width_pixels=(2.2, 2.0))
    assert 10 < 10 * np.log10(targets[0].max()) < 18  # neighbors add up
    assert targets[1].max() < targets[0].max()
    assert (targets >= 0).all()


def test_towns_hold_most_of_the_point_targets():
    cover = np.full((600, 600), land_cover.FIELD)
    cover[:, 300:] = land_cover.TOWN
    vv, _ = land_cover.simulate_point_targets(cover, rng=np.random.default_rng(0), width_pixels=(2.2, 2.0))
    assert np.count_nonzero(vv[:, 310:] > 1) > 10 * np.count_nonzero(vv[:, :290] > 1)


def test_the_same_generator_state_gives_the_same_landscape(landscape):
    again = land_cover.simulate_landscape((400, 500), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again[0], landscape[0])
    np.testing.assert_array_equal(again[1], landscape[1])
