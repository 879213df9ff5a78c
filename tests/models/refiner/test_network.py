"""The autoencoder: untrained it is the linear codec, it reaches as far as it says, tiles agree, and it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.support.format_decoder import points_from_the_format
from xsarcomp.codec import lapped
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.network import IntegerNetwork
from xsarcomp.codec.trellis import BLOCK_TRELLIS
from xsarcomp.errors import ConfigurationError
from xsarcomp.models.refiner.export import integer_arrays
from xsarcomp.models.refiner.network import LappedAutoencoder, LatentRefiner, RefinerConfig
from xsarcomp.models.refiner.task import encoder_quantizer
from xsarcomp.scenes.simulation import simulate_scene

pytestmark = pytest.mark.slow

SMALL = RefinerConfig(channels=16, blocks=2)
STEP_DB = 3.0


def symbols_like(shape, seed=0):
    """Symbols (tile, latent=64, y, x)."""
    return np.rint(np.random.default_rng(seed).normal(0, 3, shape)).astype(np.int32)


def latents_like(shape, seed=0):
    return torch.from_numpy(STEP_DB * symbols_like(shape, seed).astype(np.float32))


NO_TRELLIS = np.zeros(64, bool)


def levels_of(symbols):
    return (
        torch.from_numpy(input_levels(symbols, STEP_DB, NO_TRELLIS, BLOCK_TRELLIS.spacing)).float().permute(0, 3, 1, 2)
    )


@pytest.fixture(scope="module")
def signal():
    """dB above the offset, multiples of 1/512, whole blocks with their overlap."""
    decibel = 10 * np.log10(simulate_scene((200, 216), seed=5, nodata_border=False).astype(np.float64)) + 15
    return np.rint(decibel * 512) / 512


@pytest.mark.parametrize("step_db", [0.3, 3.0, 20.0])
def test_untrained_network_adds_exactly_nothing(step_db):
    model = LappedAutoencoder(SMALL).eval()
    symbols, reach = symbols_like((2, 64, 14, 13)), model.refiner.reach
    restored, levels = (
        (symbols * step_db).astype(np.float32),
        input_levels(symbols, step_db, NO_TRELLIS, BLOCK_TRELLIS.spacing),
    )
    with torch.no_grad():
        refined = model.refine(levels, restored, step_db)
    np.testing.assert_array_equal(refined.numpy(), restored[:, :, reach:-reach, reach:-reach])
    network = IntegerNetwork(integer_arrays(model.refiner), SMALL)
    assert not network(torch.from_numpy(levels[0]), step_db).any()


def test_untrained_model_is_the_linear_codec(coder, signal):
    model = LappedAutoencoder(SMALL).eval()
    points = coder.points(coder.quantize(coder.analyze(signal), STEP_DB), STEP_DB)
    restored, reach = coder.reconstruct(points, STEP_DB), model.refiner.reach
    with torch.no_grad():
        refined = model.refine(
            input_levels(points, STEP_DB, coder.channels_with_trellis(STEP_DB), BLOCK_TRELLIS.spacing),
            restored,
            STEP_DB,
        )
    np.testing.assert_array_equal(refined.numpy(), restored[:, :, reach:-reach, reach:-reach])


def test_analysis_is_that_of_the_codec(signal):
    expected = lapped.analyze(signal, lapped.lapped_basis())
    found = LappedAutoencoder(SMALL).analyze(torch.from_numpy(signal).float()).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_synthesis_is_that_of_the_codec():
    latents = latents_like((2, 64, 7, 9))
    expected = lapped.synthesize(latents.numpy(), lapped.lapped_basis())
    # one latent around is consumed by the codec; 4 more pixels are the overlap of the transform
    found = LappedAutoencoder(SMALL).synthesize(latents).numpy()[:, 12:-12, 12:-12]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_synthesis_inverts_analysis_away_from_the_border(signal):
    model = LappedAutoencoder(SMALL)
    values = torch.from_numpy(signal).float()
    restored = model.synthesize(model.analyze(values))
    assert restored.shape == values.shape
    torch.testing.assert_close(restored[:, 8:-8, 8:-8], values[:, 8:-8, 8:-8], rtol=0, atol=0.01)


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_reach_from_the_layers_is_the_receptive_field(blocks, disturbed_refiner):
    config = RefinerConfig(channels=8, blocks=blocks)
    refiner = disturbed_refiner(config)
    network = IntegerNetwork(integer_arrays(refiner), config)
    reach, size = refiner.reach, 25
    assert reach == config.reach == 2 + blocks
    # many tiles: a rounding may swallow what is left of a change at the edge of its reach
    symbols = symbols_like((40, 64, size + 2 * reach, size + 2 * reach))
    changed = symbols.copy()
    middle = size // 2 + reach
    changed[:, :, middle, middle] += 50
    scenes = [(refiner.double(), levels_of(each).double()) for each in (symbols, changed)]
    with torch.no_grad():
        trained = [model(levels, STEP_DB).permute(0, 2, 3, 1) for model, levels in scenes]
    decoded = [
        torch.stack(
            [
                network(torch.from_numpy(tile), STEP_DB)
                for tile in input_levels(each, STEP_DB, NO_TRELLIS, BLOCK_TRELLIS.spacing)
            ]
        )
        for each in (symbols, changed)
    ]
    for before, after in (trained, decoded):
        difference = (after - before).abs().amax((0, 3)).numpy()
        assert difference.shape == (size, size)
        rows, columns = np.nonzero(difference > 0)
        for places in (rows, columns):
            assert (places.min(), places.max()) == (size // 2 - reach, size // 2 + reach)


def test_tiles_with_a_halo_are_the_whole_in_training_but_for_roundings(disturbed_refiner):
    refiner = disturbed_refiner(SMALL).double()
    around = 2 * refiner.reach
    symbols = symbols_like((1, 64, 30 + around, 26 + around))
    with torch.no_grad():
        whole = refiner(levels_of(symbols).double(), STEP_DB)
        for top, left, height, width in ((0, 0, 7, 5), (13, 9, 17, 17), (29, 25, 1, 1)):
            tile = symbols[:, :, top : top + height + around, left : left + width + around]
            expected = whole[:, :, top : top + height, left : left + width]
            torch.testing.assert_close(refiner(levels_of(tile).double(), STEP_DB), expected, rtol=0, atol=1e-9)


def test_a_level_shift_of_a_whole_scene_reaches_one_input_alone():
    """The lowest channel enters as differences and as a limited level."""
    symbols = symbols_like((1, 64, 12, 12))
    for shift in (2, 1000, 2**20):
        shifted = symbols.copy()
        shifted[:, 0] += shift
        before, after = (input_levels(each, STEP_DB, NO_TRELLIS, BLOCK_TRELLIS.spacing) for each in (symbols, shifted))
        differs = (after != before).any((0, 1, 2))
        assert np.flatnonzero(differs).tolist() == [67]


def test_loss_is_one_before_training_and_falls_in_a_few_steps(coder, signal):
    torch.manual_seed(0)
    model = LappedAutoencoder(SMALL, encoder_quantizer(coder), 0.0)
    batch = torch.from_numpy(signal).float()
    before = model.loss_at(batch, STEP_DB)
    assert before["loss"].item() == pytest.approx(1.0, abs=1e-5)
    assert before["gain_db"].item() == pytest.approx(0.0, abs=1e-4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        loss = model.loss_at(batch, STEP_DB)["loss"]
        loss.backward()
        optimizer.step()
    after = model.loss_at(batch, STEP_DB)
    assert after["loss"] < 0.97
    assert after["gain_db"] > 0.1
    assert after["rmse_db"] < before["rmse_db"]


def test_network_trains_on_the_input_and_the_latents_of_decoding(coder, signal):
    latents = coder.analyze(signal)
    levels, restored, border = encoder_quantizer(coder)(latents, STEP_DB)
    symbols = coder.quantize(latents, STEP_DB)
    assert coder.channels_with_trellis(STEP_DB).any()
    assert symbols.shape[2] == latents.shape[2] - 2 * border
    points, _ = points_from_the_format(symbols, coder.channels_with_trellis(STEP_DB))
    np.testing.assert_array_equal(
        levels, input_levels(points, STEP_DB, coder.channels_with_trellis(STEP_DB), BLOCK_TRELLIS.spacing)
    )
    np.testing.assert_array_equal(restored, coder.reconstruct(points, STEP_DB))


def test_error_of_the_latents_is_the_error_of_the_pixels(coder, signal):
    """The transform is orthonormal: the loss may be taken before the synthesis."""
    model = LappedAutoencoder(SMALL, encoder_quantizer(coder), 0.0)
    batch = torch.from_numpy(signal).float()
    _, restored, border = model.quantizer(model.analyze(batch).double().numpy(), STEP_DB)
    latents = model.analyze(batch)[:, :, border:-border, border:-border]
    error = torch.from_numpy(restored) - latents
    pixels = model.synthesize(error)
    # padding with zero latents keeps all the energy of the error in the picture
    assert (pixels**2).sum().item() == pytest.approx((error**2).sum().item(), rel=1e-3)


def test_loss_draws_its_step_from_the_generator_within_the_configured_range(coder, signal, monkeypatch):
    model = LappedAutoencoder(
        dataclasses.replace(SMALL, smallest_step_db=1.0, largest_step_db=8.0), encoder_quantizer(coder), 0.0
    )
    drawn = []
    monkeypatch.setattr(model, "loss_at", lambda _batch, step_db: drawn.append(step_db))
    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        model.loss(torch.zeros(1, 8, 8), generator, 0.0)
    assert 1.0 <= min(drawn) < 1.2
    assert 6.5 < max(drawn) <= 8.0
    assert np.median(drawn) == pytest.approx(np.sqrt(8.0), rel=0.35)  # uniform in the logarithm
    generator.manual_seed(3)
    model.loss(torch.zeros(1, 8, 8), generator, 0.0)
    assert drawn[-1] == drawn[0]


def test_basis_is_not_among_the_weights():
    names = set(LappedAutoencoder(SMALL).state_dict())
    assert all(name.startswith("refiner.") for name in names)


@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
def test_reach_of_the_config_is_that_of_the_layers(blocks):
    config = RefinerConfig(channels=4, blocks=blocks)
    assert LatentRefiner(config).reach == config.reach == blocks + 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 0},
        {"channels": 1025},
        {"blocks": 0},
        {"blocks": 33},
        {"smallest_step_db": 0.0},
        {"smallest_step_db": -1.0},
        {"smallest_step_db": 5.0, "largest_step_db": 4.0},
        {"smallest_step_db": float("nan")},
    ],
    ids=str,
)
def test_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="expected"):
        RefinerConfig(**wrong)


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.channels = 3
