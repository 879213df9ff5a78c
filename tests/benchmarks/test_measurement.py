"""Measuring a codec: sums of one plane, and which settings a range of rates needs."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from xsarcomp.benchmarks.measurement import Measurement, bits_per_pixel, measure, sweep
from xsarcomp.benchmarks.planes import Scene, fill_with_median
from xsarcomp.errors import DimensionError
from xsarcomp.metrics.fidelity import edge_preservation
from xsarcomp.metrics.speckle import enl_ratio
from xsarcomp.scenes.simulation import simulate_scene


@dataclass
class Brightening:
    """Codec of known rate and error: adds the setting, and writes a byte for each 0.1 dB under 10 dB."""

    settings: tuple = (0.5,)
    name: str = "brightening"
    measured: list = field(default_factory=list)

    def encode(self, plane_db, setting):
        assert np.isfinite(plane_db).all()
        self.measured.append(setting)
        self.plane_db = plane_db + np.float32(setting)
        return bytes(round((10 - setting) * 10) * plane_db.size // 100)

    def decode(self, data, shape):
        return self.plane_db.reshape(shape)


@pytest.fixture(scope="module")
def plane_db():
    plane = 10 * np.log10(simulate_scene((64, 80), seed=5, nodata_border=False)[0])
    plane[:8, :30] = np.nan
    return plane


def test_a_gain_is_measured_as_bias_and_error_and_keeps_speckle_and_edges(plane_db):
    one = measure(Brightening(), 0.5, plane_db)
    valid = np.isfinite(plane_db)
    assert (one.pixels, one.valid_pixels) == (plane_db.size, np.count_nonzero(valid))
    assert one.coded_bits == 8 * (95 * plane_db.size // 100)
    assert one.squared_error == pytest.approx(0.25 * one.valid_pixels, rel=1e-4)
    assert one.original_power == pytest.approx(np.sum(10 ** (plane_db[valid].astype(float) / 10)))
    assert 10 * math.log10(one.restored_power / one.original_power) == pytest.approx(0.5, abs=1e-4)
    assert one.enl_ratio == pytest.approx(1, abs=1e-4)
    assert one.edge_preservation == pytest.approx(1, abs=1e-6)


def test_figures_are_those_of_the_metrics(plane_db):
    @dataclass
    class Smoothing:
        name: str = "smoothing"
        settings: tuple = (1.0,)

        def encode(self, filled_db, setting):
            self.smoothed = (filled_db + np.roll(filled_db, 1, axis=1)) / 2
            return b"12345"

        def decode(self, data, shape):
            return self.smoothed

    codec = Smoothing()
    one = measure(codec, 1.0, plane_db)
    valid = np.isfinite(plane_db)
    powers = [np.where(valid, 10 ** (plane.astype(float) / 10), 1.0) for plane in (plane_db, codec.smoothed)]
    assert one.edge_preservation == pytest.approx(edge_preservation(plane_db, codec.smoothed, valid))
    assert one.enl_ratio == pytest.approx(enl_ratio(*powers, valid))
    assert one.enl_ratio > 1.1
    assert one.restored_power == pytest.approx(powers[1][valid].sum())


def test_what_lies_under_the_fill_counts_for_nothing(plane_db):
    once = measure(Brightening(), 2.0, plane_db)
    wider = np.vstack([plane_db, np.full((10, 80), np.nan, np.float32)])
    again = measure(Brightening(), 2.0, wider)
    assert again.pixels > once.pixels
    for name in ("valid_pixels", "squared_error", "original_power", "restored_power", "edge_preservation"):
        assert getattr(again, name) == pytest.approx(getattr(once, name), rel=1e-5)


def walked(rates_of_scenes, bounds=(0.1, 2.0)):
    """Settings that a walk measures, in its order, when scene s has rates_of_scenes[s][k] at setting k."""

    order = []

    class Table:
        name = "table"
        settings = range(len(rates_of_scenes[0]))

        def encode(self, plane_db, setting):
            if not order or order[-1] != setting:
                order.append(setting)
            return bytes(round(rates_of_scenes[round(float(plane_db[0, 0]))][int(setting)] * plane_db.size / 8))

        def decode(self, data, shape):
            return np.zeros(shape, np.float32)

    scenes = [
        Scene(name=str(index), planes=[np.full((80, 80), index, np.float32)]) for index in range(len(rates_of_scenes))
    ]
    measured = sweep(Table(), scenes, rates=bounds)
    assert list(measured) == sorted(measured)
    return order


def test_the_walk_goes_outward_and_stops_one_setting_beyond_the_range():
    rates = [0.01, 0.03, 0.09, 0.3, 0.8, 1.5, 2.5, 4.0, 6.0]
    assert walked([rates]) == [4, 5, 6, 3, 2]


def test_the_order_of_the_settings_does_not_matter():
    rates = [0.01, 0.03, 0.09, 0.3, 0.8, 1.5, 2.5, 4.0, 6.0]
    assert walked([rates[::-1]]) == [4, 5, 6, 3, 2]


def test_the_walk_goes_on_until_the_last_scene_has_left_the_range():
    rates = np.array([0.01, 0.03, 0.09, 0.3, 0.8, 1.5, 2.5, 4.0, 6.0])
    assert walked([rates, rates / 1.8]) == [4, 5, 6, 7, 3, 2]
    assert walked([rates, rates * 2]) == [4, 5, 6, 3, 2, 1]


def test_a_walk_that_starts_outside_finds_the_range():
    assert walked([[0.2, 0.5, 1.9, 3.0, 4.0, 5.0, 6.0]]) == [3, 4, 2, 1, 0]
    assert walked([[0.001, 0.002, 0.003, 0.004, 0.03, 0.5, 1.9]]) == [3, 4, 5, 6, 2]


def test_rates_are_pooled_over_pixels():
    planes = [
        Measurement(coded_bits=10.0, pixels=10, valid_pixels=1, squared_error=0.0),
        Measurement(coded_bits=0.0, pixels=30, valid_pixels=1, squared_error=0.0),
    ]
    assert bits_per_pixel(iter(planes)) == 0.25


def test_gaps_are_filled_with_the_median_of_the_plane():
    plane = np.array([[1.0, np.nan, 2.0, np.nan, 9.0]])
    assert fill_with_median(plane).tolist() == [[1, 2, 2, 2, 9]]
    assert fill_with_median(plane).dtype == np.float32
    assert np.isnan(plane).sum() == 2
    assert not fill_with_median(np.full((2, 2), np.nan)).any()
    with pytest.raises(DimensionError):
        fill_with_median(np.zeros(4))
