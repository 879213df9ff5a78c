"""Decoding without the network: faster, a little further from the original, the same means, and it says so."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.decode import align_parts, read_latents_metadata
from xsarcomp.latents.lazy_arrays import LazyBackscatter
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS, WITHOUT_NETWORK
from xsarcomp.latents.quality import at_quality
from xsarcomp.scenes.simulation import simulated_dataset


@pytest.fixture(scope="module")
def scene():
    return simulated_dataset((256, 192), seed=2)


@pytest.fixture(scope="module")
def encoded(scene):
    return scene.sarcomp.encode(bits_per_pixel=1)


@pytest.fixture(scope="module")
def store(encoded, tmp_path_factory):
    path = tmp_path_factory.mktemp("quality") / "a.zarr"
    encoded.sarcomp.to_zarr(path, consolidated=False)
    return path


def test_decoding_without_the_network_is_a_little_further_from_the_original(scene, encoded):
    best, fast = (encoded.sarcomp.decode(quality=quality) for quality in ("best", "fast"))
    errors = [decoded.sarcomp.compare(scene)["rmse_db"] for decoded in (best, fast)]
    assert 1 < errors[1] / errors[0] < 1.1
    xr.testing.assert_identical(encoded.sarcomp.decode(), best)


def test_the_means_of_tiles_stay_those_of_the_original(scene, encoded):
    fast = encoded.sarcomp.decode(quality="fast")
    for name in ("vv", "vh"):
        tiles = [
            array.fillna(0).coarsen(y=64, x=64).mean().values
            for array in (scene[name], fast[name].where(scene[name].notnull()))
        ]
        assert np.abs(10 * np.log10(tiles[1] / tiles[0])).max() < 0.02


def test_every_way_to_decode_gives_the_same_values(encoded, store):
    expected = encoded.sarcomp.decode(quality="fast")
    lazily = xr.open_zarr(store, consolidated=False).sarcomp.decode(quality="fast")
    by_engine = xr.open_dataset(store, engine="sarcomp", quality="fast")
    for found in (lazily, by_engine):
        for name in ("vv", "vh"):
            np.testing.assert_array_equal(found[name].values, expected[name].values)
            assert found[name].attrs == expected[name].attrs
    window = {"y": slice(70, 130), "x": slice(20, 90)}
    np.testing.assert_array_equal(by_engine.vv.isel(window).values, expected.vv.isel(window).values)


def test_a_lazy_variable_without_the_network_reads_fewer_latents_around_an_index(store):
    margins = {}
    dataset = xr.open_zarr(store, consolidated=False, chunks=None)
    metadata = next(iter(read_latents_metadata(dataset).values()))
    for quality in ("best", "fast"):
        margins[quality] = LazyBackscatter(*align_parts(dataset, at_quality(metadata, quality))).margin
    assert margins["fast"] < margins["best"]


def test_the_record_says_that_the_network_was_left_out(encoded):
    best, fast = (encoded.sarcomp.decode(quality=quality).vv for quality in ("best", "fast"))
    assert WITHOUT_NETWORK not in best.attrs[LOSS_ATTRIBUTE] + best.encoding[LOSS_SETTINGS]
    assert WITHOUT_NETWORK in fast.attrs[LOSS_ATTRIBUTE]
    assert WITHOUT_NETWORK in fast.encoding[LOSS_SETTINGS]


def test_speckle_can_be_restored_without_the_network(scene, encoded):
    metrics = encoded.sarcomp.decode(quality="fast", restore="speckle").sarcomp.compare(scene)
    assert 0.85 < metrics["enl_ratio"] < 1.15


def test_a_model_without_a_network_has_one_quality(scene):
    encoded = scene[["vv"]].sarcomp.encode(bits_per_pixel=1, model="s1-grd-10m-lapped")
    best, fast = (encoded.sarcomp.decode(quality=quality) for quality in ("best", "fast"))
    np.testing.assert_array_equal(best.vv.values, fast.vv.values)


@pytest.mark.parametrize("guarantees", [{"max_error_db": 3.0}, {"max_error_db": 3.0, "keep_means": True}])
def test_a_bound_would_be_broken_and_is_refused(scene, guarantees):
    encoded = scene[["vv"]].sarcomp.encode(**guarantees)
    with pytest.raises(ConfigurationError, match=r"'vv' was encoded with max_error_db=3\.0.*quality='best'"):
        encoded.sarcomp.decode(quality="fast")


def test_another_quality_is_refused(encoded, store):
    with pytest.raises(ConfigurationError, match="quality is 'low', expected one of 'best', 'fast'"):
        encoded.sarcomp.decode(quality="low")
    with pytest.raises(ConfigurationError, match="quality is 'low'"):
        xr.open_dataset(store, engine="sarcomp", quality="low")


def test_both_coders_of_a_model_read_the_same_symbols():
    with_network, without = load_coder("s1-grd-10m"), load_coder("s1-grd-10m", network=False)
    assert without.tables is with_network.tables
    assert without.model_id == with_network.model_id
    assert without.latent_reach == 1
    assert load_coder("s1-grd-10m", network=False) is without
