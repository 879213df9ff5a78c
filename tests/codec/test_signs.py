"""Contexts of signs: features by their definition, exact probabilities, mirrored scenes, and what they save."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.block_paths import optimized_symbols
from tests.support.format_decoder import RangeDecoderFromTheFormat, sign_prediction, sign_weights, signs_from_the_format
from xsarcomp.codec import lapped
from xsarcomp.codec.entropy_coding import coded_channel_count, decode_symbols, encode_symbols, estimate_bits
from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    FREQUENCY_TOTAL,
    LARGEST_MAGNITUDE,
    SIGN_TERMS,
    EntropyTables,
)
from xsarcomp.codec.range_coder import RangeEncoder
from xsarcomp.codec.signs import FEATURE_CLIP, FEATURE_TAPS, SignedValues, traverse_signs
from xsarcomp.errors import CorruptStreamError
from xsarcomp.models.refiner.sign_tables import empty_signs
from xsarcomp.models.refiner.tables import fit_anchor


def with_signs(tables, signs):
    """Tables with other sign tables, the same for all anchors."""
    arrays = {name: getattr(tables, name) for name in EntropyTables.names()}
    return EntropyTables(
        **arrays | {name: np.stack([array] * len(tables.frequencies)) for name, array in signs.items()}
    )


def random_signs(seed, weight=2**15 - 1):
    """Sign tables that obey the rules, whatever they mean: any earlier channel, all kinds, weights up to the largest."""
    generator = np.random.default_rng(seed)
    signs = empty_signs()
    for position, channel in enumerate(CHANNEL_ORDER[1:], 1):
        for phase in (0, 1):
            terms = [(source, kind) for source in CHANNEL_ORDER[1:position] for kind in range(8)]
            terms += [(0, kind) for kind in range(3, 8)] + ([(channel, 1), (channel, 2)] if phase else [])
            for term in range(generator.integers(0, SIGN_TERMS + 1)):
                source, kind = terms[generator.integers(len(terms))]
                signs["sign_term_channels"][channel, phase, term] = source
                signs["sign_term_kinds"][channel, phase, term] = kind
                signs["sign_term_weights"][channel, phase, term] = generator.integers(-weight - 1, weight + 1)
    shape = signs["sign_thresholds"].shape
    signs["sign_thresholds"] = np.sort(np.exp(generator.uniform(0, 20, shape)).astype(np.int32), axis=-1)
    shape = signs["sign_frequencies"].shape
    signs["sign_frequencies"] = generator.choice(
        np.array([1, 2, 300, 20_000, 32_767, 32_768, 32_769, 50_000, 65_535], np.uint16), shape
    )
    return signs


def laplace(shape, spread, seed=0):
    return np.rint(np.random.default_rng(seed).laplace(0, spread, shape)).astype(np.int32)


def sign_bits(symbols, tables, anchor):
    """Ideal code length of the signs of all channels but the lowest."""
    known = SignedValues(symbols.shape)
    known.add_lowest(symbols[:, 0])
    bits = 0.0
    for channel in CHANNEL_ORDER[1:]:
        flat = symbols[:, channel].reshape(-1)

        def code(values, index, predicted, agreements, flat=flat):
            nonlocal bits
            surprises, chances = (flat[index] < 0) != predicted, 1 - agreements / FREQUENCY_TOTAL
            bits -= np.log2(np.where(surprises, chances, 1 - chances)).sum()
            values[index] = flat[index]

        np.testing.assert_array_equal(traverse_signs(known, tables, anchor, channel, np.abs(flat), code), flat)
    return bits


@pytest.fixture(scope="module")
def chosen(coder, scene):
    """Symbols of a scene that the tables were not fitted to, of odd height and width."""
    decibel = 10 * np.log10(np.nan_to_num(scene["vv"].values[20:236, 20:284].astype(float), nan=0.05))
    signal = np.pad(np.rint((decibel[None] + 15) * 512) / 512, ((0, 0), (4, 4), (4, 4)), mode="symmetric")
    symbols = optimized_symbols(coder.analyze(signal), coder.tables, 0, coder.shifts[0], 1.0, 0.12)
    assert symbols.shape[2] % 2 == symbols.shape[3] % 2 == 1
    return symbols


@pytest.mark.parametrize(
    ("source", "kind"),
    [*((1, kind) for kind in range(len(FEATURE_TAPS))), *((0, kind) for kind in range(3, len(FEATURE_TAPS)))],
)
@pytest.mark.parametrize("shape", [(1, 64, 1, 1), (2, 64, 1, 4), (1, 64, 3, 1), (2, 64, 4, 5)])
def test_features_are_those_of_the_format(coder, source, kind, shape):
    symbols = laplace(shape, 300)
    signs = empty_signs()
    signs["sign_term_channels"][9, :, 0], signs["sign_term_kinds"][9, :, 0] = source, kind
    signs["sign_term_weights"][9, :, 0] = 1
    tables = with_signs(coder.tables, signs)
    known = SignedValues(shape)
    known.add_lowest(symbols[:, 0])
    known.add(1, np.arange(symbols[:, 1].size), np.ascontiguousarray(symbols[:, 1]).reshape(-1))
    ones = np.ones(symbols[:, 1].size, np.int32)
    for phase in (0, 1):
        index, places = known.phase(ones, phase)
        found = known.predict(
            places, *(signs[f"sign_term_{name}"][9, phase] for name in ("channels", "kinds", "weights"))
        )
        at = [np.unravel_index(i, symbols[:, 1].shape) for i in index]
        assert found.tolist() == [sign_prediction(symbols, tables, 0, 9, place) for place in at]
        assert all(sum(place[1:]) % 2 == phase for place in at)


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 2), st.just(64), st.integers(1, 5), st.integers(1, 5)),
    spread=st.sampled_from([0.3, 3.0, 3e3]),
)
@settings(deadline=None, max_examples=25)
def test_signs_come_back_under_any_tables_that_obey_the_rules(coder, seed, shape, spread):
    symbols = laplace(shape, spread, seed)
    symbols[0, 1 + seed % 63, 0, 0] = (LARGEST_MAGNITUDE - 1) * (1 - 2 * (seed % 2))
    symbols[0, 0, -1, -1] = LARGEST_MAGNITUDE // 2 - 1
    tables = with_signs(coder.tables, random_signs(seed))
    payload = encode_symbols(symbols, tables, 1)
    np.testing.assert_array_equal(decode_symbols(payload, shape, tables, 1), symbols)
    assert 8 * len(payload) == pytest.approx(estimate_bits(symbols, tables, 1), rel=0.01, abs=512)


def test_cost_of_signs_is_that_of_the_format(coder):
    symbols = laplace((2, 64, 5, 4), 2)
    tables = with_signs(coder.tables, random_signs(3, weight=50))
    coded = [sign for channel in CHANNEL_ORDER[1:] for sign in signs_from_the_format(symbols, tables, 0, channel)]
    assert len(coded) == np.count_nonzero(symbols[:, 1:])
    ideal = sum(24 - np.log2(weights[bit]) for weights, bit in coded)
    assert sign_bits(symbols, tables, 0) == pytest.approx(ideal, rel=1e-4)


def test_the_largest_prediction_fits_into_its_integer():
    assert SIGN_TERMS * FEATURE_CLIP * 2**15 < 2**28
    known = SignedValues((1, 64, 3, 3))
    extreme = (LARGEST_MAGNITUDE - 1) * (1 - 2 * (np.add.outer(np.arange(3), np.arange(3)) % 2))
    known.add_lowest(extreme[None].astype(np.int32))
    ones = np.ones(9, np.int32)
    for sign in (-1, 1):
        sums = known.predict(
            known.phase(ones, 0)[1],
            np.zeros(SIGN_TERMS, np.int16),
            np.full(SIGN_TERMS, 6, np.uint8),
            np.full(SIGN_TERMS, sign * (2**15 - 1), np.int16),
        )
        assert -sign * sums[2] == SIGN_TERMS * FEATURE_CLIP * (2**15 - 1)


@pytest.mark.parametrize(("lowest", "highest"), [(1, 65535), (1, 4), (65532, 65535), (32764, 32772)])
def test_frequencies_of_signs_reach_the_coder_as_the_format_says(lowest, highest):
    generator = np.random.default_rng(lowest)
    agreements = generator.integers(lowest, highest + 1, 5000)
    bits = (generator.random(5000) >= agreements / 65536).astype(np.int32)
    values, index = 1 - 2 * bits, np.arange(bits.size)
    encoder = RangeEncoder()
    encoder.encode_signs(values, index, np.zeros(bits.size, bool), agreements.astype(np.uint16))
    decoder = RangeDecoderFromTheFormat(encoder.finish()[0])
    assert [decoder.decode(sign_weights(int(agreement))) for agreement in agreements] == bits.tolist()
    assert next(decoder.words, None) is None


def mirrored(symbols, rows, columns):
    """Symbols of the mirrored scene: places change, and channels of odd frequency their sign."""
    channel = np.arange(CHANNELS)
    flips = ((channel // 8) % 2 * rows + (channel % 8) % 2 * columns) % 2
    turned = symbols[:, :, :: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(turned * (1 - 2 * flips[:, None, None]), np.int32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 1), (1, 1)])
def test_signs_of_a_mirrored_scene_cost_the_same(coder, chosen, rows, columns):
    bits = sign_bits(chosen, coder.tables, 0)
    assert sign_bits(mirrored(chosen, rows, columns), coder.tables, 0) == pytest.approx(bits, rel=1e-12)


def test_a_scene_in_its_negative_costs_the_same(coder, chosen):
    assert sign_bits(-chosen, coder.tables, 0) == pytest.approx(sign_bits(chosen, coder.tables, 0), rel=1e-12)


def test_signs_of_a_scene_cost_less_than_a_bit_each(coder, chosen):
    assert sign_bits(chosen, coder.tables, 0) < 0.99 * np.count_nonzero(chosen[:, 1:])


def real_latents(folder, pattern, count):
    """Latents of the first real chips in dB, shape (1, latent=64, y_latent, x_latent) each."""
    rasterio = pytest.importorskip("rasterio")
    basis = lapped.lapped_basis()
    paths = [path for path in sorted(folder.glob(pattern)) if not path.stem.endswith("_water")]
    for path in paths[:count]:
        with rasterio.open(path) as file:
            decibel = file.read(1)[:256, :256].astype(np.float64)
        signal = np.rint((np.nan_to_num(decibel, nan=-15.0, neginf=-15.0) + 15) * 512) / 512
        yield lapped.analyze(np.pad(signal[None], ((0, 0), (4, 4), (4, 4)), mode="symmetric"), basis)


@pytest.mark.slow
@pytest.mark.data
def test_signs_of_real_scenes_cost_less_than_a_bit_each_under_tables_of_others(sar_data):
    latents = list(real_latents(sar_data, "train/grd_decibel/*.tif", 6))
    arrays, shifts, _ = fit_anchor(latents, 2.0, 0.12, rounds=0)
    tables = EntropyTables(**{name: array[None] for name, array in arrays.items()})
    bits = signs = size = estimated = 0
    for plane in real_latents(sar_data, "validation/grd_decibel/*.tif", 3):
        symbols = optimized_symbols(plane, tables, 0, shifts, 2.0, 0.12)
        bits += sign_bits(symbols, tables, 0)
        signs += np.count_nonzero(symbols[:, 1:])
        size += 8 * len(encode_symbols(symbols, tables, 0))
        estimated += estimate_bits(symbols, tables, 0)
    assert bits < 0.97 * signs
    assert size == pytest.approx(estimated, abs=1e-3 * estimated + 3 * 96)  # each chunk ends on whole words and bytes


def test_signs_at_random_cost_hardly_more_than_a_bit_each(coder, chosen):
    random = chosen * np.random.default_rng(5).choice(np.array([-1, 1], np.int32), chosen.shape)
    assert sign_bits(random, coder.tables, 0) < 1.1 * np.count_nonzero(chosen[:, 1:])


def test_without_sign_terms_each_sign_costs_one_bit(coder, chosen):
    tables = with_signs(coder.tables, empty_signs())
    assert sign_bits(chosen, tables, 0) == np.count_nonzero(chosen[:, 1:])


def test_the_coded_size_is_the_estimate(coder, chosen):
    size = 8 * len(encode_symbols(chosen, coder.tables, 0))
    assert size == pytest.approx(estimate_bits(chosen, coder.tables, 0), rel=1e-3)


def test_contexts_save_what_the_estimate_says(coder, chosen):
    plain = with_signs(coder.tables, empty_signs())
    saved = len(encode_symbols(chosen, plain, 0)) - len(encode_symbols(chosen, coder.tables, 0))
    expected = np.count_nonzero(chosen[:, 1:]) - sign_bits(chosen, coder.tables, 0)
    assert 8 * saved == pytest.approx(expected, abs=128)


def test_latents_in_quiet_blocks_count_as_zero_and_come_back(coder):
    symbols = laplace((2, 64, 14, 19), 2)
    symbols[:, 1:, 4:12, 4:16] = 0
    tables = with_signs(coder.tables, random_signs(11, weight=300))
    payload = encode_symbols(symbols, tables, 0)
    assert payload[0] & 0x80
    np.testing.assert_array_equal(decode_symbols(payload, symbols.shape, tables, 0), symbols)
    assert 8 * len(payload) == pytest.approx(estimate_bits(symbols, tables, 0), rel=0.01, abs=64)


def test_planes_do_not_see_each_other(coder, chosen):
    pair = np.concatenate([chosen, -chosen[:, :, ::-1]])
    alone = sum(sign_bits(np.ascontiguousarray(plane[None]), coder.tables, 0) for plane in pair)
    assert sign_bits(pair, coder.tables, 0) == pytest.approx(alone, rel=1e-12)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_damaged_streams_give_symbols_or_a_corrupt_stream(coder, seed):
    generator = np.random.default_rng(seed)
    symbols = laplace((1, 64, 3, 4), 2, seed)
    payload = np.frombuffer(encode_symbols(symbols, coder.tables, 0), np.uint8).copy()
    payload[generator.integers(1, payload.size, 3)] ^= generator.integers(1, 256, 3, np.uint8)
    try:
        decoded = decode_symbols(payload.tobytes(), symbols.shape, coder.tables, 0)
    except CorruptStreamError:
        return
    assert coded_channel_count(decoded) == payload[0] & 0x7F
