"""The accessors: targets met in stored bytes, mistakes refused with advice, results that fit together."""

import numpy as np
import pytest
import xarray as xr

import xsarcomp
from xsarcomp.codec.target import PRESETS
from xsarcomp.errors import (
    AlreadyLossyError,
    ConfigurationError,
    DimensionError,
    ModelNotFoundError,
    NotEncodedError,
    RadiometryError,
    RateError,
)
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow


def test_the_accessor_is_there_for_arrays_and_datasets(scene):
    assert hasattr(scene, "sarcomp")
    assert hasattr(scene.vv, "sarcomp")
    assert issubclass(RateError, xsarcomp.SarcompError)


# rates in the bytes of real stores


@pytest.fixture(scope="module")
def large():
    return simulated_dataset((2048, 2048), seed=8)[["vv"]].chunk(1024)


def stored_bytes(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


def written(large, path, store, **target):
    if store == "latents":
        large.sarcomp.encode(**target).drop_vars(["y", "x", "spatial_ref"]).to_zarr(
            path, zarr_format=3, consolidated=False
        )
        return xr.open_dataset(path, engine="sarcomp")
    encoding = large.sarcomp.encoding(**target)
    large.drop_vars(["y", "x", "spatial_ref"]).to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return xr.open_zarr(path, consolidated=False)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["latents", "transparent"])
@pytest.mark.parametrize(
    ("target", "expected"),
    [({"bits_per_pixel": 0.5}, 0.5), ({"ratio": 16}, 2.0), ({"preset": "browse"}, PRESETS["browse"])],
    ids=str,
)
def test_the_asked_rate_is_the_rate_of_the_stored_chunks(large, tmp_path, store, target, expected):
    written(large, tmp_path / "a.zarr", store, **target)
    assert 8 * stored_bytes(tmp_path / "a.zarr") / large.vv.size == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["latents", "transparent"])
def test_the_asked_error_is_the_error_of_what_is_read_back(large, tmp_path, store):
    part = large.isel(y=slice(700, 1212), x=slice(900, 1412)).chunk(512)  # a search for an error decodes at each step
    found = written(part, tmp_path / "a.zarr", store, rmse_db=0.8).vv.values
    error = 10 * np.log10(found / part.vv.values)
    assert np.sqrt(np.nanmean(error**2)) == pytest.approx(0.8, rel=0.05)


# what a user may get wrong


@pytest.mark.parametrize("method", ["encode", "encoding"])
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"bits_per_pixel": 1, "ratio": 10}, RateError, "ask for one of them"),
        ({"bits_per_pixel": -1}, RateError, "expected a positive number"),
        ({"ratio": 0}, RateError, "expected a positive number"),
        ({"preset": "tiny"}, RateError, "expected one of archive, analysis, browse"),
        ({"rmse_db": 1e-9}, RateError, "Ask for at least"),
        ({"bits_per_pixel": 1e-6}, RateError, "Ask for at least"),
        ({"model": "no-such-model"}, ModelNotFoundError, "Installed:"),
        ({"model": "../../etc/passwd"}, ModelNotFoundError, "Installed:"),
        ({"scale": "linear"}, RadiometryError, "expected 'power', 'decibel' or 'amplitude'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_in_words(scene, method, arguments, error, text):
    for given in (scene, scene.vv):
        with pytest.raises(error, match=text):
            getattr(given.sarcomp, method)(**arguments)


def test_arguments_are_named(scene):
    with pytest.raises(TypeError):
        scene.sarcomp.encode(1.0)


def test_uncalibrated_numbers_are_refused_until_they_are_called_amplitude():
    numbers = xr.DataArray(
        np.random.default_rng(0).integers(1, 900, (64, 64)).astype(np.uint16), dims=("y", "x"), name="vv"
    )
    with pytest.raises(RadiometryError, match="Calibrate"):
        numbers.sarcomp.encode()
    with pytest.warns(UserWarning, match="outside"):
        assert numbers.sarcomp.encode(scale="amplitude").sarcomp.decode().vv.dtype == np.uint16


def test_a_complex_image_is_refused_with_advice():
    with pytest.raises(RadiometryError, match="abs\\(values\\)\\*\\*2"):
        xr.DataArray(np.ones((9, 9), np.complex64), dims=("y", "x"), name="vv").sarcomp.encode()


def test_a_dataset_without_backscatter_is_refused():
    with pytest.raises(DimensionError, match="no variable says that it is backscatter"):
        xr.Dataset({"mask": (("y", "x"), np.zeros((3, 3), bool))}).sarcomp.encode()


def encoded_in_both_ways(scene, **request):
    """Names that encode and encoding compress."""
    return [set(scene.sarcomp.encode(**request).sarcomp.info()), set(scene.sarcomp.encoding(**request))]


def test_only_backscatter_is_compressed_and_the_rest_is_kept_exactly(scene, caplog):
    scene = scene.assign(vv_coherence=scene.vv * 3, inc=scene.vh * 100, water=(scene.vv < 0.1).astype(np.int16))
    with caplog.at_level("INFO", logger="xsarcomp"):
        assert encoded_in_both_ways(scene, bits_per_pixel=1) == [{"vv", "vh"}] * 2
    assert "compressed: vv, vh; kept exactly: " in caplog.text
    assert "vv_coherence (its name says 'coherence')" in caplog.text
    decoded = scene.sarcomp.encode(bits_per_pixel=1).sarcomp.decode()
    for name in ("vv_coherence", "inc", "water"):
        xr.testing.assert_identical(decoded[name].variable, scene[name].variable)


def test_named_variables_are_compressed_and_no_others(scene):
    assert encoded_in_both_ways(scene, variables=["vh"]) == [{"vh"}] * 2
    plain = scene.rename(vv="first", vh="second").drop_attrs()
    with pytest.raises(DimensionError, match=r"variables=\['first'\]"):
        plain.sarcomp.encode()
    assert encoded_in_both_ways(plain, variables=["second"]) == [{"second"}] * 2
    with pytest.warns(UserWarning, match="kept exactly, because nothing says if it is backscatter: second"):
        plain.rename(first="vv").sarcomp.encode()


def test_an_array_that_says_that_it_is_coherence_needs_its_scale_said(scene):
    coherence = scene.vv.rename("vv_coherence").drop_attrs()
    for encode in (coherence.sarcomp.encode, coherence.sarcomp.encoding):
        with pytest.raises(RadiometryError, match="its name says 'coherence'"):
            encode()
        with pytest.raises(ConfigurationError, match="variables="):
            encode(variables=["vv_coherence"])
    assert set(coherence.sarcomp.encode(scale="power").sarcomp.info()) == {"vv_coherence"}


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("scale", ["auto", "power", "decibel"])
def test_a_mask_of_zeros_and_ones_is_never_compressed(scene, dtype, scale):
    mask = (scene.vv > 0.1).astype(dtype).rename("vv")
    with pytest.raises(RadiometryError, match="holds only 0, 1: a mask or classes"):
        mask.sarcomp.encode(scale=scale)
    with pytest.raises(RadiometryError, match="a mask or classes"):
        mask.to_dataset().sarcomp.encoding(variables=["vv"], scale=scale)


def test_a_few_classes_are_no_backscatter(scene):
    classes = ((scene.vv > 0.1).astype(np.int16) - (scene.vv < 0.02).astype(np.int16)).rename("hand_drawn")
    with pytest.raises(RadiometryError, match="holds only -1, 0, 1"):
        classes.sarcomp.encode()
    assert set(classes.sarcomp.encode(scale="decibel").sarcomp.info()) == {"hand_drawn"}


def test_decoded_data_is_not_encoded_again_unnoticed(scene):
    decoded = scene.sarcomp.encode(bits_per_pixel=1).sarcomp.decode()
    for given in (decoded, decoded.vv, decoded.vv * 1.0, decoded.isel(x=slice(0, 50))):
        with pytest.raises(AlreadyLossyError, match="compressed with loss before"):
            given.sarcomp.encode()
    assert "vv_latents" in decoded.vv.sarcomp.encode(recompress=True)


def test_latents_alone_cannot_be_decoded(scene):
    encoded = scene.sarcomp.encode(bits_per_pixel=1)
    with pytest.raises(NotEncodedError, match="on the Dataset"):
        encoded.vv_latents.sarcomp.decode()


def test_an_array_is_written_and_encoded_as_a_dataset_of_it_is(scene, tmp_path):
    array = scene.vv.isel(y=slice(100, 150), x=slice(100, 164))
    encoded = array.sarcomp.encode(rmse_db=1)
    assert isinstance(encoded, xr.Dataset)
    xr.testing.assert_identical(encoded.sarcomp.decode(), array.to_dataset().sarcomp.encode(rmse_db=1).sarcomp.decode())
    encoding = array.sarcomp.encoding(rmse_db=1)
    array.sarcomp.to_zarr(tmp_path / "ours.zarr", encoding=encoding, zarr_format=3, consolidated=False)
    array.to_zarr(tmp_path / "xarray.zarr", encoding=encoding, zarr_format=3, consolidated=False)
    options = {"engine": "zarr", "consolidated": False, "decode_coords": "all"}
    opened = [xr.open_dataarray(tmp_path / name, **options) for name in ("ours.zarr", "xarray.zarr")]
    xr.testing.assert_equal(*opened)
    assert opened[0].name == "vv"
    assert (tmp_path / "ours.zarr/sarcomp_manifest").exists()
    with pytest.raises(FileExistsError):
        array.sarcomp.to_zarr(tmp_path / "ours.zarr", encoding=encoding, zarr_format=3)


def test_an_array_without_a_name_is_encoded_and_compared_and_asked_for_one_where_it_matters(scene, tmp_path):
    array = scene.vv.isel(y=slice(100, 150), x=slice(100, 164)).rename(None)
    decoded = array.sarcomp.encode(rmse_db=1).sarcomp.decode()
    assert set(decoded.data_vars) == {"backscatter"}
    assert decoded.backscatter.sarcomp.compare(array)["rmse_db"] == pytest.approx(1, rel=0.1)
    with pytest.raises(DimensionError, match=r"no name.*array.rename\('vv'\)"):
        array.sarcomp.encoding(rmse_db=1)
    with pytest.raises(DimensionError, match=r"no name.*array.rename\('vv'\)"):
        array.sarcomp.to_zarr(tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("method", ["encode", "encoding", "to_zarr"])
def test_an_array_with_the_name_of_a_coordinate_is_refused_with_advice(scene, tmp_path, method):
    array = scene.vv.rename("x")
    with pytest.raises(DimensionError, match=r"name of its coordinate 'x'.*array.rename\('vv'\)"):
        getattr(array.sarcomp, method)(*([tmp_path / "a.zarr"] if method == "to_zarr" else []))


# what is said about data


def test_info_says_what_is_known_of_every_kind(scene, tmp_path):
    encoded = scene.sarcomp.encode(bits_per_pixel=1)
    found = encoded.sarcomp.info()
    assert set(found) == {"vv", "vh"}
    assert found["vv"]["store"] == "latents"
    assert found["vv"]["target"] == "bits_per_pixel=1"
    assert found["vv"]["estimated_bits_per_pixel"] == pytest.approx(1, rel=0.02)
    assert encoded.sarcomp.decode().sarcomp.info()["vh"]["store"] == "decoded"
    scene.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False, encoding=scene.sarcomp.encoding(ratio=32))
    transparent = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).sarcomp.info()["vv"]
    assert transparent["store"] == "transparent"
    assert transparent["scale"] == "power"
    assert scene.sarcomp.info() == {}


@pytest.mark.slow
def test_compare_writes_a_report_where_one_is_asked_for(scene, tmp_path):
    pytest.importorskip("jinja2", reason="the report is optional: pip install jinja2")
    part = scene.vv.isel(y=slice(100), x=slice(100))
    restored = part * 1.1
    assert restored.sarcomp.compare(part, html=tmp_path / "report.html") == restored.sarcomp.compare(part)
    assert "Comparison of restored with original" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_compare_measures_what_was_lost(scene):
    decoded = scene.sarcomp.encode(rmse_db=0.7).sarcomp.decode()
    found = decoded.sarcomp.compare(scene)
    assert found["rmse_db"] == pytest.approx(0.7, rel=0.05)
    assert abs(found["bias_db"]) < 0.2
    assert found["valid_pixels"] == int(np.isfinite(scene.vv).sum() + np.isfinite(scene.vh).sum())


@pytest.mark.slow
def test_more_bits_lose_less(scene):
    errors = [
        scene.sarcomp.encode(preset=name).sarcomp.decode().sarcomp.compare(scene)["rmse_db"]
        for name in ("archive", "analysis", "browse")
    ]
    assert errors == sorted(errors)


def test_a_model_can_be_chosen_by_name_and_by_id(scene):
    from xsarcomp.codec.installed_models import resolve_model

    small = scene[["vv"]].isel(y=slice(100, 164), x=slice(100, 164))
    for model in ("s1-grd-10m-lapped", resolve_model("s1-grd-10m-lapped")):
        encoded = small.sarcomp.encode(bits_per_pixel=2, model=model)
        assert encoded.sarcomp.info()["vv"]["model"] == "s1-grd-10m-lapped"
        assert np.isfinite(encoded.sarcomp.decode().vv).any()
