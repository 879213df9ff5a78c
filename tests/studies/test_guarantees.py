"""Cost of guarantees: bounds are kept by each codec that is asked for one, and tables say what was measured."""

import guarantees
import numpy as np
import pytest
from click.testing import CliRunner

from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import RateError
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"


@pytest.fixture(scope="module")
def planes():
    """Two planes in dB with pixels that are invalid."""
    scene = simulated_dataset((90, 110), 4, "decibel")
    return [scene.vv.values, scene.vh.values]


@pytest.mark.parametrize("bound", [0.25, 2.0])
def test_each_codec_keeps_the_bound_that_it_is_asked_for(planes, bound):
    pooled = {
        name: guarantees.pooled_errors(planes, round_trip, bound)
        for name, round_trip in guarantees.bounded_codecs(load_coder(MODEL)).items()
    }
    assert len(pooled) == 5
    for name, errors in pooled.items():
        assert errors.largest_error_db <= bound * 1.0001, name
        assert 0 < errors.rmse_db < errors.largest_error_db
    assert pooled[MODEL].bits_per_pixel < min(errors.bits_per_pixel for name, errors in pooled.items() if name != MODEL)


def test_kept_means_are_within_the_guarantee_and_those_of_plain_coding_are_not(planes):
    coder = load_coder(MODEL)
    plain, kept = (
        guarantees.pooled_errors(planes, guarantees.model_at_rate(coder, keep_means=keep_means), 0.5)
        for keep_means in (False, True)
    )
    assert kept.largest_tile_error_db <= 0.02 < plain.largest_tile_error_db
    assert kept.tile_error_db < plain.tile_error_db / 3


def test_errors_of_tiles_are_those_of_their_mean_power():
    original = np.zeros((70, 64), np.float32)
    original[65:, :10] = np.nan
    restored = np.full_like(original, 0.5)
    restored[:64] = -1.0
    np.testing.assert_allclose(guarantees.tile_errors_db(original, restored), [-1.0, 0.5], atol=1e-6)


def test_pooled_errors_are_those_of_all_planes_together():
    first, second = np.zeros((4, 4), np.float32), np.zeros((4, 8), np.float32)

    def codec(plane, setting):
        return b"x" * plane.size, plane + setting * (1 if plane.size == 16 else -2)

    found = guarantees.pooled_errors([first, second], codec, 0.5)
    assert found.bits_per_pixel == 8
    assert found.rmse_db == pytest.approx(np.sqrt((16 * 0.25 + 32 * 1.0) / 48))
    assert found.largest_error_db == 1.0


def test_the_command_writes_both_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(guarantees, "BOUNDS_DB", (1.0,))
    monkeypatch.setattr(guarantees, "RATES", (0.5,))
    simulated_dataset((64, 72), 1, "decibel").to_netcdf(tmp_path / "a.nc")
    arguments = [str(tmp_path / "a.nc"), "--model", MODEL, "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(guarantees.main, arguments, catch_exceptions=False)
    written = (tmp_path / "out/guarantees.md").read_text(encoding="utf-8")
    assert "Scenes: a. 2 planes." in written
    assert written.splitlines()[0] in result.output
    rows = [line for line in written.splitlines() if line.startswith(("| 1 |", "| 0.5 |"))]
    assert [row.count("|") for row in rows] == [7, 10]
    assert "**" not in written


def test_a_bound_that_a_codec_breaks_is_marked(planes, monkeypatch):
    broken = {"broken": lambda plane, bound: (b"x", plane + 2 * np.float32(bound))}
    monkeypatch.setattr(guarantees, "bounded_codecs", lambda coder: broken)
    monkeypatch.setattr(guarantees, "BOUNDS_DB", (1.0,))
    assert any("**2 dB**" in line for line in guarantees._bound_table(planes, None))


def test_scenes_without_a_valid_pixel_are_refused(tmp_path):
    scene = simulated_dataset((16, 16), 1, "decibel")
    (scene * np.nan).to_netcdf(tmp_path / "a.nc")
    with pytest.raises((RateError, ValueError)):
        list(guarantees.run_guarantees([str(tmp_path / "a.nc")], [MODEL], None))
