"""The classic autoencoder applied to planes: any size, gaps, one grid of symbols, no seams, wrong arguments refused."""

import numpy as np
import pytest
import torch

from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.errors import DimensionError, ModelIntegrityError, RateError
from xsarcomp.models.classic.codec import ClassicCodec
from xsarcomp.scenes.simulation import simulate_scene
from xsarcomp.tiling import blended

pytestmark = pytest.mark.slow

STEP = 0.2


def restore(codec, planes, step=STEP):
    """Planes after encoding and decoding."""
    return codec.decode_planes(codec.encode_planes(planes, step), step, planes.shape[1:])


def coded_size(codec, plane, step):
    """Bytes of the coded symbols of a plane."""
    return len(encode_integers(codec.encode_planes(plane[None], step)[0]))


@pytest.fixture(scope="module")
def scene_db():
    """A simulated plane of 440 x 520 pixels, float32, dB, in steps of the signal: three tiles by three."""
    decibel = 10 * np.log10(simulate_scene((440, 520), seed=5, nodata_border=False)[0])
    return np.rint(512 * decibel) / 512  # the steps of the codec's signal


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 16, 16), (2, 33, 47), (1, 5, 300), (3, 17, 16)])
def test_planes_of_any_size_come_back_in_their_size(classic_codec, shape):
    planes = np.random.default_rng(0).normal(-14, 2, shape)
    restored = restore(classic_codec, planes)
    assert restored.shape == shape
    assert restored.dtype == np.float32
    assert np.isfinite(restored).all()


def test_restored_planes_resemble_the_original(classic_codec, scene_db):
    restored = restore(classic_codec, scene_db[None])[0]
    smooth = [plane.reshape(55, 8, 65, 8).mean((1, 3)) for plane in (scene_db, restored)]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.5


def test_symbols_are_the_rounded_latents_once_for_each_place(classic_codec, scene_db):
    symbols = classic_codec.encode_planes(scene_db[None], STEP)
    latents = classic_codec.analyze(scene_db)
    assert (
        latents.shape == classic_codec.latent_shape(scene_db.shape) == (6, 28, 33)
    )  # one grid, for any overlap of tiles
    assert symbols.dtype == np.int32
    np.testing.assert_array_equal(symbols, np.rint(latents / np.float32(STEP))[None])
    expected = classic_codec.synthesize(symbols[0].astype(np.float32) * np.float32(STEP))[:440, :520]
    np.testing.assert_array_equal(classic_codec.decode_planes(symbols, STEP, (440, 520))[0], expected)


def test_the_integer_coder_keeps_the_symbols_of_the_finest_and_the_coarsest_step(classic_codec, scene_db):
    for step in (2.0**-11, 4.0):
        (symbols,) = classic_codec.encode_planes(scene_db[None, :200, :100], step)
        np.testing.assert_array_equal(decode_integers(encode_integers(symbols), symbols.shape), symbols)


def test_bytes_are_near_the_entropy_of_the_symbols(classic_codec, scene_db):
    (symbols,) = classic_codec.encode_planes(scene_db[None], STEP)
    bits = 0.0
    for channel in symbols:
        counts = np.unique(channel, return_counts=True)[1]
        bits -= (counts * np.log2(counts / channel.size)).sum()
    assert 0.4 * bits < 8 * coded_size(classic_codec, scene_db, STEP) < 1.1 * bits


def test_coarser_steps_take_fewer_bytes(classic_codec, scene_db):
    sizes = [coded_size(classic_codec, scene_db, step) for step in (0.05, 0.2, 0.8, 3.0)]
    assert sizes == sorted(set(sizes), reverse=True)


def test_the_model_file_is_enough_to_decode_the_symbols(classic_codec, classic_content, scene_db):
    from xsarcomp.models.classic.model_file import classic_codec_from_bytes

    symbols = classic_codec.encode_planes(scene_db[None, :100, :90], STEP)
    planes = [
        codec.decode_planes(symbols, STEP, (100, 90))
        for codec in (classic_codec_from_bytes(classic_content), classic_codec)
    ]
    np.testing.assert_array_equal(*planes)


def test_invalid_pixels_are_filled_and_do_not_matter(classic_codec, scene_db):
    planes = scene_db[None, :120, :130].copy()
    planes[0, 30:90, 40:100] = np.nan
    symbols = classic_codec.encode_planes(planes, STEP)
    assert np.isfinite(classic_codec.decode_planes(symbols, STEP, (120, 130))).all()
    for other in (np.inf, -np.inf, 1e9):
        filled = np.where(np.isnan(planes), other, planes)
        np.testing.assert_array_equal(classic_codec.encode_planes(filled, STEP), symbols)


def test_planes_without_a_valid_pixel_are_constant(classic_codec):
    empty = restore(classic_codec, np.full((2, 40, 50), np.nan))
    level = restore(classic_codec, np.full((2, 40, 50), classic_codec.offset_db))
    assert np.ptp(empty) < 1e-3
    np.testing.assert_array_equal(empty, level)


def test_a_constant_image_stays_constant(classic_codec):
    for level in (-25.0, -14.0, 0.0):
        assert np.ptp(restore(classic_codec, np.full((1, 300, 450), level))) < 1e-3


def seam(image, lines):
    """Root mean square of the steps across some columns over that across all other borders of latents, right of 112."""
    columns = np.arange(112, image.shape[1], 16)
    steps = (np.diff(image.astype(np.float64), axis=1) ** 2).mean(0)[columns - 1]
    at_lines = np.isin(columns, lines)
    return np.sqrt(steps[at_lines].mean() / steps[~at_lines].mean())


def test_no_seam_shows_where_tiles_begin_and_end(classic_codec):
    image = np.random.default_rng(0).normal(-14, 1, (256, 640)).astype(np.float32)
    image[:, 20:60] += 19  # normalization makes the tile with it very different from the others
    latents = classic_codec.analyze(image)

    def decode(tile):
        with torch.inference_mode():
            return classic_codec.model.decibel(classic_codec.model.decode(torch.from_numpy(tile[None]))).numpy()

    # the same latents decoded in tiles without overlap: their borders must show, or this test could not fail
    apart = blended(decode, latents, tile=16, overlap=0, scale=16)[0]
    assert seam(apart, [256, 512]) > 2
    assert seam(classic_codec.synthesize(latents), [128, 192, 320, 384, 512, 576]) < 1.3


def test_where_tiles_begin_matters_little(classic_codec):
    """Homogeneous speckle: cut 96 pixels off, half a tile's advance; what changes is below the codec's own error."""
    generator = np.random.default_rng(0)
    plane = (10 * np.log10(generator.gamma(4, 0.25, (400, 400))) - 14).astype(np.float32)
    whole = restore(classic_codec, plane[None])[0]
    cut = restore(classic_codec, plane[None, 96:, 96:])[0]
    inside = np.s_[64:-64, 64:-64]  # edges are mirrored elsewhere
    difference = (cut - whole[96:, 96:])[inside]
    error = (whole - plane)[96:, 96:][inside]
    # below 0.5 on one processor, 0.7 on another: it depends on the rounding in the training of this small model
    assert 0 < np.sqrt((difference**2).mean()) < 0.85 * np.sqrt((error**2).mean())


def test_state_of_torch_is_left_alone(classic_codec):
    before = torch.random.get_rng_state()
    restore(classic_codec, np.full((1, 20, 20), -10.0))
    assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(20, 20), (0, 20, 20), (1, 0, 20), (1, 1, 4, 4)])
def test_planes_without_pixels_or_of_other_dimensions_are_refused(classic_codec, shape):
    with pytest.raises(DimensionError, match="expected \\(plane, y, x\\)"):
        classic_codec.encode_planes(np.zeros(shape), STEP)


@pytest.mark.parametrize("step", [0.0, -0.1, 5.0, float("nan"), 1e-9])
def test_steps_out_of_range_are_refused(classic_codec, step):
    with pytest.raises(RateError, match=f"step is {step}, expected"):
        classic_codec.encode_planes(np.zeros((1, 8, 8)), step)
    with pytest.raises(RateError, match=f"step is {step}, expected"):
        classic_codec.decode_planes(np.zeros((1, 6, 1, 1), np.int32), step, (8, 8))


@pytest.mark.parametrize("shape", [(6, 2, 1), (0, 6, 2, 1), (1, 5, 2, 1), (1, 6, 1, 1), (1, 6, 2, 2)])
def test_symbols_of_planes_of_another_shape_are_refused(classic_codec, shape):
    with pytest.raises(DimensionError, match="expected \\(plane, 6, 2, 1\\) for planes of 17 x 16 pixels"):
        classic_codec.decode_planes(np.zeros(shape, np.int32), STEP, (17, 16))


def test_weights_that_do_not_fit_are_refused(classic_codec):
    weights = {name: tensor.numpy() for name, tensor in classic_codec.model.state_dict().items()}
    first = next(iter(weights))
    network = {"latents": 6, "width": 4, "variant": "attention"}
    sizes = {"levels_db": (-40.0, -15.0, 10.0), "name": "test", "model_id": "0" * 64}
    ClassicCodec.from_weights(weights, network=network, **sizes)
    for wrong in (
        {name: array for name, array in weights.items() if name != first},
        {**weights, "more": np.zeros(3, np.float32)},
        {**weights, first: weights[first][:, :, :2]},
        {**weights, first: np.full_like(weights[first], np.nan)},
        {**weights, first: weights[first].astype(np.float64)},
    ):
        with pytest.raises(ModelIntegrityError, match="do not fit its network"):
            ClassicCodec.from_weights(wrong, network=network, **sizes)
    for unknown in ({**network, "depth": 3}, {**network, "variant": "other"}):
        with pytest.raises(ModelIntegrityError, match="do not fit its network"):
            ClassicCodec.from_weights(weights, network=unknown, **sizes)
