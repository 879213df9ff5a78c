"""The network behind the coder: the same pixels whoever calls, global state of torch untouched, bad models refused.

That latents are the same bits over threads, tiles, modes and processes is in ``test_determinism.py``.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch

from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.model_file import coder_from_bytes
from xsarcomp.codec.network import coder as coder_module
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.coder import ResidualCoder
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.trellis import BLOCK_TRELLIS
from xsarcomp.errors import ModelIntegrityError, RateError
from xsarcomp.models.refiner.export import integer_arrays
from xsarcomp.models.refiner.network import LatentRefiner, RefinerConfig
from xsarcomp.scenes.simulation import simulate_scene
from xsarcomp.stores import files

STEP_DB = 3.0
TOLERANCE_DB = 0.002
"""What another order of the float32 sums of the synthesis may change in a pixel; latents are equal to the bit."""


@pytest.fixture(scope="module")
def shipped():
    return load_coder("s1-grd-10m")


@pytest.fixture(scope="module")
def linear():
    return load_coder("s1-grd-10m-lapped")


@pytest.fixture(scope="module")
def planes():
    """Three simulated planes in dB, float32 (plane, y, x)."""
    return 10 * np.log10(
        np.concatenate([simulate_scene((96, 112), seed=seed, nodata_border=False) for seed in (1, 2)])[:3]
    )


@pytest.fixture(scope="module")
def stream(network_coder, planes):
    return encode_backscatter(planes, Settings(step_db=STEP_DB, scale="decibel"), network_coder)


@pytest.fixture(scope="module")
def decoded(network_coder, stream):
    return decode_backscatter(stream, None, network_coder)


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_shipped_model_is_a_network_that_says_how_far_it_reaches(shipped, linear):
    assert isinstance(shipped, ResidualCoder)
    assert not isinstance(linear, ResidualCoder)
    assert shipped.latent_reach == 1 + shipped.network.config.reach > linear.latent_reach == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_number_of_torch_threads_does_not_change_pixels(network_coder, stream, decoded, torch_threads, threads):
    torch_threads(threads)
    np.testing.assert_allclose(decode_backscatter(stream, None, network_coder), decoded, rtol=0, atol=TOLERANCE_DB)


def test_planes_decode_alone_as_in_a_batch(network_coder, planes, decoded):
    for plane, together in zip(planes, decoded, strict=True):
        alone = encode_backscatter(plane, Settings(step_db=STEP_DB, scale="decibel"), network_coder)
        np.testing.assert_allclose(decode_backscatter(alone, None, network_coder), together, rtol=0, atol=TOLERANCE_DB)


def test_tiles_inside_the_coder_leave_no_trace(network_coder, planes, stream, decoded, monkeypatch):
    monkeypatch.setattr(coder_module, "TILE_LATENTS", 5)
    np.testing.assert_allclose(decode_backscatter(stream, None, network_coder), decoded, rtol=0, atol=TOLERANCE_DB)


def state_of_torch():
    return (
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().numpy().tobytes(),
    )


def test_global_state_of_torch_is_left_as_it_was(network_coder, stream, torch_threads):
    torch_threads(2)
    before = state_of_torch()
    decode_backscatter(stream, None, network_coder)
    assert state_of_torch() == before


def test_threads_of_a_pool_leave_the_state_of_torch_as_it_was(network_coder, stream, torch_threads):
    torch_threads(2)
    before = state_of_torch()
    with ThreadPoolExecutor(8) as pool:
        seen = list(
            pool.map(lambda _: (decode_backscatter(stream, None, network_coder), torch.get_num_threads())[1], range(16))
        )
    assert state_of_torch() == before
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2], "a thread that starts afterwards gets another number of threads than the caller set"
    assert set(seen) == {2}


MODES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_mode_of_the_caller_does_not_change_pixels(network_coder, stream, decoded, mode):
    with mode():
        np.testing.assert_array_equal(decode_backscatter(stream, None, network_coder), decoded)


def test_default_device_of_the_caller_does_not_change_pixels(network_coder, stream, decoded):
    with torch.device("meta"):
        np.testing.assert_array_equal(decode_backscatter(stream, None, network_coder), decoded)


def test_default_type_of_the_caller_does_not_change_pixels(network_coder, stream, decoded):
    torch.set_default_dtype(torch.float64)
    try:
        found = decode_backscatter(stream, None, network_coder)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, decoded)


def test_model_that_is_loaded_under_another_default_type_is_the_same(stream, decoded, network_content):
    torch.set_default_dtype(torch.float64)
    try:
        found = decode_backscatter(stream, None, coder_from_bytes(network_content))
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found, decoded, rtol=0, atol=TOLERANCE_DB)


def test_eight_threads_at_once_decode_the_same(network_coder, stream, decoded):
    barrier = threading.Barrier(8)

    def decode(_):
        barrier.wait()
        return decode_backscatter(stream, None, network_coder)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(decode, range(8)))
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_allclose(results[0], decoded, rtol=0, atol=TOLERANCE_DB)


def test_restoring_does_not_change_the_points(network_coder):
    points = np.random.default_rng(0).integers(-2, 3, (2, 64, 20, 18)).astype(np.int32)
    before = points.copy()
    restored = network_coder.reconstruct(points, STEP_DB)
    reach = network_coder.latent_reach - 1
    assert restored.shape == (2, 64, 20 - 2 * reach, 18 - 2 * reach)
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(points, before)


@pytest.fixture
def parts(coder):
    """Arguments of a coder with a tiny network."""
    card = replace(coder.card, architecture="lapped-residual", network={"channels": 4, "blocks": 1})
    weights = integer_arrays(LatentRefiner(RefinerConfig(channels=4, blocks=1)))
    same = {name: getattr(coder, name) for name in ("model_id", "basis", "tables", "shifts")}
    return {"card": card, "weights": weights, **same}


def test_untrained_network_restores_as_the_linear_coder_does(parts, coder, speckled):
    residual = ResidualCoder(**parts)
    settings = Settings(step_db=STEP_DB, scale="decibel")
    first, second = (
        decode_backscatter(encode_backscatter(speckled, settings, each), None, each) for each in (residual, coder)
    )
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)


def test_untrained_network_restores_the_latents_of_the_linear_coder_to_the_bit(parts, coder):
    residual, reach = ResidualCoder(**parts), 3
    points = np.random.default_rng(0).integers(-5, 6, (2, 64, 20, 18)).astype(np.int32)
    expected = coder.reconstruct(points, STEP_DB)[:, :, reach:-reach, reach:-reach]
    np.testing.assert_array_equal(residual.reconstruct(points, STEP_DB), expected)


def test_latents_are_reconstruction_points_and_offsets_in_steps(network_coder, coder):
    points = np.random.default_rng(2).integers(-5, 6, (1, 64, 15, 14)).astype(np.int32)
    reach, trellised = network_coder.latent_reach - 1, network_coder.channels_with_trellis(STEP_DB)
    assert trellised.any()
    centroids = coder.reconstruct(points, STEP_DB)[:, :, reach:-reach, reach:-reach]
    levels = torch.from_numpy(input_levels(points, STEP_DB, trellised, BLOCK_TRELLIS.spacing)[0])
    offsets = network_coder.network(levels, STEP_DB).numpy()
    expected = centroids + np.float32(STEP_DB) * offsets.transpose(2, 0, 1)[None]
    assert offsets.any()
    np.testing.assert_array_equal(network_coder.reconstruct(points, STEP_DB), expected)


@pytest.mark.parametrize("step_db", [0.019, 64.1, float("nan")])
def test_steps_beyond_the_format_are_refused(network_coder, step_db):
    with pytest.raises(RateError, match="quantization step"):
        network_coder.reconstruct(np.zeros((1, 64, 12, 12), np.int32), step_db)


def damaged(weights, how):
    name = "entry.units"
    changed = dict(weights)
    if how == "missing":
        del changed[name]
    elif how == "unknown":
        changed["refiner.entry.weight"] = np.zeros((4, 69, 3, 3), np.float32)
    elif how == "shape":
        changed[name] = changed[name][:-1]
    else:
        changed[name] = changed[name].copy()
        changed[name].flat[2] = {"nan": np.nan, "infinite": np.inf}[how]
    return changed


@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "nan", "infinite"])
def test_weights_that_do_not_fit_are_refused(parts, how):
    parts["weights"] = damaged(parts["weights"], how)
    with pytest.raises(ModelIntegrityError, match="weights of model 'simulated-small'"):
        ResidualCoder(**parts)


def test_weights_of_a_larger_network_are_refused(parts):
    parts["weights"] = integer_arrays(LatentRefiner(RefinerConfig(channels=8, blocks=2)))
    with pytest.raises(ModelIntegrityError, match="do not fit its network"):
        ResidualCoder(**parts)


def test_card_with_more_blocks_than_a_network_may_have_is_refused(parts):
    with pytest.raises((ModelIntegrityError, ValueError), match="blocks"):
        ResidualCoder(**{**parts, "card": replace(parts["card"], network={"channels": 4, "blocks": 500})})


def test_file_whose_weights_are_cut_is_refused(network_content, network_coder):
    arrays = safetensors.numpy.load(network_content)
    arrays.pop("network.exit.levels")
    without = safetensors.numpy.save(arrays, metadata={"card": network_coder.card.to_json()})
    for wrong in (network_content[:-1], without):
        with pytest.raises(ModelIntegrityError):
            coder_from_bytes(wrong)


@pytest.mark.parametrize("step_db", [1.0, 3.0])
def test_network_is_nearer_than_the_linear_profile_on_a_simulated_scene(shipped, linear, planes, step_db):
    settings = Settings(step_db=step_db, scale="decibel")
    streams = [encode_backscatter(planes, settings, each) for each in (shipped, linear)]
    errors = [
        np.sqrt(np.mean((decode_backscatter(data, None, each) - planes) ** 2))
        for data, each in zip(streams, (shipped, linear), strict=True)
    ]
    assert len(streams[0]) == pytest.approx(len(streams[1]), rel=0.01)  # the same symbols: the network is the decoder's
    assert errors[0] < errors[1]


@pytest.mark.data
def test_network_is_nearer_than_the_linear_profile_on_a_test_scene(sar_data, shipped, linear):
    scene = files.open_scene(str(sar_data / "test/grd_decibel/Mekong_333434.tif"))
    plane = scene.band_data.isel(band=0, y=slice(100, 356), x=slice(100, 356)).values
    settings = Settings(step_db=STEP_DB, scale="decibel")
    errors = [
        np.sqrt(np.mean((decode_backscatter(encode_backscatter(plane, settings, each), None, each) - plane) ** 2))
        for each in (shipped, linear)
    ]
    assert errors[0] < 0.99 * errors[1]
