"""Mean levels: the mean power of every tile comes back, whatever the scene and the step, and wrong levels do no harm."""

import dataclasses
import hashlib

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.leveled import LEVELED, leveled_settings, releveled, tile_errors_db
from xsarcomp.codec import chunk
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.frame import read_frame, write_frame
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.integer_chunk import decode_integer_chunk
from xsarcomp.codec.mean_levels import (
    LEVEL_STEP_DB,
    UNKNOWN,
    channel_from_levels,
    compute_levels,
    levels_from_channel,
    means_from_levels,
    pack_levels,
    restore_means,
    unpack_levels,
)
from xsarcomp.codec.settings import NO_GUARANTEES, Settings
from xsarcomp.errors import BitstreamError, CorruptStreamError, DimensionError
from xsarcomp.radiometry.pixel_classes import NAN, VALID, classify

HALF_STEP_DB = LEVEL_STEP_DB / 2 + 2e-4  # and what float32 rounds
MODELS = ("s1-grd-10m-lapped", "s1-grd-10m")
LEVELS = st.integers(-(2**20) + 1, UNKNOWN)


def scene(seed, shape, level_db, spread_db, kind):
    """Decibels of a scene with holes, bright targets, constant tiles, a tile of one valid pixel or a tile of none."""
    generator = np.random.default_rng(seed)
    decibel = level_db + generator.normal(0, spread_db, shape) + 3 * generator.normal(0, 1, (shape[0], 1, 1))
    if kind == "targets":
        decibel += 60 * (generator.random(shape) < 0.001)
    if kind == "constant":
        decibel[:, :70, :70] = level_db
    holes = generator.random(shape) < (0.3 if kind == "holes" else 0.0)
    if kind in ("single", "empty"):
        holes[:, :64, :64] = True
    if kind == "single":
        holes[:, min(5, shape[1] - 1), min(7, shape[2] - 1)] = False
    return decibel, holes


def values_of(decibel, holes, scale, dtype, seed):
    """Backscatter with invalid pixels of every sort, and its nodata value."""
    values = (decibel if scale == "decibel" else 10 ** (decibel / {"power": 10, "amplitude": 20}[scale])).astype(dtype)
    sorts = [np.nan, -9999.0, np.inf] if scale == "decibel" else [np.nan, -9999.0, 0.0, -1e-3, -0.0]
    values[holes] = np.random.default_rng(seed).choice(sorts, int(holes.sum()))
    return values, -9999.0


@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(1, 7, 9), (1, 64, 64), (2, 65, 100), (1, 131, 70), (1, 1, 150)]),
    level_db=st.sampled_from([-300.0, -60.0, -12.0, 0.0, 40.0, 300.0]),
    spread_db=st.sampled_from([0.0, 2.0, 6.0]),
    kind=st.sampled_from(["plain", "holes", "targets", "constant", "single", "empty"]),
    scale=st.sampled_from(["power", "amplitude", "decibel"]),
    dtype=st.sampled_from(["f4", "f8", ">f4"]),
    step_db=st.sampled_from([0.02, 0.7, 3.0, 12.0, 64.0]),
    model=st.sampled_from(MODELS),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_power_of_every_tile_is_kept_to_half_a_level(
    seed, shape, level_db, spread_db, kind, scale, dtype, step_db, model
):
    values, nodata = values_of(*scene(seed, shape, level_db, spread_db, kind), scale, dtype, seed)
    coder = load_coder(model)
    restored = chunk.decode_backscatter(
        chunk.encode_backscatter(values, leveled_settings(step_db, scale, nodata), coder), nodata, coder
    )
    classes = classify(values, scale, nodata)
    np.testing.assert_array_equal(classify(restored, scale, nodata), classes)
    assert np.abs(tile_errors_db(restored, values, scale, classes == VALID)).max(initial=0) <= HALF_STEP_DB


def test_without_levels_the_means_of_such_scenes_are_off():
    decibel, holes = scene(1, (1, 128, 128), -12.0, 6.0, "targets")
    values, _ = values_of(decibel, holes, "power", "f4", 1)
    coder, plain = load_coder(MODELS[0]), Settings(step_db=12.0, scale="power", guarantees=NO_GUARANTEES)
    restored = chunk.decode_backscatter(chunk.encode_backscatter(values, plain, coder), None, coder)
    assert np.abs(tile_errors_db(restored, values, "power", ~holes)).max() > 10 * HALF_STEP_DB


@given(st.tuples(*(st.integers(1, 5) for _ in range(3))), st.data())
@settings(max_examples=40, deadline=None)
def test_levels_come_back_from_their_section_and_from_their_channel(shape, data):
    count = int(np.prod(shape))
    levels = np.array(data.draw(st.lists(LEVELS, min_size=count, max_size=count)), np.int32).reshape(shape)
    np.testing.assert_array_equal(unpack_levels(pack_levels(levels), shape), levels)
    blocks = tuple(8 * size - data.draw(st.integers(0, 7)) for size in shape[1:])
    channel = channel_from_levels(levels, blocks)
    assert channel.shape == (shape[0], *blocks)
    np.testing.assert_array_equal(levels_from_channel(channel), levels)


def refused(section, levels):
    """Whether a section is refused; else it means the same levels."""
    try:
        np.testing.assert_array_equal(unpack_levels(section, levels.shape), levels)
    except CorruptStreamError:
        return True
    return False


def test_no_flipped_bit_of_the_section_changes_a_level_silently():
    levels = np.random.default_rng(2).integers(-40, 40, (2, 3, 4)).astype(np.int32)
    levels[0, 1, 2] = UNKNOWN
    section, passed = pack_levels(levels), 0
    for bit in range(8 * len(section)):
        damaged = bytearray(section)
        damaged[bit // 8] ^= 1 << bit % 8
        passed += not refused(bytes(damaged), levels)
    assert passed <= 32  # low bits of the last word, which no integer needs


def test_a_section_that_ends_early_or_late_or_is_of_another_shape_is_refused():
    levels = np.arange(-600, 600, 100, dtype=np.int32).reshape(1, 3, 4)
    section = pack_levels(levels)
    assert len(section) > 24
    assert all(refused(section[:length], levels) for length in range(len(section) - 4))
    assert all(refused(section + more, levels) for more in (b"\0", bytes(8), section[8:]))
    for one_word in (section[:-4], section + bytes(4), section + b"\1\0\0\0"):
        refused(one_word, levels)  # or it means the same: the decoder reads ahead, and a missing word is 0
    for shape in ((1, 3, 5), (1, 2, 4)):
        with pytest.raises(CorruptStreamError):
            unpack_levels(section, shape)


def test_levels_do_not_depend_on_byte_order_type_or_layout_of_the_memory():
    decibel, holes = scene(5, (2, 130, 90), -12.0, 6.0, "holes")
    values, nodata = values_of(decibel, holes, "power", "f4", 5)
    coder, given_settings = load_coder(MODELS[0]), leveled_settings(3.0, "power", nodata)
    frame = read_frame(chunk.encode_backscatter(values, given_settings, coder))
    wide = np.zeros((2, 130, 180), "f4")
    wide[:, :, ::2] = values
    for other in (values.astype(">f4"), np.asfortranarray(values), wide[:, :, ::2], values.astype("f8")):
        again = read_frame(chunk.encode_backscatter(other, given_settings, coder))
        assert again.mean_levels == frame.mean_levels != b""


def test_levels_of_a_window_of_whole_tiles_are_those_of_the_whole():
    decibel, holes = scene(6, (1, 200, 200), -12.0, 6.0, "holes")
    values, classes = 10 ** (decibel / 10), np.where(holes, NAN, VALID).astype(np.uint8)
    coder = load_coder(MODELS[0])
    symbols = np.random.default_rng(6).integers(-3, 4, (1, CHANNELS, 25, 25)).astype(np.int32)
    whole = compute_levels(values, "power", classes, symbols, coder, 3.0)
    place, blocks = np.s_[:, 64:192, 128:], np.s_[:, :, 8:24, 16:]
    part = compute_levels(values[place], "power", classes[place], symbols[blocks], coder, 3.0)
    np.testing.assert_array_equal(part, whole[:, 1:3, 2:])


def test_tiles_without_a_valid_pixel_have_level_zero_and_means_that_cannot_be_are_unknown():
    coder, symbols = load_coder(MODELS[0]), np.zeros((1, CHANNELS, 8, 16), np.int32)
    values, classes = np.ones((1, 64, 128)), np.zeros((1, 64, 128), np.uint8)
    classes[:, :, :64] = NAN
    values[:, :, 64:] = np.inf
    levels = compute_levels(values, "power", classes, symbols, coder, 3.0)
    np.testing.assert_array_equal(levels, [[[0, UNKNOWN]]])
    assert np.isnan(means_from_levels(levels, symbols, coder, 3.0)[0, 0, 1])


def test_a_tile_of_unknown_mean_is_decoded_as_it_is_and_its_neighbours_are_not():
    values, _ = values_of(*scene(7, (1, 64, 128), -12.0, 6.0, "targets"), "power", "f4", 7)
    coder = load_coder(MODELS[0])
    content = chunk.encode_backscatter(values, leveled_settings(12.0, "power"), coder)
    plain = chunk.encode_backscatter(values, Settings(step_db=12.0, scale="power"), coder)
    levels = unpack_levels(read_frame(content).mean_levels, (1, 1, 2))
    levels[0, 0, 0] = UNKNOWN
    found = chunk.decode_backscatter(releveled(content, levels), None, coder)
    np.testing.assert_array_equal(found[:, :, :64], chunk.decode_backscatter(plain, None, coder)[:, :, :64])
    np.testing.assert_array_equal(found[:, :, 64:], chunk.decode_backscatter(content, None, coder)[:, :, 64:])


@pytest.mark.parametrize("level", [-(2**20) + 1, -(2**20) + 2, -20000, -5000, 5000, 20000, UNKNOWN - 1])
@pytest.mark.parametrize(("scale", "dtype"), [("power", "f4"), ("amplitude", "u2"), ("decibel", "f8"), ("power", "f2")])
def test_levels_that_no_encoder_writes_decode_to_values_of_the_scale(level, scale, dtype):
    decibel, holes = scene(8, (1, 40, 70), 40.0 if dtype == "u2" else -12.0, 3.0, "plain")
    values = values_of(decibel, holes, scale, "f8", 8)[0].astype(dtype)
    coder = load_coder(MODELS[0])
    content = chunk.encode_backscatter(values, leveled_settings(4.0, scale), coder)
    found = chunk.decode_backscatter(releveled(content, np.full((1, 1, 2), level, np.int32)), None, coder)
    np.testing.assert_array_equal(classify(found, scale, None), VALID)


def test_a_mean_that_is_no_number_or_out_of_reach_leaves_a_tile_as_it_is():
    signal = np.random.default_rng(9).normal(0, 3, (1, 64, 64)).astype(np.float32)
    classes = np.zeros(signal.shape, np.uint8)
    for mean_db in (np.nan, np.inf, -np.inf, 1e9, -1e9):
        np.testing.assert_array_equal(restore_means(signal, classes, np.array([[[mean_db]]]), 0.1), signal)
    np.testing.assert_array_equal(restore_means(signal, classes + NAN, np.zeros((1, 1, 1)), 0.1), signal)


def test_the_sea_around_a_ship_stays_as_it_is_and_the_ship_gets_its_power_back():
    generator = np.random.default_rng(3)
    original = generator.normal(-10, 1.5, (1, 64, 64))
    original[0, 30:33, 40:44] = 26.0
    signal = (original + generator.normal(0, 0.3, original.shape)).astype(np.float32)
    signal[0, 30:33, 40:44] -= 3.0
    mean_db = 10 * np.log10(np.mean(10 ** (original / 10)))
    moved = restore_means(signal, np.zeros(signal.shape, np.uint8), np.full((1, 1, 1), mean_db), 0.0) - signal
    sea = np.ones(signal.shape, bool)
    sea[0, 30:33, 40:44] = False
    assert np.abs(moved[sea]).mean() < 0.1  # one gain for all would move it by 3 dB
    assert np.abs(moved[~sea] - 3).max() < 1


def frame_of_latents(planes=1, blocks=(9, 10), seed=4):
    """A frame of 65 latents, and the latents."""
    generator = np.random.default_rng(seed)
    latents = np.zeros((planes, CHANNELS + 1, *blocks), np.int32)
    latents[:, :5] = generator.integers(-3, 4, (planes, 5, *blocks))
    tiles = [-(-size // 8) for size in blocks]
    latents[:, CHANNELS, ::8, ::8] = generator.integers(-9, 10, (planes, *tiles))
    return chunk.encode_latents(latents, 5, load_coder(MODELS[0])), latents


def test_latents_with_levels_come_back_and_those_of_a_noisy_chunk_too():
    coder = load_coder(MODELS[0])
    content, latents = frame_of_latents(2)
    np.testing.assert_array_equal(chunk.decode_latents(content, coder), latents)
    np.testing.assert_array_equal(chunk.decode_lowest_latents(content, coder), latents[:, 0])
    noisy = np.random.default_rng(1).integers(-(2**20) + 1, 2**20, latents.shape).astype(np.int32)
    noisy[:, 0] //= 4  # differences of the lowest are coded
    noisy[:, CHANNELS] = latents[:, CHANNELS]
    content = chunk.encode_latents(noisy, 5, coder)
    assert read_frame(content).verbatim
    np.testing.assert_array_equal(chunk.decode_latents(content, coder), noisy)
    np.testing.assert_array_equal(chunk.decode_lowest_latents(content, coder), noisy[:, 0])


def test_latents_whose_levels_lie_beside_the_first_blocks_of_tiles_are_refused_both_ways():
    coder = load_coder(MODELS[0])
    content, latents = frame_of_latents()
    latents[0, CHANNELS, 3, 0] = 7
    with pytest.raises(DimensionError, match="does not begin at a tile"):
        chunk.encode_latents(latents, 5, coder)
    values = latents.tobytes()
    changes = {"symbols": values, "symbol_hash": hashlib.blake2b(values, digest_size=8).digest(), "verbatim": True}
    stray = dataclasses.replace(read_frame(content), mean_levels=b"", **changes)
    with pytest.raises(CorruptStreamError, match="beside the first blocks"):
        chunk.decode_latents(write_frame(stray), coder)


def wrong_latents():
    """Changes of a frame of 65 latents that no encoder makes."""
    good = pack_levels(np.full((1, 2, 2), 9, np.int32))
    yield "no section", {"mean_levels": b""}
    yield "64 latents with a section", {"shape": (1, CHANNELS, 9, 10)}
    yield "66 latents", {"shape": (1, CHANNELS + 2, 9, 10)}
    yield "another shape", {"shape": (1, CHANNELS + 1, 9, 18)}
    yield "more planes", {"shape": (2, CHANNELS + 1, 9, 10)}
    yield "corrections instead", {"mean_levels": b"", "guarantee_data": good}
    yield "a part of the hash", {"mean_levels": good[:5]}
    yield "the hash alone", {"mean_levels": good[:8]}
    yield "more words", {"mean_levels": good + bytes(8)}
    yield "integers", {"kind": 3, "anchor": 0, "model_id": "0" * 16}


@pytest.mark.parametrize(
    ("change"), [change for _, change in wrong_latents()], ids=[name for name, _ in wrong_latents()]
)
def test_frames_of_latents_with_a_section_that_does_not_fit_are_refused(change):
    coder = load_coder(MODELS[0])
    content = write_frame(dataclasses.replace(read_frame(frame_of_latents()[0]), **change))
    with pytest.raises(BitstreamError):
        decode_integer_chunk(content) if "kind" in change else chunk.decode_latents(content, coder)


@pytest.mark.parametrize("flags", [8 | LEVELED, 16 | LEVELED, 1 | 16 | LEVELED])
def test_flags_that_exclude_each_other_are_refused(flags):
    content = bytearray(frame_of_latents()[0])
    content[8:10] = flags.to_bytes(2, "little")
    header = 54 + 4 * content[11]
    content[header : header + 4] = google_crc32c.value(bytes(content[:header])).to_bytes(4, "little")
    with pytest.raises(CorruptStreamError):
        read_frame(bytes(content))


@pytest.mark.parametrize("distance_db", [-900, -400, -150, -70, -20, 20, 70, 150, 400, 900])
def test_a_mean_far_from_what_was_decoded_is_met_in_every_tile(distance_db):
    signal = np.random.default_rng(12).normal(0, 5, (1, 100, 64)).astype(np.float32)
    classes = np.where(np.random.default_rng(13).random(signal.shape) < 0.2, NAN, VALID).astype(np.uint8)
    means_db = np.full((1, 2, 1), float(distance_db))
    moved = restore_means(signal, classes, means_db, 0.0).astype(np.float64) - distance_db
    for tile in (np.s_[:, :64], np.s_[:, 64:]):
        valid = classes[tile] == VALID
        assert abs(10 * np.log10(np.mean(10 ** (moved[tile][valid] / 10)))) < 1e-3
