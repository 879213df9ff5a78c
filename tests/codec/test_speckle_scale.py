"""The scale of synthetic speckle: found on the original, so that looks come back whatever the speckle is like."""

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from xsarcomp.codec import speckle_scale
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.speckle import USUAL_HOMOGENEOUS_VARIANCES_DB2, Speckle
from xsarcomp.codec.speckle_scale import LARGEST, SMALLEST, measure_speckle_scale
from xsarcomp.metrics.speckle import enl_ratio
from xsarcomp.scenes.simulation import simulate_speckle

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
SETTINGS = Settings(step_db=6.0, scale="power")


@pytest.fixture(scope="module")
def coder():
    return load_coder(MODEL)


def scene(kind, edge=160):
    generator = np.random.default_rng(3)
    if kind == "uncorrelated":
        speckle = generator.gamma(4.4, 1 / 4.4, (edge, edge))
    elif kind == "multilook":
        speckle = np.mean([simulate_speckle((edge, edge), rng=generator) for _ in range(6)], axis=0)
    else:
        speckle = simulate_speckle((edge, edge), rng=generator)
    if kind == "smoothed":
        speckle = ndimage.uniform_filter(speckle, 3, mode="reflect")
    return (0.05 * speckle).astype(np.float32)


def without_scales(encoded):
    """As a store that was written before scales were measured."""
    attribute = {key: value for key, value in encoded.vv_latents.attrs["sarcomp"].items() if key != "speckle_scales"}
    earlier = encoded.copy()
    earlier["vv_latents"].attrs = {"sarcomp": attribute}
    return earlier


@pytest.mark.parametrize(
    ("kind", "rates"), [("multilook", (0.1, 0.5)), ("uncorrelated", (0.25, 1.0)), ("smoothed", (0.1, 0.25))]
)
def test_looks_come_back_where_speckle_is_unlike_that_of_the_training_data(kind, rates):
    power = scene(kind)
    original = xr.DataArray(power, dims=("y", "x"), name="vv").to_dataset()
    valid = np.ones(power.shape, bool)
    for rate in rates:
        encoded = original.sarcomp.encode(bits_per_pixel=rate, scale="power", model=MODEL)
        ratios = [
            enl_ratio(power, data.sarcomp.decode(restore="speckle").vv.values, valid)
            for data in (encoded, without_scales(encoded))
        ]
        assert 0.95 <= ratios[0] <= 1.05
        assert not 0.95 <= ratios[1] <= 1.05  # so the law alone would not do


def test_plain_decoding_does_not_know_scales():
    original = xr.DataArray(scene("multilook", 96), dims=("y", "x"), name="vv").to_dataset()
    encoded = original.sarcomp.encode(bits_per_pixel=0.1, scale="power", model=MODEL)
    assert encoded.vv_latents.attrs["sarcomp"]["speckle_scales"]["mapping"][""] != 1
    xr.testing.assert_identical(encoded.sarcomp.decode(), without_scales(encoded).sarcomp.decode())


def test_a_plane_too_large_to_be_decoded_whole_is_judged_by_its_calm_parts(coder, monkeypatch):
    monkeypatch.setattr(speckle_scale, "LARGEST_PLANE_LATENTS", 1000)
    monkeypatch.setattr(speckle_scale, "LARGEST_LATENTS", 1500)
    monkeypatch.setattr(speckle_scale, "PART_PIXELS", 128)
    decoded = []
    whole = speckle_scale.encode_planes
    monkeypatch.setattr(
        speckle_scale, "encode_planes", lambda signal, *rest: (decoded.append(signal), whole(signal, *rest))[1]
    )
    plane = scene("usual", 384)
    plane[:, 256:] *= np.exp(np.random.default_rng(4).normal(size=(384, 128))).astype(np.float32)
    found = measure_speckle_scale([plane], [5], SETTINGS, coder, USUAL_HOMOGENEOUS_VARIANCES_DB2)
    assert SMALLEST < found < LARGEST
    assert sum(signal.size for signal in decoded) <= 1500 * 64
    calm = 10 * np.log10(plane[:, :256])
    for signal in decoded:
        assert signal.std() < 1.2 * calm.std()


@pytest.mark.parametrize(
    "plane",
    [np.ones((20, 30)), np.full((64, 64), np.nan), np.full((100, 100), 0.05), np.empty((0, 7))],
    ids=["small", "invalid", "constant", "empty"],
)
def test_without_calm_windows_there_is_no_scale(coder, plane):
    planes = [plane.astype(np.float32)]
    assert measure_speckle_scale(planes, [1], SETTINGS, coder, USUAL_HOMOGENEOUS_VARIANCES_DB2) is None
    assert measure_speckle_scale([], [], SETTINGS, coder, USUAL_HOMOGENEOUS_VARIANCES_DB2) is None


def test_a_ramp_without_speckle_has_a_scale_in_the_range(coder):
    ramp = np.geomspace(0.01, 0.011, 160 * 160).reshape(160, 160).astype(np.float32)
    assert SMALLEST <= measure_speckle_scale([ramp], [1], SETTINGS, coder, [0.0] * 64) <= LARGEST


def test_a_scale_counts_in_full_at_its_step_and_fades_to_one_at_half_and_at_twice_of_it():
    speckle = Speckle(
        keys=np.array([1, 2], np.uint64),
        homogeneous_db2=np.array(USUAL_HOMOGENEOUS_VARIANCES_DB2),
        scales=np.array([0.5, 1.5], np.float32),
        scales_step_db=4.0,
    )
    np.testing.assert_allclose(speckle.scales_at(4.0), [0.5, 1.5])
    np.testing.assert_allclose(speckle.scales_at(4.0 * 2**0.5), np.sqrt([0.5, 1.5]), rtol=1e-6)
    for step_db in (1.0, 2.0, 8.0, 30.0):
        np.testing.assert_array_equal(speckle.scales_at(step_db), 1)
    np.testing.assert_allclose(speckle[1:].scales_at(4.0), [1.5])
