"""Statistics of latents: counted as a loop counts them, the same for every chunking, and what they say of scenes is true."""

import numpy as np
import pytest
import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.errors import NotEncodedError
from xsarcomp.latents import statistics
from xsarcomp.latents.statistics import latent_statistics
from xsarcomp.scenes.simulation import simulated_dataset

MODEL = "s1-grd-10m-lapped"


@pytest.fixture(scope="module")
def scene():
    return simulated_dataset((150, 200), 3)


def test_shares_and_magnitudes_are_those_of_a_loop(scene):
    encoded = scene.sarcomp.encode(bits_per_pixel=0.5, model=MODEL)
    symbols = encoded.vv_latents.values[:64]
    found = latent_statistics(encoded)["vv"]
    assert found["latents"] == symbols.size
    assert found["zero_share"] == pytest.approx((symbols == 0).mean())
    assert found["empty_share"] == pytest.approx((symbols[1:] == 0).all(axis=0).mean())
    for band in range(15):
        channels = [8 * v + h for v in range(8) for h in range(8) if v + h == band]
        assert found["zero_share_by_band"][band] == pytest.approx((symbols[channels] == 0).mean())
        assert found["mean_magnitude_by_band"][band] == pytest.approx(np.abs(symbols[channels]).mean())


def test_they_do_not_depend_on_chunks_or_pieces(scene, monkeypatch, tmp_path):
    encoded = scene.sarcomp.encode(bits_per_pixel=1.0)
    whole = latent_statistics(encoded)
    encoded.to_zarr(tmp_path / "store", consolidated=False)
    monkeypatch.setattr(statistics, "PIECE_LATENTS", 5)
    pieces = latent_statistics(xr.open_zarr(tmp_path / "store", consolidated=False))
    for name, figures in whole.items():
        for key, value in figures.items():
            assert pieces[name][key] == pytest.approx(value), key


def test_fewer_bits_leave_more_zeros_and_less_variance(scene):
    coarse, fine = (
        latent_statistics(scene.sarcomp.encode(bits_per_pixel=rate, model=MODEL))["vv"] for rate in (0.25, 2.0)
    )
    assert coarse["zero_share"] > fine["zero_share"]
    assert coarse["empty_share"] >= fine["empty_share"]
    assert sum(coarse["variance_by_band"][1:]) < sum(fine["variance_by_band"][1:])


def test_speckle_that_is_correlated_has_its_variance_in_low_bands(scene):
    variances = latent_statistics(scene.sarcomp.encode(bits_per_pixel=4.0, model=MODEL))["vv"]["variance_by_band"]
    assert variances[1] > variances[7] > variances[14]


def test_a_stack_counts_all_its_planes():
    stack = xr.concat([simulated_dataset((40, 48), seed) for seed in (1, 2, 3)], "time")
    encoded = stack.sarcomp.encode(bits_per_pixel=1.0, model=MODEL)
    assert latent_statistics(encoded)["vh"]["latents"] == encoded.vh_latents[:, :64].size


def test_an_empty_variable_has_nan_and_data_without_latents_are_refused(scene):
    empty = scene.isel(y=slice(0, 0)).sarcomp.encode(bits_per_pixel=1.0, scale="power", model=MODEL)
    assert np.isnan(latent_statistics(empty)["vv"]["zero_share"])
    with pytest.raises(NotEncodedError):
        latent_statistics(scene)
