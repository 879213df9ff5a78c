"""Mean correction and gate: the mean power stays, and the better coder is found."""

from dataclasses import replace

import numpy as np
import pytest

from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.model_file import coder_from_bytes, model_bytes
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import decode_planes, encode_planes
from xsarcomp.models.refiner.gate import GATE_STEPS_DB, TEXTURE_BUDGET, gate, mean_corrections, texture_gains
from xsarcomp.radiometry.filling import round_to_signal_steps
from xsarcomp.scenes.simulation import simulate_scene
from xsarcomp.training.planes import Plane

pytestmark = pytest.mark.slow


def planes_of(seeds, shape=(160, 168)):
    planes = []
    for seed in seeds:
        power = simulate_scene(shape, seed=seed, nodata_border=False)
        for polarization, plane in zip(("vv", "vh"), power, strict=True):
            valid = np.ones(shape, bool)
            valid[:20, :11] = False
            planes.append(Plane(f"scene-{seed}", polarization, 10 * np.log10(plane), valid))
    return planes


@pytest.fixture(scope="module")
def train_planes():
    return planes_of((21, 22))


@pytest.fixture(scope="module")
def corrected(coder, train_planes):
    """The small model with corrections measured on the training planes."""
    zero = (0.0,) * len(coder.card.anchor_steps_db)
    content = model_bytes(replace(coder.card, mean_corrections_db=zero), coder.basis, coder.tables, coder.shifts)
    corrections = mean_corrections(coder_from_bytes(content), train_planes)
    card = replace(coder.card, mean_corrections_db=corrections)
    return coder_from_bytes(model_bytes(card, coder.basis, coder.tables, coder.shifts))


def power_bias_db(coder, planes, step_db):
    original = restored = 0.0
    for plane in planes:
        values = np.where(plane.valid, plane.decibel, np.nan)
        decoded = decode_backscatter(
            encode_backscatter(values, Settings(step_db=step_db, scale="decibel"), coder), None, coder
        )
        original += (10 ** (plane.decibel[plane.valid] / 10)).sum(dtype=np.float64)
        restored += (10 ** (decoded[plane.valid] / 10)).sum(dtype=np.float64)
    return 10 * np.log10(restored / original)


def test_corrections_grow_with_the_step(corrected):
    corrections = corrected.card.mean_corrections_db
    assert len(corrections) == len(corrected.card.anchor_steps_db)
    assert sorted(corrections) == list(corrections)
    assert 0 <= corrections[0] < 0.05
    assert 0.1 < corrections[-1] < 1.5


def test_correction_does_not_depend_on_the_one_the_model_has(coder, corrected, train_planes):
    assert mean_corrections(corrected, train_planes) == corrected.card.mean_corrections_db
    assert mean_corrections(coder, train_planes) == corrected.card.mean_corrections_db


# at 10 dB nearly all symbols are zero, and the few scenes of this fit differ by 0.03 to 0.14 dB
@pytest.mark.parametrize(("step_db", "largest_db"), [(1.0, 0.05), (3.6, 0.05), (10.0, 0.1)])
def test_correction_keeps_the_mean_power_of_other_scenes(corrected, step_db, largest_db):
    others = planes_of((31, 32))
    assert abs(power_bias_db(corrected, others, step_db)) < largest_db


def test_without_correction_the_mean_power_would_fall(coder, corrected):
    card = replace(coder.card, mean_corrections_db=(0.0,) * len(coder.card.anchor_steps_db))
    plain = coder_from_bytes(model_bytes(card, coder.basis, coder.tables, coder.shifts))
    others = planes_of((31,))
    assert power_bias_db(plain, others, 10.0) < -0.1
    assert abs(power_bias_db(corrected, others, 10.0)) < 0.1


def test_texture_gain_gives_back_variance_for_the_error_that_was_allowed(coder, train_planes):
    gains = texture_gains(coder, train_planes)
    assert len(gains) == len(coder.card.anchor_steps_db)
    ones = replace(coder.card, texture_gains=(1.0,) * len(gains), mean_corrections_db=(0.0,) * len(gains))
    results = []
    for card in (ones, replace(ones, texture_gains=gains)):
        changed = coder_from_bytes(model_bytes(card, coder.basis, coder.tables, coder.shifts))
        squared, variance = [], []
        for plane in train_planes:
            signal = round_to_signal_steps(plane.decibel[None].astype(np.float64) - card.offset_db)
            decoded = decode_planes(encode_planes(signal, changed, 3.6), plane.decibel.shape, changed, 3.6)
            squared.append(np.mean((decoded - signal) ** 2))
            variance.append(decoded.var())
        results.append((np.mean(squared), np.mean(variance)))
    (plain_error, plain_variance), (error, variance) = results
    assert 1 < gains[1] < 1.2
    assert variance > plain_variance
    # the last latents at the edge of the scene are not in the fit
    assert error / plain_error == pytest.approx(1 + TEXTURE_BUDGET, abs=TEXTURE_BUDGET)


@pytest.mark.parametrize("step_db", [1.5, 3.0])
def test_shipped_model_keeps_the_mean_power(step_db):
    assert abs(power_bias_db(load_coder(), planes_of((31, 32), (96, 104)), step_db)) < 0.05


def test_corrections_ignore_invalid_pixels(coder, train_planes):
    changed = [
        Plane(p.name, p.polarization, np.where(p.valid, p.decibel, p.decibel + 0.001).astype(np.float32), p.valid)
        for p in train_planes[:1]
    ]
    np.testing.assert_allclose(
        mean_corrections(coder, changed), mean_corrections(coder, train_planes[:1]), rtol=0, atol=0.01
    )


@pytest.fixture(scope="module")
def report(coder):
    worse = replace(coder.card, name="worse")
    shifts = np.full_like(coder.shifts, 0.4)
    shifts[:, 0] = 0
    bad = coder_from_bytes(model_bytes(worse, coder.basis, coder.tables, shifts))
    return gate({"good": coder, "worse": bad}, planes_of((41,), (96, 104)))


def test_gate_measures_each_coder_at_each_step(report):
    assert report.planes == 2
    for points in report.points.values():
        assert [point.setting for point in points] == list(GATE_STEPS_DB)
        rates, errors = [p.bits_per_pixel for p in points], [p.rmse_db for p in points]
        assert rates == sorted(rates, reverse=True)
        assert errors == sorted(errors)


def test_gate_says_which_coder_is_better(report):
    good, worse = report.to_json("good"), report.to_json("worse")
    assert good["bd_rate_percent_against"]["worse"] < 0 < worse["bd_rate_percent_against"]["good"]
    assert set(good["rmse_db_at_bits_per_pixel"]) == {"0.25", "0.5", "1.0", "2.0"}
    assert len(report.lines()) == 2
    assert "2 validation planes" in report.lines()[0]


def test_rate_of_the_gate_is_that_of_real_streams(coder):
    """Ideal code lengths over all pixels, against whole frames with headers."""
    planes = planes_of((41,), (96, 104))
    point = next(p for p in gate({"a": coder}, planes).points["a"] if p.setting == 2.0)
    settings = Settings(step_db=2.0, scale="decibel")
    coded = sum(len(encode_backscatter(plane.decibel, settings, coder)) for plane in planes)
    pixels = sum(plane.decibel.size for plane in planes)
    assert point.bits_per_pixel == pytest.approx(8 * coded / pixels, rel=0.06)
    assert point.bits_per_pixel < 8 * coded / pixels
