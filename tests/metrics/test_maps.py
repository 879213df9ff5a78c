"""Maps of water and change: drawn scenes with a known answer, and real ones."""

import math

import numpy as np
import pytest
import rioxarray
import xarray as xr
from scipy import ndimage

from xsarcomp.benchmarks.classical import Jpeg2000
from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.metrics import maps
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.scenes.simulation import simulate_speckle

WATER, LAND = 0.003, 0.1


def everywhere(plane):
    return np.ones(plane.shape, dtype=bool)


def lake(rows, shape=(60, 80)):
    """Land of constant power with ``rows`` rows of water at the top."""
    power = np.full(shape, LAND)
    power[:rows] = WATER
    return power


def speckled(power, seed):
    return power * simulate_speckle(power.shape, rng=np.random.default_rng(seed))


def jpeg_2000(power, valid, bits_per_pixel):
    """A plane through JPEG 2000 in dB, invalid pixels filled."""
    pytest.importorskip("imagecodecs", reason="JPEG 2000 is optional: pip install imagecodecs")
    codec = Jpeg2000()
    plane = np.where(valid, decibel_from_power(power), -15.0).astype(np.float32)
    rates = {}
    for setting in codec.settings:
        data = codec.encode(plane, setting)
        rates[abs(8 * len(data) / plane.size - bits_per_pixel)] = data
    return 10.0 ** (codec.decode(rates[min(rates)], plane.shape).astype(np.float64) / 10.0)


def test_a_copy_agrees_and_the_threshold_lies_between_water_and_land():
    found = maps.compare_water_maps(lake(20), lake(20), everywhere(lake(20)))
    assert 10 * math.log10(WATER) < found.threshold_db < 10 * math.log10(LAND)
    assert found.intersection_over_union == 1
    assert found.original_water_fraction == found.restored_water_fraction
    assert math.isnan(found.original_reference_iou)
    assert math.isnan(found.restored_reference_iou)


def test_half_a_lake_has_half_the_intersection():
    valid = everywhere(lake(20))
    # averaging over 3 x 3 brightens the shore: (2 WATER + LAND) / 3 = -14.5 dB is no water at -17 dB
    found = maps.compare_water_maps(lake(21), lake(11), valid, threshold_db=-17)
    assert found.intersection_over_union == pytest.approx(10 / 20)
    assert found.original_water_fraction == pytest.approx(20 / 60)
    assert found.restored_water_fraction == pytest.approx(10 / 60)


def test_a_mask_drawn_by_hand_judges_both_and_its_unknown_pixels_do_not_count():
    original, restored = lake(21), lake(11)
    reference = np.zeros(original.shape, dtype=np.int16)
    reference[:40], reference[20:40] = 1, -1
    found = maps.compare_water_maps(original, restored, everywhere(original), threshold_db=-17, reference=reference)
    assert found.original_reference_iou == 1
    assert found.restored_reference_iou == pytest.approx(0.5)


def test_invalid_pixels_are_neither_water_nor_land():
    original, restored = lake(20), lake(20)
    valid = everywhere(original)
    valid[:, :40] = False
    original[~valid], restored[~valid] = np.nan, 1e-9
    found = maps.compare_water_maps(original, restored, valid, threshold_db=-17)
    assert found.intersection_over_union == 1
    assert found.original_water_fraction == found.restored_water_fraction == pytest.approx(19 / 60)


def test_scenes_without_water_or_without_pixels_have_no_agreement():
    land = lake(0)
    assert math.isnan(maps.compare_water_maps(land, land, everywhere(land), threshold_db=-17).intersection_over_union)
    nothing = maps.compare_water_maps(land, land, ~everywhere(land), threshold_db=-17)
    assert math.isnan(nothing.original_water_fraction)
    for valid in (everywhere(land), ~everywhere(land)):
        with pytest.raises(RadiometryError, match="two different valid values"):
            maps.compare_water_maps(land, land, valid)


def test_smoothing_costs_less_water_than_noise():
    original = speckled(lake(30, (120, 120)) + 0.5 * lake(0, (120, 120)) * (np.arange(120) % 12 < 2), 1)
    valid = everywhere(original)
    agreements = [
        maps.compare_water_maps(original, restored, valid).intersection_over_union
        for restored in (original, ndimage.uniform_filter(original, 3), speckled(original, 2))
    ]
    assert agreements[0] == 1
    assert agreements[0] > agreements[1] > agreements[2]


def test_the_average_leaves_out_invalid_pixels_and_agrees_with_a_loop():
    power = np.random.default_rng(1).gamma(4.4, 0.02, (8, 9))
    power[3, 3] = 1e6  # a strong target must not drown its surroundings in rounding
    valid = np.random.default_rng(2).random((8, 9)) > 0.2
    averaged = maps.local_mean_db(np.where(valid, power, np.nan), valid, 3)
    for y, x in np.ndindex(power.shape):
        area = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        expected = 10 * np.log10(power[area][valid[area]].mean()) if valid[y, x] else np.nan
        assert averaged[y, x] == pytest.approx(expected, nan_ok=True, abs=1e-6)


def test_change_of_a_copy_is_the_change_of_the_original():
    first = speckled(np.full((60, 80), LAND), 1)
    second = first.copy()
    second[20:40] *= 10
    found = maps.compare_change_maps((first, second), (first, second), everywhere(first))
    assert found.intersection_over_union == 1
    assert found.false_alarm_pixels == found.missed_pixels == found.false_alarm_rate == found.miss_rate == 0
    assert found.changed_pixels >= 20 * 80


def test_false_alarms_and_lost_changes_are_counted():
    still = np.full((60, 80), LAND)
    changed, restored = still.copy(), still.copy()
    changed[:20], restored[10:40] = 10 * LAND, 10 * LAND
    # averaging over 5 x 5 widens a change of a factor of 10 by two rows: 9 / 5 * 2 + 1 = 4.6 and 2.8 exceed 3 dB (2)
    found = maps.compare_change_maps((still, changed), (still, restored), everywhere(still))
    assert found.changed_pixels == 22 * 80
    assert found.unchanged_pixels == 38 * 80
    assert found.false_alarm_pixels == 20 * 80  # rows 22 to 41
    assert found.missed_pixels == 8 * 80  # rows 0 to 7
    assert found.intersection_over_union == pytest.approx(14 / 42)
    assert found.false_alarm_rate == pytest.approx(20 / 38)
    assert found.miss_rate == pytest.approx(8 / 22)


def test_a_common_gain_changes_nothing_and_darkening_is_a_change_too():
    first = speckled(np.full((40, 40), LAND), 1)
    same = maps.compare_change_maps((first, first), (3 * first, 3 * first), everywhere(first))
    assert (same.changed_pixels, same.false_alarm_pixels) == (0, 0)
    assert math.isnan(same.intersection_over_union)
    assert math.isnan(same.miss_rate)
    darker = maps.compare_change_maps((first, first / 3), (first, first), everywhere(first))
    assert darker.miss_rate == 1
    assert math.isnan(darker.false_alarm_rate)


def test_invalid_pixels_have_not_changed():
    first = np.full((30, 30), LAND)
    second, valid = 10 * first, everywhere(first)
    valid[:10] = False
    second[~valid] = np.nan
    found = maps.compare_change_maps((first, second), (first, second), valid)
    assert found.changed_pixels == 20 * 30
    assert found.unchanged_pixels == 0


def test_what_does_not_fit_is_refused():
    plane, valid = lake(5), everywhere(lake(5))
    with pytest.raises(DimensionError, match="two on each side"):
        maps.compare_change_maps((plane,), (plane, plane), valid)
    with pytest.raises(DimensionError, match="expected equal ones"):
        maps.compare_change_maps((plane, plane[1:]), (plane, plane), valid)
    with pytest.raises(DimensionError, match="expected equal ones"):
        maps.compare_water_maps(plane, plane, valid, reference=np.zeros((3, 3)))
    with pytest.raises(RadiometryError, match="above 0 dB"):
        maps.compare_change_maps((plane, plane), (plane, plane), valid, threshold_db=0)


@pytest.mark.slow
@pytest.mark.data
def test_water_of_a_real_flood_survives_compression(sar_data):
    folder = sar_data / "train" / "grd_decibel"
    chip, mask = (folder / name for name in ("Nigeria_812045.tif", "Nigeria_812045_water.tif"))
    if not (chip.is_file() and mask.is_file()):
        pytest.skip(f"{chip.name} or its hand-drawn water mask is not in {folder}")
    with rioxarray.open_rasterio(chip) as scene, rioxarray.open_rasterio(mask) as drawn:
        power, valid = power_and_validity(scene[0].to_numpy(), scale="decibel", nodata=scene.rio.nodata)
        reference = drawn[0].to_numpy()
    found = [
        maps.compare_water_maps(power, jpeg_2000(power, valid, rate), valid, reference=reference)
        for rate in (1.0, 0.25)
    ]
    assert found[0].original_reference_iou == found[1].original_reference_iou > 0.5
    assert found[0].intersection_over_union > 0.9
    assert found[0].intersection_over_union > found[1].intersection_over_union
    assert found[0].restored_reference_iou == pytest.approx(found[0].original_reference_iou, abs=0.05)


@pytest.mark.data
def test_change_between_two_real_dates_survives_compression(sar_data):
    path = sar_data / "validation" / "rtc_stacks" / "T137-292320-IW1.nc"
    if not path.is_file():
        pytest.skip(f"the stack {path.name} is not in {path.parent}")
    pytest.importorskip("netCDF4", reason="the stacks are NetCDF files: pip install netCDF4")
    with xr.open_dataset(path, engine="netcdf4") as stack:
        name = next(name for name in stack.data_vars if str(name).lower().endswith("vv"))
        planes = [power_and_validity(stack[name][index].to_numpy(), scale="power") for index in (0, 3)]
    powers, valid = [power for power, _ in planes], planes[0][1] & planes[1][1]
    fine, coarse = (
        maps.compare_change_maps(powers, [jpeg_2000(power, valid, rate) for power in powers], valid)
        for rate in (2.0, 0.5)
    )
    assert fine.changed_pixels > 1000
    assert fine.intersection_over_union > coarse.intersection_over_union > 0
    assert fine.false_alarm_rate < min(0.1, coarse.false_alarm_rate)
    assert fine.miss_rate < min(0.2, coarse.miss_rate)
