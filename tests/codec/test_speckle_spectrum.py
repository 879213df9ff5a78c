"""The spectrum of speckle: measured where a scene is calm, in the unit of latents."""

import numpy as np
import pytest

from xsarcomp.codec import speckle_spectrum as calm_speckle
from xsarcomp.codec import window as block
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.speckle_spectrum import (
    block_energies,
    homogeneous_variances,
    latents_inside,
    measure_homogeneous_variances,
)
from xsarcomp.scenes.simulation import simulate_speckle, simulated_dataset

pytestmark = pytest.mark.slow

SETTINGS = Settings(step_db=1.0, scale="decibel")


@pytest.fixture(scope="module")
def coder():
    return load_coder("s1-grd-10m-lapped")


def test_white_noise_has_its_variance_in_every_channel(coder):
    noise = np.random.default_rng(1).normal(-12, 2.0, (2, 520, 520)).astype(np.float32)
    calm = np.array(measure_homogeneous_variances([noise], SETTINGS, coder))
    assert calm[0] == 0
    np.testing.assert_allclose(calm[1:], 4.0, rtol=0.1)  # the calmer half of white noise is a little calmer


def test_of_a_large_plane_some_parts_are_looked_at(coder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        calm_speckle,
        "signal_from_backscatter",
        lambda values, *rest: (seen.append(values.size), block.signal_from_backscatter(values, *rest))[1],
    )
    noise = np.random.default_rng(6).normal(-12, 2.0, (1, 1300, 1500)).astype(np.float32)
    calm = np.array(measure_homogeneous_variances([noise], SETTINGS, coder))
    np.testing.assert_allclose(calm[1:], 4.0, rtol=0.1)
    assert calm_speckle.LARGEST_PIXELS / 2 < sum(seen) <= 1.1 * calm_speckle.LARGEST_PIXELS


def test_busy_areas_do_not_count(coder):
    speckle = 10 * np.log10(simulate_speckle((512, 512), rng=np.random.default_rng(2)))
    busy = speckle.copy()
    busy[:, 340:] += 8 * np.random.default_rng(3).normal(size=(512, 172))
    alone, beside = (
        np.array(measure_homogeneous_variances([plane[None] - 12], SETTINGS, coder)) for plane in (speckle, busy)
    )
    np.testing.assert_allclose(beside[1:], alone[1:], rtol=0.15)


def test_invalid_pixels_and_their_fill_do_not_count(coder):
    speckle = (10 * np.log10(simulate_speckle((512, 512), rng=np.random.default_rng(4))) - 12).astype(np.float32)
    holes = speckle.copy()
    holes[100:400, 60:300] = np.nan
    alone, beside = (
        np.array(measure_homogeneous_variances([plane[None]], SETTINGS, coder)) for plane in (speckle, holes)
    )
    np.testing.assert_allclose(beside[1:], alone[1:], rtol=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 900), (1, 40, 40), (0, 64, 64)])
def test_too_little_tells_nothing(coder, shape):
    assert measure_homogeneous_variances([np.full(shape, -10.0, np.float32)], SETTINGS, coder) is None
    assert measure_homogeneous_variances([], SETTINGS, coder) is None


def test_constant_areas_have_no_speckle(coder):
    assert max(measure_homogeneous_variances([np.full((1, 200, 200), -10.0)], SETTINGS, coder)) < 1e-5


def test_energies_are_means_over_blocks_and_leave_out_those_with_an_unusable_latent():
    latents = np.random.default_rng(5).normal(size=(2, 64, 9, 12))
    usable = np.ones((2, 9, 12), bool)
    usable[1, 4, 11] = False
    found = block_energies(latents, usable)
    assert found.shape == (2 * 2 * 3 - 1, 64)
    np.testing.assert_allclose(found[1], (latents[0, :, :4, 4:8] ** 2).mean(axis=(1, 2)))
    assert homogeneous_variances(found[:7]) is None


def test_latents_inside_need_their_whole_surroundings(coder):
    valid = np.ones((1, 40, 31), bool)
    valid[0, 4, 4] = False
    latents, usable = latents_inside(np.zeros((1, 40, 31)), valid, coder)
    assert latents.shape == (1, 64, 4, 2)
    assert usable.sum() == 7
    assert not usable[0, 0, 0]


def test_encoding_notes_the_spectrum_and_stores_without_it_are_restored_too():
    scene = simulated_dataset((300, 320), 5)
    encoded = scene.sarcomp.encode(bits_per_pixel=0.3)
    record = encoded.vv_latents.attrs["sarcomp"]
    noted = record["calm_variances_db2"]["tuple"]
    assert len(noted) == 64
    assert "calm_variances_db2" not in encoded.sarcomp.info()["vv"]
    earlier = encoded.copy()
    for name in ("vv_latents", "vh_latents"):
        attribute = earlier[name].attrs["sarcomp"]
        measured = ("calm_variances_db2", "speckle_scales")
        earlier[name].attrs = {"sarcomp": {key: attribute[key] for key in attribute if key not in measured}}
    np.testing.assert_array_equal(earlier.sarcomp.decode().vv, encoded.sarcomp.decode().vv)
    looks = [data.sarcomp.decode(restore="speckle").sarcomp.compare(scene)["enl_ratio"] for data in (encoded, earlier)]
    plain = encoded.sarcomp.decode().sarcomp.compare(scene)["enl_ratio"]
    assert abs(looks[0] - 1) < abs(looks[1] - 1) < abs(plain - 1)
