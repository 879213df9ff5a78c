"""HEVC and AV1 through ffmpeg: round trips, what is counted, what is said when the program is missing."""

import stat

import numpy as np
import pytest

from tests.support.laws import check_round_trip
from xsarcomp.benchmarks import classical, video
from xsarcomp.errors import (
    ConfigurationError,
    CorruptStreamError,
    DimensionError,
    MissingDependencyError,
    RadiometryError,
)
from xsarcomp.scenes.simulation import simulate_scene

each_codec = pytest.mark.parametrize("codec", video.VIDEO_CODECS, ids=[codec.name for codec in video.VIDEO_CODECS])


@pytest.fixture(autouse=True)
def _encoders_are_asked_for_again():
    video._available_encoders.cache_clear()
    yield
    video._available_encoders.cache_clear()


@pytest.fixture(scope="module")
def plane_db():
    return 10 * np.log10(simulate_scene((120, 136), seed=3, nodata_border=False)[0])


def skip_if_missing(codec):
    if reason := video.missing_reason(codec):
        pytest.skip(f"{codec.name}: {reason}")


def round_trip(codec, plane_db, setting):
    skip_if_missing(codec)
    return check_round_trip(codec, plane_db, setting)


@each_codec
def test_coarser_settings_cost_less_and_err_more(codec, plane_db):
    settings = (codec.settings[1], codec.settings[4], codec.settings[8])
    rates, errors = zip(*(round_trip(codec, plane_db, setting) for setting in settings), strict=True)
    assert rates[0] > 2.0 > rates[1] > rates[2]
    assert errors[0] < 0.4 < errors[1] < errors[2] < 4.0


@each_codec
def test_twelve_bits_and_their_range_are_far_below_the_errors_of_interest(codec):
    ramp_db = np.linspace(classical.LOWEST_DB, classical.HIGHEST_DB, 5000)
    restored = classical.decibel_from_integers(classical.integers_from_decibel(ramp_db, 4095), 4095)
    assert np.sqrt(np.mean((restored - ramp_db) ** 2)) < 0.008
    smooth_db = np.broadcast_to(np.linspace(-25, -5, 64, dtype=np.float32), (64, 64))
    assert round_trip(codec, smooth_db, codec.settings[0])[1] < 0.05


@each_codec
def test_a_point_target_stands_where_it_was_also_in_a_plane_of_odd_size(codec):
    plane_db = np.full((65, 83), -12.0, dtype=np.float32)
    plane_db[40, 7] = 20.0
    skip_if_missing(codec)
    restored = codec.decode(codec.encode(plane_db, codec.settings[0]), plane_db.shape)
    assert np.unravel_index(restored.argmax(), restored.shape) == (40, 7)
    np.testing.assert_allclose(restored, plane_db, atol=0.7)


@each_codec
def test_the_stream_alone_is_counted_without_a_container(codec, plane_db):
    skip_if_missing(codec)
    data = codec.encode(plane_db, codec.settings[-1])
    # HEVC begins with a start code and a parameter set, AV1 with a temporal delimiter
    assert data.startswith({"HEVC": b"\0\0\0\1\x40\1", "AV1": b"\x12\0"}[codec.name])
    assert len(data) < 400


@each_codec
def test_planes_with_gaps_and_stacks_are_refused(codec):
    skip_if_missing(codec)
    with pytest.raises(RadiometryError, match="not finite"):
        codec.encode(np.full((16, 16), np.nan), codec.settings[0])
    with pytest.raises(DimensionError, match="expected a plane"):
        codec.encode(np.zeros((2, 16, 16)), codec.settings[0])


@each_codec
def test_what_the_program_says_of_a_damaged_stream_reaches_the_user(codec, plane_db):
    skip_if_missing(codec)
    with pytest.raises(CorruptStreamError, match=r"ffmpeg failing with status \d+: .*(Invalid data|Failed to read)"):
        codec.decode(b"this is no stream of pictures" * 20, plane_db.shape)


@each_codec
def test_a_setting_that_the_encoder_refuses_is_reported(codec, plane_db):
    skip_if_missing(codec)
    with pytest.raises(ConfigurationError, match=r"ffmpeg failing with status \d+: .{20}"):
        codec.encode(plane_db, 1000.0)


@each_codec
def test_a_stream_of_another_size_is_refused(codec, plane_db):
    skip_if_missing(codec)
    with pytest.raises(CorruptStreamError, match="expected 16 x 16"):
        codec.decode(codec.encode(plane_db, codec.settings[-1]), (16, 16))


@each_codec
def test_a_missing_program_is_reported(codec, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert video.missing_reason(codec) == "the program ffmpeg is not installed"
    with pytest.raises(MissingDependencyError, match="need the program ffmpeg"):
        codec.encode(np.zeros((8, 8)), codec.settings[0])


@each_codec
def test_a_program_without_the_encoder_is_reported(codec, monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' V....D mpeg2video MPEG-2 video'\n", encoding="ascii")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert video.missing_reason(codec) == f"the installed ffmpeg has no encoder {codec.encoder}"
