"""GuaranteeData of a chunk: their section comes back, damage is named, and guarantees hold in chunks of every kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec import window
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.guarantees import GuaranteeData, pack, unpack
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.settings import NO_GUARANTEES, Guarantees, Settings
from xsarcomp.errors import BoundError, CorruptStreamError, RateError
from xsarcomp.radiometry import pixel_classes
from xsarcomp.radiometry.decibel import decibel_from_backscatter
from xsarcomp.scenes.simulation import simulate_scene

F4 = np.dtype(np.float32)


def some_corrections(shape, with_residuals=True, with_gains=True):
    generator = np.random.default_rng(sum(shape))
    tiles = [-(-size // 64) for size in shape[1:]]
    return GuaranteeData(
        spacing_db=1.5 if with_residuals else 0.0,
        residuals=generator.integers(-2, 3, shape).astype(np.int32) if with_residuals else None,
        gains=generator.integers(-9, 9, (shape[0], 2, *tiles)).astype(np.int32) if with_gains else None,
    )


def scene(kind, seed):
    """A small chunk of a data type, with pixels that are no backscatter and one that is very bright."""
    scale, dtype = kind
    generator = np.random.default_rng(seed)
    decibel = generator.normal(-14, 5, (2, 40, 75)) + generator.normal(0, 2, (2, 40, 75))
    decibel[0, 3, 4] = 31.0
    values = {"decibel": decibel, "power": 10 ** (decibel / 10), "amplitude": 300 * 10 ** (decibel / 20)}[scale]
    if np.dtype(dtype).kind != "f":
        return np.clip(np.rint(values), -120 if scale == "decibel" else 0, 250).astype(dtype)
    values = values.astype(dtype)
    values[1, :5, :9] = np.nan
    return values


KINDS = st.sampled_from(
    [("power", "f4"), ("power", ">f8"), ("power", "f2"), ("decibel", "f4"), ("decibel", "i1"), ("amplitude", "u1"),
     ("amplitude", "u2")]
)  # fmt: skip


@given(
    kind=KINDS, seed=st.integers(0, 99), bound=st.floats(0.12, 12.0), step_db=st.floats(0.5, 20), means=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_no_valid_pixel_of_any_data_type_is_off_by_more_than_the_bound(coder, kind, seed, bound, step_db, means):
    values, scale = scene(kind, seed), kind[0]
    nodata = 17.0 if seed % 2 else None
    guarantees = Guarantees.from_request(bound, means, values.dtype, nodata, scale)
    given_settings = Settings(step_db=step_db, scale=scale, nodata=nodata, guarantees=guarantees)
    restored = decode_backscatter(encode_backscatter(values, given_settings, coder), nodata, coder)
    classes = pixel_classes.classify(values, scale, nodata)
    np.testing.assert_array_equal(pixel_classes.classify(restored, scale, nodata), classes)
    valid = classes == pixel_classes.VALID
    decibels = [decibel_from_backscatter(part, scale, classes=classes)[valid] for part in (values, restored)]
    assert np.abs(decibels[0] - decibels[1]).max() <= bound


def test_what_is_promised_costs_nothing_where_nothing_is_promised(coder):
    values = scene(("power", "f4"), 1)
    plain = encode_backscatter(values, Settings(step_db=3.0, scale="power"), coder)
    same = encode_backscatter(values, Settings(step_db=3.0, scale="power", guarantees=NO_GUARANTEES), coder)
    bounded = encode_backscatter(
        values, Settings(step_db=3.0, scale="power", guarantees=Guarantees.from_request(2.0, True, F4)), coder
    )
    assert plain == same
    assert (plain[5], bounded[5]) == (0, 1)  # minor versions
    assert len(bounded) > len(plain)


def test_pixels_that_rounding_alone_would_move_beyond_the_bound_are_kept_exactly(coder):
    values = scene(("power", "f4"), 2)
    values[0, 10, 10:14] = [1e-45, 3e-45, 1e-40, 1.2e-38]
    given_settings = Settings(step_db=3.0, scale="power", guarantees=Guarantees.from_request(0.5, False, F4))
    restored = decode_backscatter(encode_backscatter(values, given_settings, coder), None, coder)
    np.testing.assert_array_equal(restored[0, 10, 10:14], values[0, 10, 10:14])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 64, 65), (3, 7, 200)])
@pytest.mark.parametrize(("with_residuals", "with_gains"), [(True, True), (True, False), (False, True)])
def test_the_section_comes_back(shape, with_residuals, with_gains):
    made = some_corrections(shape, with_residuals, with_gains)
    back = unpack(pack(made), shape)
    assert back.spacing_db == made.spacing_db
    for name in ("residuals", "gains"):
        assert (getattr(back, name) is None) == (getattr(made, name) is None)
        np.testing.assert_array_equal(getattr(back, name), getattr(made, name))


def test_no_flipped_bit_of_the_section_changes_an_integer_silently():
    # the checksum of the frame covers all of it; here it is the hash, which the spacing is not part of
    made = some_corrections((1, 20, 30))
    section, refused = pack(made), 0
    for bit in range(8 * len(section)):
        damaged = bytearray(section)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            back = unpack(bytes(damaged), (1, 20, 30))
        except CorruptStreamError:
            refused += 1
        else:  # the spacing, or a bit behind the last integer that no decoder looks at
            np.testing.assert_array_equal(back.residuals, made.residuals)
            np.testing.assert_array_equal(back.gains, made.gains)
    assert refused > 8 * len(section) - 64 - 96


@pytest.mark.parametrize("length", [0, 1, 19, 25])
def test_a_section_that_ends_early_is_refused(length):
    with pytest.raises(CorruptStreamError):
        unpack(pack(some_corrections((1, 20, 30)))[:length], (1, 20, 30))


def test_corrections_do_not_change_the_signal_that_they_are_given():
    signal = np.zeros((1, 20, 30), np.float32)
    some_corrections(signal.shape).applied(signal, -12.0, -12.0)
    assert not signal.any()


def test_a_decoder_that_breaks_the_bound_is_found_before_anything_is_written(coder, monkeypatch):
    restored = window.backscatter_of
    monkeypatch.setattr(window, "backscatter_of", lambda *arguments: 2 * restored(*arguments))
    given_settings = Settings(step_db=3.0, scale="power", guarantees=Guarantees.from_request(1.0, False, F4))
    with pytest.raises(BoundError, match="nothing was written"):
        encode_backscatter(scene(("power", "f4"), 2), given_settings, coder)


def test_nodata_that_no_valid_pixel_can_meet_costs_no_bits():
    for scale, nodata in (("power", 0.0), ("amplitude", 0.0), ("power", -9999.0)):
        same = Guarantees.from_request(0.12, False, np.dtype("u2"), nodata, scale)
        assert same == Guarantees.from_request(0.12, False, np.dtype("u2"), None, scale)
    met = Guarantees.from_request(0.12, False, np.dtype("u2"), 255.0, "amplitude")
    assert met.residual_spacing_db < Guarantees.from_request(0.12, False, np.dtype("u2")).residual_spacing_db


def test_promises_that_make_no_sense_are_refused():
    with pytest.raises(RateError, match="max_error_db"):
        Guarantees.from_request(-1.0, False, F4)
    assert not Guarantees.from_request(None, False, F4)
    assert Guarantees.from_request(None, True, F4)


def bounded_errors_db(seed, bound, step_db, dtype, coder):
    """Errors of the valid pixels of a simulated chunk under a bound, as another decoder than the encoder's may see them."""
    scene_of_seed = simulate_scene((512, 512), seed=seed).astype(dtype)
    if seed % 3 == 0:  # targets far above the rest
        rows, columns = np.random.default_rng(seed).integers(0, 512, (2, 40))
        scene_of_seed[:, rows, columns] *= dtype(10.0) ** np.random.default_rng(seed).uniform(1, 6, 40).astype(dtype)
    given_settings = Settings(
        step_db=step_db, scale="power", guarantees=Guarantees.from_request(bound, seed % 2 == 1, scene_of_seed.dtype)
    )
    restored = decode_backscatter(encode_backscatter(scene_of_seed, given_settings, coder), None, coder)
    valid = pixel_classes.classify(scene_of_seed, "power") == pixel_classes.VALID
    return 10 * np.log10(restored[valid].astype(np.float64) / scene_of_seed[valid].astype(np.float64))


@pytest.mark.soak
def test_a_hundred_million_pixels_keep_their_bounds():
    coders = [load_coder(name) for name in ("s1-grd-10m", "s1-grd-10m-lapped")]
    generator, pixels, seed = np.random.default_rng(1), 0, 0
    while pixels < 100_000_000:
        bound, step_db = np.exp(generator.uniform(np.log([0.05, 0.3]), np.log([12.0, 30.0])))
        errors = bounded_errors_db(seed, bound, step_db, (np.float32, np.float64)[seed % 5 == 0], coders[seed % 2])
        assert np.abs(errors).max() <= bound, (seed, bound, step_db)
        pixels, seed = pixels + errors.size, seed + 1
