"""Speckle made up again: its numbers come from places alone, its power is one, its statistics are those of speckle."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import skew

from xsarcomp.codec import lapped
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.kernels import speckle as speckle_kernels
from xsarcomp.codec.speckle import LAW, USUAL_HOMOGENEOUS_VARIANCES_DB2, Speckle
from xsarcomp.codec.window import Axis, decode_planes, decode_window, encode_planes
from xsarcomp.errors import ConfigurationError
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums
from xsarcomp.metrics.speckle import equivalent_number_of_looks
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.tiling import reflect_indices

pytestmark = pytest.mark.slow

CALM = np.array(USUAL_HOMOGENEOUS_VARIANCES_DB2)
MASK = 2**64 - 1


def numbers(keys, rows, columns):
    """Random numbers of places, each axis a pair of (places, reversed)."""
    drawn = np.empty((len(keys), lapped.CHANNELS, len(rows[0]), len(columns[0])), np.float32)
    speckle_kernels.draw(np.array(keys, np.uint64), *rows, *columns, drawn)
    return drawn


def of_scene(height, width, keys=(7,)):
    return numbers(keys, reflect_indices(0, height, height), reflect_indices(0, width, width))


def by_hand(key, channel, row, column):
    """One number in Python's integers."""

    def scattered(counter):
        counter = ((counter ^ (counter >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        counter = ((counter ^ (counter >> 27)) * 0x94D049BB133111EB) & MASK
        return counter ^ (counter >> 31)

    state = key
    for part in (channel, row, column):
        state = scattered((state + (part + 1) * 0x9E3779B97F4A7C15) & MASK)
    total = sum((state >> shift) & 0xFFFF for shift in (0, 16, 32, 48))
    return (total - 2 * 65535) / np.sqrt((65536.0**2 - 1) / 3)


def test_scattering_is_that_of_the_published_generator():
    # first output of splitmix64 with seed 1234567, from the reference implementation of Vigna
    assert speckle_kernels.scattered(np.uint64((1234567 + 0x9E3779B97F4A7C15) & MASK)) == 6457827717110365317


def test_numbers_are_those_of_the_definition():
    drawn = of_scene(5, 6, (3, 2**64 - 5))
    for plane, key in enumerate((3, 2**64 - 5)):
        for channel, row, column in ((0, 0, 0), (63, 4, 5), (9, 2, 3)):
            assert drawn[plane, channel, row, column] == pytest.approx(by_hand(key, channel, row, column), rel=1e-6)


def test_numbers_have_mean_zero_variance_one_and_know_nothing_of_each_other():
    drawn = of_scene(128, 128, (1, 2)).astype(np.float64)
    assert np.abs(drawn).max() <= 2 * np.sqrt(3) + 1e-6
    assert abs(drawn.mean()) < 0.003
    assert drawn.var() == pytest.approx(1, abs=0.004)
    pairs = {
        "planes": (drawn[0], drawn[1]),
        "channels": (drawn[:, :-1], drawn[:, 1:]),
        "rows": (drawn[..., :-1, :], drawn[..., 1:, :]),
        "columns": (drawn[..., :-1], drawn[..., 1:]),
    }
    for name, (first, second) in pairs.items():
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.004, name


def test_numbers_of_a_window_are_those_of_the_scene_to_the_last_bit_and_mirror_with_it():
    scene = of_scene(20, 17)
    rows, columns = reflect_indices(-6, 31, 20), reflect_indices(-5, 26, 17)
    np.testing.assert_array_equal(numbers((7,), rows, columns), lapped.gather_mirrored(scene, rows, columns))


def with_noise(signal, surroundings_db, noise, variance_db2):
    """A signal with noise, where the lowest channel has one level."""
    planes, height, width = signal.shape
    lowest = np.full((planes, height // 8 + 2, width // 8 + 2), 8 * surroundings_db, np.float32)
    speckle_kernels.add_skewed(lowest, taps(), np.full_like(lowest, variance_db2), noise, signal)
    return signal


def taps():
    """Weights of the lowest channel and of variances."""
    basis = lapped.lapped_basis() / lapped.BASIS_STEPS
    return np.stack([basis[:, 0], (basis**2).sum(axis=1)]).astype(np.float32)


@pytest.mark.parametrize("looks", [3.0, 6.0, 20.0])
def test_skewed_noise_has_power_one_and_the_looks_and_skewness_of_speckle(looks):
    from scipy.special import polygamma

    variance_db2 = polygamma(1, looks) * (10 / np.log(10)) ** 2
    noise = np.random.default_rng(5).normal(0, np.sqrt(variance_db2), (1, 1504, 1504)).astype(np.float32)
    signal = with_noise(np.zeros_like(noise), 0.0, noise, variance_db2)
    power = 10 ** (signal.astype(np.float64) / 10)
    assert 10 * np.log10(power.mean()) == pytest.approx(0, abs=0.01)
    assert equivalent_number_of_looks(power) == pytest.approx(looks, rel=0.06)
    assert skew(signal.ravel()) == pytest.approx(polygamma(2, looks) / polygamma(1, looks) ** 1.5, abs=0.12)


@pytest.mark.parametrize("detail_db", [-9.0, 4.0, 20.0])
def test_the_expected_power_stays_at_dark_and_bright_places_and_peaks_stay_as_they_are(detail_db):
    noise = np.random.default_rng(6).normal(0, 2.5, (1, 904, 904)).astype(np.float32)
    signal = with_noise(np.full_like(noise, 3.0), 3.0 - detail_db, noise, 2.5**2)
    power = 10 ** (signal.astype(np.float64) / 10)
    assert 10 * np.log10(power.mean()) == pytest.approx(3.0, abs=0.02)
    if detail_db == 20.0:
        np.testing.assert_allclose(signal, 3.0, atol=1e-6)


def test_what_is_missing_grows_with_the_step_up_to_the_variance_of_calm_latents():
    steps = np.geomspace(0.5, 60, 30)
    whole = replace(LAW, steps_db=(1.0,), shares=(((1.0,), (1.0,)),) * 2)
    for trellised in (np.zeros(64, bool), np.ones(64, bool)):
        missing = [whole.missing_variances(step, trellised, CALM, has_network=True) for step in steps]
        zeros = np.array(missing)[:, 1:, 0]
        assert (np.diff(zeros, axis=0) >= -1e-6).all()
        assert (zeros <= CALM[1:] * (1 + 1e-5)).all()
        np.testing.assert_allclose(zeros[-1][CALM[1:] < 10], CALM[1:][CALM[1:] < 10], rtol=0.02)


def test_noise_is_less_where_the_signal_is_brighter_than_its_lowest_channel():
    generator = np.random.default_rng(8)
    latents = generator.normal(0, 4, (1, lapped.CHANNELS, 6, 7)).astype(np.float32)
    basis = lapped.lapped_basis()
    signal = lapped.synthesize(latents, basis)
    noise = np.full_like(signal, 0.01)  # so little that only the share shows
    noisy = np.array(signal, order="C")
    lowest = np.ascontiguousarray(latents[:, 0])
    speckle_kernels.add_skewed(lowest, taps(), np.zeros_like(lowest), noise, noisy)
    without_lowest = latents.copy()
    without_lowest[:, 0] = 0
    detail = lapped.synthesize(without_lowest, basis) * np.log(10) / 10
    np.testing.assert_allclose((noisy - signal) / 0.01, np.clip(1 - detail / 3, 0, 4 / 3), atol=2e-3)


def test_noise_in_a_signal_has_the_variance_that_is_taken_off_its_mean():
    missing = LAW.missing_variances(6.0, np.zeros(64, bool), CALM, has_network=True)
    noise, points = of_scene(66, 66), np.zeros((1, 64, 66, 66), np.int32)
    variances = np.empty((1, 66, 66), np.float32)
    scales = np.array([0.7], np.float32)
    speckle_kernels.scale(points, np.zeros_like(noise), missing, scales, np.float32(0), noise, variances)
    wanted = 0.7 * missing[:, 0]
    np.testing.assert_allclose(variances, wanted.mean(), rtol=1e-5)
    assert lapped.synthesize(noise, lapped.lapped_basis()).var() == pytest.approx(wanted.mean(), rel=0.03)
    np.testing.assert_allclose(noise[0].var(axis=(1, 2)), wanted, rtol=0.1)


@pytest.mark.parametrize("name", ["s1-grd-10m", "s1-grd-10m-lapped"])
def test_a_window_is_restored_as_the_whole_scene(name):
    coder, step_db = load_coder(name), 6.0
    decibel = 10 * np.log10(simulated_dataset((96, 152), 4).vv.values.astype(np.float64))
    signal = np.rint((np.nan_to_num(decibel, nan=-12.0)[None] - coder.card.offset_db) * 512) / 512
    symbols = encode_planes(signal, coder, step_db)
    speckle = Speckle(keys=np.array([11], np.uint64), homogeneous_db2=CALM)
    whole = decode_planes(symbols, (96, 152), coder, step_db, speckle)
    assert np.abs(whole - decode_planes(symbols, (96, 152), coder, step_db)).std() > 0.5
    around = coder.latent_reach
    first = max(0, 9 - around)
    held = symbols[:, :, : min(12, 6 + around), first:]
    window = decode_window(held, coder, step_db, Axis(0, 6, 12, 0), Axis(9, 19, 19, first), speckle)
    np.testing.assert_allclose(window, whole[:, :48, 72:], atol=2e-4)


@pytest.fixture(scope="module")
def simulated():
    return simulated_dataset((384, 400), seed=5)


@pytest.fixture(scope="module")
def coarse(simulated):
    """Encoded at a quarter of a bit."""
    return simulated.sarcomp.encode(bits_per_pixel=0.25)


@pytest.fixture(scope="module")
def restored(coarse):
    return coarse.sarcomp.decode(restore="speckle")


def test_invalid_pixels_come_back_exactly_and_all_others_change(simulated, coarse, restored):
    plain = coarse.sarcomp.decode()
    for name in ("vv", "vh"):
        invalid = np.isnan(simulated[name].values)
        assert invalid.any()
        np.testing.assert_array_equal(np.isnan(restored[name].values), invalid)
        changed = restored[name].values[~invalid] != plain[name].values[~invalid]
        assert changed.mean() > 0.99


def test_restoring_is_said_in_the_attributes_and_only_then(coarse, restored):
    assert "synthetic speckle was added" in restored.vv.attrs["sarcomp_lossy"]
    assert "speckle" not in coarse.sarcomp.decode().vv.attrs["sarcomp_lossy"]
    assert "synthetic speckle was added" in restored.sarcomp.info()["vv"]["loss"]


def test_mean_power_stays_that_of_plain_decoding(coarse, restored):
    plain = coarse.sarcomp.decode()
    for name in ("vv", "vh"):
        assert abs(10 * np.log10(float(restored[name].mean() / plain[name].mean()))) < 0.02


def test_polarizations_get_noise_of_their_own(coarse, restored):
    plain = coarse.sarcomp.decode()
    noise = [10 * np.log10(restored[name].values / plain[name].values) for name in ("vv", "vh")]
    valid = np.isfinite(noise[0]) & np.isfinite(noise[1])
    assert abs(np.corrcoef(noise[0][valid], noise[1][valid])[0, 1]) < 0.05


def test_chunks_windows_and_the_engine_give_the_same_noise(simulated, tmp_path):
    encoded = simulated.sarcomp.encode(bits_per_pixel=0.25, model="s1-grd-10m-lapped")
    whole = encoded.sarcomp.decode(restore="speckle")
    lazy = encoded.chunk({"y_latent": 20, "x_latent": 24}).sarcomp.decode(restore="speckle")
    assert lazy.vv.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-4)
    encoded.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", restore="speckle") as opened:
        place = {"y": slice(101, 203), "x": slice(5, 330)}
        xr.testing.assert_allclose(opened.isel(place).compute(), whole.isel(place), rtol=1e-4)
        assert "synthetic speckle was added" in opened.vv.attrs["sarcomp_lossy"]


def test_an_unknown_restoration_is_refused(coarse, tmp_path):
    with pytest.raises(ConfigurationError, match=r"'speckles'.*speckle"):
        coarse.sarcomp.decode(restore="speckles")
    coarse.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(ConfigurationError, match="expected None or one of"):
        xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", restore="")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.5, 2.0])
def test_looks_of_a_simulated_scene_come_back(simulated, rate):
    encoded = simulated.sarcomp.encode(bits_per_pixel=rate)
    plain, restored = (_metrics(simulated, encoded.sarcomp.decode(restore=name)) for name in (None, "speckle"))
    assert 0.95 <= restored["enl_ratio"] <= 1.05
    assert abs(np.log(restored["semivariogram_ratio_1"])) < abs(np.log(plain["semivariogram_ratio_1"]))
    if rate < 2:
        assert restored["ks_distance"] < 0.7 * plain["ks_distance"]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("rate", [0.1, 0.25, 1.0])
def test_looks_of_real_chips_come_back(sar_data, rate):
    from xsarcomp.stores.files import open_scene

    for name in ("Bolivia_312675", "jja10"):
        scene = open_scene(str(sar_data / "validation" / "grd_decibel" / f"{name}.tif")).load()
        encoded = scene.sarcomp.encode(bits_per_pixel=rate)
        plain, restored = (_metrics(scene, encoded.sarcomp.decode(restore=asked)) for asked in (None, "speckle"))
        assert 0.95 <= restored["enl_ratio"] <= 1.05
        assert restored["ks_distance"] < max(0.006, 0.3 * plain["ks_distance"])
        assert abs(restored["bias_db"] - plain["bias_db"]) < 0.02


def _metrics(original, restored):
    errors, texture = ErrorSums(), TextureSums()
    for pair in scene_pieces(original, restored, scale=None):
        errors, texture = errors + ErrorSums.from_pair(pair), texture + TextureSums.from_pair(pair)
    return errors.metrics() | texture.metrics()
