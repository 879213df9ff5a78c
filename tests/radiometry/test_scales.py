"""The scale of backscatter from texts and values, its refusals with advice, and every real file."""

import csv
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.errors import RadiometryError
from xsarcomp.radiometry.scales import SCALES, check_dtype, check_scale, infer_scale

POWER = np.random.default_rng(0).gamma(4.4, 0.08 / 4.4, (2, 40, 40)).astype(np.float32)
DECIBEL = (10.0 * np.log10(POWER)).astype(np.float32)
DIGITAL = np.rint(400.0 * np.sqrt(POWER)).astype(np.uint16) + 1
INVALID = np.full((2, 5), np.nan)
HYP3 = "S1A_IW_20181102T155531_DVP_RTC30_G_{}_5685_VV.tif"


@pytest.mark.parametrize(
    ("sample", "name", "attributes", "expected"),
    [
        (POWER, None, {"scale": "power"}, "power"),
        (POWER, None, {"scale": "linear"}, "power"),
        (POWER, None, {"scale": "amplitude"}, "amplitude"),
        (DIGITAL, None, {"scale": "amplitude"}, "amplitude"),
        (DECIBEL, None, {"scale": "dB"}, "decibel"),
        (DECIBEL, None, {"scale": "db", "units": "1"}, "decibel"),
        (DECIBEL, None, {"units": "dB"}, "decibel"),
        (DECIBEL.astype(np.int8), None, {"units": "decibel"}, "decibel"),
        (POWER, None, {"units": "m2 m-2"}, "power"),
        (POWER, None, {"units": "1", "long_name": "gamma nought"}, "power"),
        (POWER, None, {"units": "1"}, "power"),
        (POWER, HYP3.format("gpuned"), {}, "power"),
        (DECIBEL, HYP3.format("gduned"), {}, "decibel"),
        (np.sqrt(POWER), HYP3.format("gauned"), {}, "amplitude"),
        (np.sqrt(POWER), None, {"source": "/data/" + HYP3.format("sawfcm")}, "amplitude"),
        (np.sqrt(POWER), None, {"long_name": HYP3.format("gaunem")}, "amplitude"),
        (np.sqrt(POWER), None, {"long_name": "sigma nought amplitude", "units": "1"}, "amplitude"),
        (DECIBEL, None, {"long_name": "sigma nought in dB"}, "decibel"),
        (DECIBEL, None, {"long_name": ("vv_db", "vh_db")}, "decibel"),
        (DECIBEL, "Sigma0_VV_db", {}, "decibel"),
        (DECIBEL, None, {"long_name": ("vv", "vh")}, "decibel"),
        (DECIBEL.astype(">f2"), None, {}, "decibel"),
        (DECIBEL.astype(np.int16), None, {}, "decibel"),
        (POWER.astype(">f8"), "vv", {}, "power"),
        (POWER, None, {"scale": 3.0, "scale_factor": 1.0}, "power"),
        (INVALID, None, {}, "decibel"),
        (INVALID, None, {"scale": "power"}, "power"),
        (INVALID, None, {"units": "m2 m-2"}, "power"),
        (np.empty((0, 4), np.float32), None, {}, "decibel"),
        (np.zeros((3, 4), np.float32), None, {}, "power"),
    ],
)
def test_scale_is_found_from_texts_or_values(sample, name, attributes, expected):
    evidence = infer_scale(sample, name=name, attributes=attributes)
    assert evidence.scale == expected
    assert len(evidence.reason) > 10


def test_reason_gives_the_text_or_the_numbers():
    assert "'m2 m-2'" in infer_scale(POWER, attributes={"units": "m2 m-2"}).reason
    assert f"{np.median(DECIBEL):.4g}" in infer_scale(DECIBEL, attributes={}).reason
    assert infer_scale(INVALID, attributes={}).reason == "no valid pixel"


@pytest.mark.parametrize("text", ["gpuned", "my_G_gpuned2_x", "x_G_gpunedx", "x_g_gpuned", "x_G_qpuned_1", "gauge"])
def test_names_that_only_resemble_products_decide_nothing(text):
    assert "HyP3" not in infer_scale(POWER, name=text, attributes={"source": text}).reason


@pytest.mark.parametrize("text", ["adb", "dBm_gain", "database", "sigma0dB"])
def test_letters_within_a_word_are_not_the_unit_decibel(text):
    assert infer_scale(POWER, name=text, attributes={"long_name": text}).scale == "power"


@pytest.mark.parametrize(
    ("sample", "attributes", "messages"),
    [
        (POWER, {"units": "dB"}, ["'dB'", "power"]),
        (POWER, {"scale": "decibel"}, ["'decibel'", "median"]),
        (POWER, {"long_name": "sigma nought dB"}, ["dB", "power"]),
        (DECIBEL, {"units": "m2 m-2"}, ["'m2 m-2'", "negative"]),
        (DECIBEL, {"units": "1", "long_name": "sigma0"}, ["'1'", "negative"]),
        (DECIBEL, {"scale": "power"}, ["'power'", "negative"]),
        (DECIBEL, {"scale": "amplitude"}, ["'amplitude'", "negative"]),
        (1e4 * POWER, {"scale": "power"}, ["Calibrate", "scale='amplitude'"]),
        (DIGITAL, {"units": "dB"}, ["'dB'", "no decibels"]),
        (np.append(DECIBEL, -9999.0), {"units": "dB"}, ["-9999", "nodata"]),
    ],
)
def test_text_that_the_values_contradict_is_refused_with_both(sample, attributes, messages):
    with pytest.raises(RadiometryError) as refusal:
        infer_scale(sample, attributes=attributes)
    assert all(message in str(refusal.value) for message in messages)


@pytest.mark.parametrize(
    ("sample", "attributes", "message"),
    [
        (DIGITAL, {}, "found integers.*Calibrate.*scale='amplitude'"),
        (
            (DIGITAL.astype(np.float32) ** 2),
            {},
            "Calibrate to sigma0 or gamma0 first, or say scale='power' to compress intensity",
        ),
        (
            1e6 * POWER,
            {"units": "1", "long_name": "sigma nought"},
            "uncalibrated.*say scale='power' to compress intensity",
        ),
        (10 * DIGITAL, {"long_name": "amplitude"}, "say scale='amplitude' to compress digital"),
        (DIGITAL, {"long_name": "intensity"}, "say scale='power' to compress intensity"),
        (
            DIGITAL,
            {},
            "multiply packed integers by their factor, or say scale='amplitude'.*scale='power' if they are squares",
        ),
        ((100 * DECIBEL).astype(np.int16), {}, "multiply packed integers by their factor"),
        (DIGITAL.astype(np.float32), {}, "median above 10.*Calibrate.*scale='amplitude'"),
        (POWER, {"units": "DN"}, "digital numbers.*Calibrate"),
        (np.append(DECIBEL, -9999.0), {}, "-9999.*nodata"),
        (POWER - 0.07, {}, "noise subtracted.*Say scale='power'"),
        ((100 * DECIBEL).astype(np.int16), {"scale_factor": 0.01, "units": "dB"}, "mask_and_scale=True"),
        (POWER.astype(np.complex64), {}, "abs.*phase"),
    ],
)
def test_values_that_fit_no_scale_are_refused_with_advice(sample, attributes, message):
    with pytest.raises(RadiometryError, match=message):
        infer_scale(sample, attributes=attributes)


@pytest.mark.parametrize("nodata", [-9999.0, -9999.1, -3.4028234663852886e38, 1e30])
@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8"])
def test_declared_nodata_has_no_weight(nodata, dtype):
    sample = DECIBEL.astype(dtype)
    sample[:, 3:] = nodata
    assert infer_scale(sample, attributes={}, nodata=nodata).scale == "decibel"


def test_few_values_cannot_contradict_a_text():
    assert infer_scale(np.array([0.4]), attributes={"units": "dB"}).scale == "decibel"


@given(shift=st.floats(-8, 12), looks=st.floats(1, 30), seed=st.integers(0, 99))
def test_speckled_scenes_of_any_brightness_and_looks_are_told_apart(shift, looks, seed):
    decibel_mean = np.array([-11.0, -17.0])[:, None] + shift
    power = 10 ** (decibel_mean / 10) * np.random.default_rng(seed).gamma(looks, 1 / looks, (2, 400))
    assert infer_scale(power, attributes={}).scale == "power"
    assert infer_scale(10 * np.log10(power), attributes={}).scale == "decibel"


@pytest.mark.parametrize("dtype", ["f2", ">f2", "f4", ">f8", "i1", ">u8"])
def test_real_numbers_are_accepted(dtype):
    check_dtype(dtype)


@pytest.mark.parametrize("dtype", ["c8", "c16", "?", "O", "M8[ns]", "m8[s]", "U4", "S2", np.longdouble])
def test_other_types_are_refused_with_advice(dtype):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is float64 here")
    with pytest.raises(RadiometryError, match=r"expected .+\. .+"):
        check_dtype(dtype)


def test_only_three_scales_exist():
    for scale in SCALES:
        check_scale(scale)
    for word, meant in {"linear": "power", "intensity": "power", "dB": "decibel", "db": "decibel"}.items():
        with pytest.raises(RadiometryError, match=f"'power', 'decibel' or 'amplitude'.*Say scale='{meant}' for {word}"):
            check_scale(word)
    with pytest.raises(RadiometryError, match="'power', 'decibel' or 'amplitude'"):
        check_scale("log")


def _arrays_of(path):
    """Values, attributes and nodata of each backscatter array in a file, as a user would open it."""
    if path.suffix == ".nc":
        xarray = pytest.importorskip("xarray")
        with xarray.open_dataset(path) as dataset:
            for name in {"vv", "vh", "backscatter"} & set(dataset.data_vars):
                yield dataset[name].values, dataset[name].attrs, None
    else:
        rioxarray = pytest.importorskip("rioxarray")
        with rioxarray.open_rasterio(path) as array:
            yield array.values, array.attrs, array.rio.nodata


@pytest.mark.slow
@pytest.mark.data
def test_scale_of_every_real_file_is_found_or_refused_as_its_index_says(sar_data):
    with (sar_data / "index.csv").open() as index:
        rows = [row for row in csv.DictReader(index) if row["what"].startswith(("Sentinel-1", "OPERA"))
                or ("patches" in row["file"] and "sigma0" in row["unit"])]  # fmt: skip
    assert len(rows) > 40
    for row in rows:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files without georeferencing
            arrays = list(_arrays_of(sar_data / row["file"]))
        assert arrays, row["file"]
        for values, attributes, nodata in arrays:
            if "uncalibrated" in row["unit"]:
                with pytest.raises(RadiometryError, match="Calibrate to sigma0"):
                    infer_scale(values, attributes=attributes, nodata=nodata)
            else:
                expected = "decibel" if row["unit"].startswith("dB") else "power"
                evidence = infer_scale(values, attributes=attributes, nodata=nodata)
                assert evidence.scale == expected, (row["file"], evidence)
                # The values alone must say the same.
                assert infer_scale(values, attributes={}, nodata=nodata).scale == expected, row["file"]
