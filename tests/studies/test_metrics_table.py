"""The table of all metrics: each stands at each rate for each variant, as `compare` gives it."""

import metrics_table
import numpy as np
import pytest
from click.testing import CliRunner

from xsarcomp.benchmarks.planes import planes_dataset
from xsarcomp.errors import RateError
from xsarcomp.evaluation.compare import compare
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"


MAPS = {"water_fraction", "water_iou", "change_fraction", "change_false_alarm_rate", "change_miss_rate"}
"""Metrics of maps have a study of their own: planes have neither names nor dates here."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("metrics") / "a.nc"
    simulated_dataset((96, 104), 1, "decibel").to_netcdf(file)
    return str(file)


@pytest.fixture(scope="module")
def chip():
    scene = simulated_dataset((96, 104), 1, "decibel")
    return planes_dataset([scene.vv.values, scene.vh.values])


def noisy(scene, bits_per_pixel):
    """A variant whose error is known."""
    return scene + 1.0 / bits_per_pixel


def column(lines, key):
    row = next(line for line in lines if line.startswith(f"| `{key}`"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:-1]


def test_every_metric_stands_at_every_rate_under_the_name_of_its_variant(path, tmp_path, chip):
    variants = {"noisy": noisy, "the same": lambda scene, bits_per_pixel: scene}
    lines = list(metrics_table.run_metrics([path], MODEL, tmp_path, variants=variants, rates=(0.5, 2.0)))
    first, second = (lines.index(f"## {title}") for title in ("Noisy", "The same"))
    expected = compare(chip, chip + 0.5, scale="decibel")
    assert set(expected) >= MAPS
    for key in set(expected) - {"scale"} - MAPS:
        assert len(column(lines[first:second], key)) == len(column(lines[second:], key)) == 2
    assert [float(value) for value in column(lines[first:second], "rmse_db")] == [2.0, 0.5]
    assert [float(value) for value in column(lines[first:second], "bias_db")] == [2.0, 0.5]
    assert [float(value) for value in column(lines[second:], "rmse_db")] == [0.0, 0.0]
    assert float(column(lines[first:second], "ratio_mean")[1]) == pytest.approx(expected["ratio_mean"], rel=1e-3)
    written = (tmp_path / "metrics.md").read_text(encoding="utf-8")
    assert "## Noisy" in written
    assert written.count("| `rmse_db`, dB |") == 2


def test_metrics_of_several_scenes_are_pooled(chip):
    half = chip.isel(x=slice(0, 52))
    errors = iter((3.0, 1.0))
    found = metrics_table.pooled_metrics([half, half], lambda scene, bits_per_pixel: scene + next(errors), 1.0)
    assert found["rmse_db"] == pytest.approx(5**0.5, rel=1e-5)
    assert found["pixels"] == 2 * 2 * 96 * 52
    assert found["max_error_db"] == pytest.approx(3, rel=1e-5)


def test_without_the_correction_of_the_mean_power_all_pixels_are_lower_by_the_same(chip):
    variants = metrics_table.standard_variants(MODEL)
    kept, low = variants["decoded"](chip, 0.5), variants["without the correction of the mean power"](chip, 0.5)
    difference = (kept - low).to_dataarray().values
    found = difference[np.isfinite(difference)]
    assert 0.02 < found.mean() < 0.5
    np.testing.assert_allclose(found, found.mean(), atol=1e-4)
    assert abs(compare(chip, kept, scale="decibel")["bias_db"]) < abs(compare(chip, low, scale="decibel")["bias_db"])


def test_scenes_without_a_valid_pixel_are_refused(tmp_path):
    (simulated_dataset((16, 16), 1, "decibel") * np.nan).to_netcdf(tmp_path / "empty.nc")
    with pytest.raises(RateError, match="no valid pixel"):
        list(metrics_table.run_metrics([str(tmp_path / "empty.nc")], MODEL))


def test_the_command_asks_for_scenes():
    found = CliRunner().invoke(metrics_table.main, [])
    assert found.exit_code != 0
    assert "SCENES" in found.output


def test_the_other_variants_restore_looks_and_keep_means(chip):
    variants = metrics_table.standard_variants(MODEL)
    plain, speckled, kept = (
        compare(chip, variants[name](chip, 0.25)) for name in ("decoded", "speckle restored", "means of tiles kept")
    )
    assert abs(speckled["enl_ratio"] - 1) < abs(plain["enl_ratio"] - 1)
    assert speckled["rmse_db"] > plain["rmse_db"]
    assert abs(kept["bias_db"]) < 0.02
