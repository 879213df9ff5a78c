"""The classic autoencoder as a codec: any size, gaps, honest bytes, no seams, damage named."""

import struct
import zlib

import numpy as np
import pytest
import torch

from xsarcomp.codec.residual_coding import decode_integers
from xsarcomp.errors import (
    CorruptStreamError,
    DimensionError,
    LimitExceededError,
    ModelError,
    ModelIntegrityError,
    UnsupportedFormatError,
)
from xsarcomp.models.classic.codec import ClassicCodec
from xsarcomp.scenes.simulation import simulate_scene
from xsarcomp.tiling import blended

STEP = 0.2
HEADER_BYTES = 32


@pytest.fixture(scope="module")
def scene_db():
    """A simulated plane of 440 x 520 pixels, float32, dB, in steps of the signal: three tiles by three."""
    decibel = 10 * np.log10(simulate_scene((440, 520), seed=5, nodata_border=False)[0])
    return np.rint(512 * decibel) / 512  # the steps of the codec's signal


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 16, 16), (2, 33, 47), (1, 5, 300), (3, 17, 16)])
def test_planes_of_any_size_come_back_in_their_size(classic_codec, shape):
    planes = np.random.default_rng(0).normal(-14, 2, shape)
    restored = classic_codec.decompress(classic_codec.compress(planes, STEP))
    assert restored.shape == shape
    assert restored.dtype == np.float32
    assert np.isfinite(restored).all()


def test_restored_planes_resemble_the_original(classic_codec, scene_db):
    restored = classic_codec.decompress(classic_codec.compress(scene_db[None], STEP))[0]
    smooth = [plane.reshape(55, 8, 65, 8).mean((1, 3)) for plane in (scene_db, restored)]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.5


def test_stream_holds_the_rounded_latents_once_a_place_and_nothing_else(classic_codec, scene_db):
    content = classic_codec.compress(scene_db[None], STEP)
    latents = classic_codec.latents(scene_db)
    assert latents.shape == (6, 28, 33)  # the grid is whole, whatever the overlap of tiles
    integers = decode_integers(content[HEADER_BYTES:], latents.shape)
    np.testing.assert_array_equal(integers, np.rint(latents / np.float32(STEP)))
    expected = classic_codec.restore(integers.astype(np.float32) * np.float32(STEP))[:440, :520]
    np.testing.assert_array_equal(classic_codec.decompress(content)[0], expected)


def test_bytes_are_near_the_entropy_of_the_integers(classic_codec, scene_db):
    integers = np.rint(classic_codec.latents(scene_db) / STEP)
    bits = 0.0
    for channel in integers:
        counts = np.unique(channel, return_counts=True)[1]
        bits -= (counts * np.log2(counts / channel.size)).sum()
    coded = 8 * (len(classic_codec.compress(scene_db[None], STEP)) - HEADER_BYTES)
    assert 0.4 * bits < coded < 1.1 * bits


def test_coarser_steps_take_fewer_bytes(classic_codec, scene_db):
    sizes = [len(classic_codec.compress(scene_db[None], step)) for step in (0.05, 0.2, 0.8, 3.0)]
    assert sizes == sorted(set(sizes), reverse=True)


def test_another_process_restores_the_stream_from_the_model_file_alone(classic_codec, classic_content, scene_db):
    from xsarcomp.models.classic.model_file import classic_codec_from_bytes

    content = classic_codec.compress(scene_db[None, :100, :90], STEP)
    other = classic_codec_from_bytes(classic_content)
    np.testing.assert_array_equal(other.decompress(bytes(content)), classic_codec.decompress(content))


def test_invalid_pixels_are_filled_and_do_not_matter(classic_codec, scene_db):
    planes = scene_db[None, :120, :130].copy()
    planes[0, 30:90, 40:100] = np.nan
    content = classic_codec.compress(planes, STEP)
    assert np.isfinite(classic_codec.decompress(content)).all()
    for other in (np.inf, -np.inf, 1e9):
        assert classic_codec.compress(np.where(np.isnan(planes), other, planes), STEP) == content


def test_planes_without_a_valid_pixel_are_constant(classic_codec):
    empty = classic_codec.decompress(classic_codec.compress(np.full((2, 40, 50), np.nan), STEP))
    level = classic_codec.decompress(classic_codec.compress(np.full((2, 40, 50), classic_codec.offset_db), STEP))
    assert np.ptp(empty) < 1e-3
    np.testing.assert_array_equal(empty, level)


def test_a_constant_image_stays_constant(classic_codec):
    for level in (-25.0, -14.0, 0.0):
        assert np.ptp(classic_codec.decompress(classic_codec.compress(np.full((1, 300, 450), level), STEP))) < 1e-3


def seam(image, lines):
    """Root mean square of the steps across some columns over that across all other borders of latents, right of 112."""
    columns = np.arange(112, image.shape[1], 16)
    steps = (np.diff(image.astype(np.float64), axis=1) ** 2).mean(0)[columns - 1]
    at_lines = np.isin(columns, lines)
    return np.sqrt(steps[at_lines].mean() / steps[~at_lines].mean())


def test_no_seam_shows_where_tiles_begin_and_end(classic_codec):
    image = np.random.default_rng(0).normal(-14, 1, (256, 640)).astype(np.float32)
    image[:, 20:60] += 19  # normalization makes the tile with it very different from the others
    latents = classic_codec.latents(image)

    def decode(tile):
        with torch.inference_mode():
            return classic_codec.model.decibel(classic_codec.model.decode(torch.from_numpy(tile[None]))).numpy()

    # the same latents decoded in tiles without overlap: their borders must show, or this test could not fail
    apart = blended(decode, latents, tile=16, overlap=0, scale=16)[0]
    assert seam(apart, [256, 512]) > 2
    assert seam(classic_codec.restore(latents), [128, 192, 320, 384, 512, 576]) < 1.3


def test_where_tiles_begin_matters_little(classic_codec):
    """Homogeneous speckle: cut 96 pixels off, half a tile's advance; what changes is well below the codec's own error."""
    generator = np.random.default_rng(0)
    plane = (10 * np.log10(generator.gamma(4, 0.25, (400, 400))) - 14).astype(np.float32)
    whole = classic_codec.decompress(classic_codec.compress(plane[None], STEP))[0]
    cut = classic_codec.decompress(classic_codec.compress(plane[None, 96:, 96:], STEP))[0]
    inside = np.s_[64:-64, 64:-64]  # edges are mirrored elsewhere
    difference = (cut - whole[96:, 96:])[inside]
    error = (whole - plane)[96:, 96:][inside]
    assert 0 < np.sqrt((difference**2).mean()) < 0.5 * np.sqrt((error**2).mean())


def test_state_of_torch_is_left_alone(classic_codec):
    before = torch.random.get_rng_state()
    classic_codec.decompress(classic_codec.compress(np.full((1, 20, 20), -10.0), STEP))
    assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(20, 20), (0, 20, 20), (1, 0, 20), (1, 1, 4, 4)])
def test_planes_without_pixels_or_of_other_dimensions_are_refused(classic_codec, shape):
    with pytest.raises(DimensionError, match="expected \\(plane, y, x\\)"):
        classic_codec.compress(np.zeros(shape), STEP)


@pytest.mark.parametrize("step", [0.0, -0.1, 5.0, float("nan"), 1e-9])
def test_steps_beyond_the_format_are_refused(classic_codec, step):
    with pytest.raises(LimitExceededError, match="expected a step from"):
        classic_codec.compress(np.zeros((1, 8, 8)), step)


def test_damage_is_named(classic_codec):
    content = classic_codec.compress(np.random.default_rng(0).normal(-14, 2, (1, 40, 40)), STEP)
    for damaged in (content[:-4], content + b"\0\0\0\0", content[:-1] + bytes([content[-1] ^ 1])):
        with pytest.raises(CorruptStreamError, match="checksum"):
            classic_codec.decompress(damaged)
    for foreign in (b"", content[:20], b"XSRC" + content[4:]):
        with pytest.raises(UnsupportedFormatError, match="expected a stream of a classic autoencoder"):
            classic_codec.decompress(foreign)
    with pytest.raises(UnsupportedFormatError, match="version 9"):
        classic_codec.decompress(content[:4] + b"\x09" + content[5:])


def changed(content, **fields):
    """A stream with other numbers in its header, and a checksum that fits."""
    places = {"planes": ("<H", 6), "rows": ("<I", 8), "columns": ("<I", 12), "step": ("<f", 16)}
    stream = bytearray(content)
    for name, value in fields.items():
        form, place = places[name]
        struct.pack_into(form, stream, place, value)
    struct.pack_into("<I", stream, 28, zlib.crc32(stream[HEADER_BYTES:]))
    return bytes(stream)


def test_headers_that_ask_for_too_much_or_for_nothing_are_refused(classic_codec):
    content = classic_codec.compress(np.zeros((1, 40, 40)), STEP)
    assert changed(content) == content
    for fields in ({"rows": 2**31}, {"planes": 65535, "rows": 4096}, {"planes": 0}, {"columns": 0}):
        with pytest.raises(LimitExceededError, match="expected 1 to"):
            classic_codec.decompress(changed(content, **fields))
    for step in (0.0, float("nan"), float("inf")):
        with pytest.raises(CorruptStreamError, match="has the step"):
            classic_codec.decompress(changed(content, step=step))
    with pytest.raises(CorruptStreamError):
        classic_codec.decompress(changed(content, rows=900))


def test_streams_of_another_model_are_refused(classic_codec):
    content = classic_codec.compress(np.zeros((1, 8, 8)), STEP)
    other = ClassicCodec(name="other", model_id="0" * 64, model=classic_codec.model, offset_db=-15.0)
    with pytest.raises(ModelError, match="was written with the model"):
        other.decompress(content)


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
