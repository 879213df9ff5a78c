"""The classical codecs: round trips, bounds, and refusals."""

import sys

import numpy as np
import pytest

from tests.support.laws import check_round_trip
from xsarcomp.benchmarks import classical
from xsarcomp.errors import DimensionError, MissingDependencyError, RadiometryError
from xsarcomp.scenes.simulation import simulate_scene

each_codec = pytest.mark.parametrize(
    "codec", classical.CLASSICAL_CODECS, ids=[codec.name for codec in classical.CLASSICAL_CODECS]
)


@pytest.fixture(scope="module")
def plane_db():
    scene = simulate_scene((128, 96), seed=3, nodata_border=False)
    return 10 * np.log10(scene[0])


def round_trip(codec, plane_db, setting):
    pytest.importorskip("imagecodecs", reason="the classical codecs are optional: pip install imagecodecs")
    return check_round_trip(codec, plane_db, setting)


@each_codec
def test_fine_settings_cost_more_and_err_less_than_coarse_ones(codec, plane_db):
    points = sorted(round_trip(codec, plane_db, setting) for setting in (codec.settings[0], codec.settings[-1]))
    (coarse_rate, coarse_error), (fine_rate, fine_error) = points
    assert coarse_rate < fine_rate
    assert fine_error < 0.5 * coarse_error
    assert fine_error < 0.5
    assert coarse_rate < 4


@pytest.mark.parametrize("codec", [classical.Sz3(), classical.Zfp(), classical.Lerc()])
def test_error_bounds_are_kept(codec, plane_db):
    for bound_db in (0.5, 2.0):
        round_trip(codec, plane_db, bound_db)
        restored = codec.decode(codec.encode(plane_db, bound_db), plane_db.shape)
        assert np.abs(restored - plane_db).max() <= bound_db * (1 + 1e-5)


@pytest.mark.parametrize("codec", [classical.Jpeg2000(), classical.JpegXl()])
def test_values_outside_the_integer_range_are_clipped_and_others_kept(codec):
    plane_db = np.full((32, 32), -12.0, dtype=np.float32)
    plane_db[:16] = 70.0
    pytest.importorskip("imagecodecs", reason="the classical codecs are optional: pip install imagecodecs")
    setting = max(codec.settings) if isinstance(codec, classical.Jpeg2000) else min(codec.settings)
    restored = codec.decode(codec.encode(plane_db, setting), plane_db.shape)
    assert np.median(restored[:8]) == pytest.approx(classical.HIGHEST_DB, abs=0.2)
    assert np.median(restored[24:]) == pytest.approx(-12, abs=0.2)


@each_codec
def test_the_input_is_not_changed_and_may_be_a_view(codec, plane_db):
    kept = plane_db.copy()
    error_of_view = round_trip(codec, plane_db[::2, ::2], codec.settings[0])
    assert error_of_view == round_trip(codec, plane_db[::2, ::2].copy(), codec.settings[0])
    np.testing.assert_array_equal(plane_db, kept)


@each_codec
def test_planes_with_gaps_and_stacks_are_refused(codec):
    gap = np.zeros((16, 16), dtype=np.float32)
    gap[3, 3] = np.nan
    with pytest.raises(RadiometryError, match="found 1 pixels of plane_db that are not finite"):
        codec.encode(gap, codec.settings[0])
    with pytest.raises(DimensionError, match="expected a plane"):
        codec.encode(np.zeros((2, 16, 16)), codec.settings[0])


def test_a_stream_of_another_shape_is_refused(plane_db):
    pytest.importorskip("imagecodecs", reason="the classical codecs are optional: pip install imagecodecs")
    codec = classical.Jpeg2000()
    data = codec.encode(plane_db, codec.settings[0])
    with pytest.raises(DimensionError, match="Pass the shape"):
        codec.decode(data, (96, 128))


@each_codec
def test_missing_imagecodecs_is_reported_with_the_command(codec, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "xsarcomp\[benchmark\]"'):
        codec.encode(np.zeros((8, 8)), codec.settings[0])
