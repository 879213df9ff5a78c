"""Plans: one step for all variables, estimates that hold, and refusal with advice of requests that cannot be met."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.codec.installed_models import resolve_model
from xsarcomp.codec.target import Target
from xsarcomp.errors import AlreadyLossyError, DimensionError, ModelNotFoundError, RadiometryError
from xsarcomp.latents.inspection import refuse_lossy
from xsarcomp.latents.loss import LOSS_ATTRIBUTE
from xsarcomp.latents.plan import PlanOptions, make_plan


def plan(dataset, names=None, *, scale="auto", recompress=False, model=None, **target):
    return make_plan(
        dataset,
        names or list(dataset.data_vars),
        Target.from_arguments(**target),
        PlanOptions(model=model, scale=scale, recompress=recompress, chunk_pixels=512 * 512),
    )


def test_all_variables_share_one_step_and_each_has_its_metadata(scene):
    found = plan(scene, ["vv", "vh"], bits_per_pixel=1)
    assert {metadata.settings.step_db for metadata in found.variables.values()} == {found.estimate.step_db}
    metadata = found.variables["vh"]
    assert (metadata.name, metadata.dims, metadata.spatial, metadata.pixels) == (
        "vh",
        ("y", "x"),
        ("y", "x"),
        (300, 360),
    )
    assert metadata.dtype == "<f4"
    assert metadata.settings.scale == "power"
    assert "median" in metadata.scale_reason or "units" in metadata.scale_reason
    assert metadata.model_id == resolve_model()
    assert metadata.target == "bits_per_pixel=1"
    assert metadata.attributes == scene.vh.attrs
    assert metadata.encoding == {"grid_mapping": "spatial_ref"}
    assert metadata.estimated_bits_per_pixel == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("lazy", [False, True])
def test_dask_and_numpy_give_the_same_plan(scene, lazy):
    given = scene.chunk(97) if lazy else scene
    assert (
        plan(given, ["vv"], rmse_db=1).variables["vv"].settings.step_db
        == plan(scene, ["vv"], rmse_db=1).variables["vv"].settings.step_db
    )


def test_the_scale_that_the_caller_names_is_taken(scene):
    with pytest.warns(UserWarning, match=r"outside the .* dB .*scale decibel"):
        metadata = plan(scene + 100, ["vv"], scale="decibel").variables["vv"]
    assert (metadata.settings.scale, metadata.scale_reason) == ("decibel", "given by the caller")
    assert metadata.outside_training_range == 1.0


def test_an_unknown_scale_is_refused(scene):
    with pytest.raises(RadiometryError, match="found scale 'log', expected 'power'"):
        plan(scene, ["vv"], scale="log")


def test_uncalibrated_numbers_are_refused_with_advice():
    numbers = np.random.default_rng(0).integers(1, 500, (40, 40)).astype(np.uint16)
    with pytest.raises(RadiometryError, match=r"Calibrate to sigma0 or gamma0 first, .* or say scale='amplitude'"):
        plan(xr.Dataset({"vv": (("y", "x"), numbers)}))


def test_complex_values_are_refused_with_advice():
    with pytest.raises(RadiometryError, match=r"found dtype complex64.*Detect it first"):
        plan(xr.Dataset({"vv": (("y", "x"), np.ones((40, 40), np.complex64))}))


def test_dimensions_that_differ_in_type_alone_are_refused():
    values = xr.DataArray(np.full((3, 3, 3), 0.1, np.float32), dims=("1", "y", "x"), name="vv").to_dataset()
    clash = xr.Dataset({"vv": xr.Variable(("1", 1, "y", "x"), values.vv.values[None])})
    with pytest.raises(DimensionError, match="expected different names"):
        plan(clash, ["vv"], bits_per_pixel=2)


def test_an_unknown_model_is_refused_with_those_that_are_installed(scene):
    with pytest.raises(ModelNotFoundError, match=r"'no-such-model' is not installed. Installed: .*s1-grd-10m"):
        plan(scene, ["vv"], model="no-such-model")


@pytest.mark.parametrize(
    ("attributes", "encoding"),
    [
        ({LOSS_ATTRIBUTE: "xsarcomp: decoded"}, {}),
        ({}, {"serializer": {"name": "xsarcomp.backscatter", "configuration": {}}}),
        ({}, {"compressors": ({"id": "xsarcomp.backscatter"},)}),
    ],
    ids=str,
)
def test_data_with_loss_is_refused_unless_it_is_wanted(scene, attributes, encoding):
    lossy = scene[["vv"]].copy()
    lossy.vv.attrs |= attributes
    lossy.vv.encoding |= encoding
    with pytest.raises(AlreadyLossyError, match="Encode the original, or pass recompress=True"):
        plan(lossy)
    assert plan(lossy, recompress=True).variables["vv"].settings.step_db > 0


@pytest.mark.parametrize(
    "encoding", [{}, {"serializer": None, "compressors": None}, {"compressors": ()}, {"compressors": (None,)}], ids=str
)
def test_other_codecs_are_no_reason_to_refuse(scene, encoding):
    array = scene.vv.copy()
    array.encoding |= encoding
    refuse_lossy(array)


def test_objects_of_codecs_are_recognized(scene):
    from zarr.codecs import BloscCodec, BytesCodec

    from xsarcomp.stores import codec_numcodecs, codec_zarr

    settings = {"model": resolve_model(), "step_db": 1.0, "scale": "power"}
    array = scene.vv.copy()
    array.encoding = {"serializer": BytesCodec(), "compressors": (BloscCodec(),)}
    refuse_lossy(array)
    for name, codec in (("serializer", codec_zarr), ("compressors", codec_numcodecs)):
        instance = codec.BackscatterCodec(**settings)
        array.encoding = {name: instance if name == "serializer" else (instance,)}
        with pytest.raises(AlreadyLossyError):
            refuse_lossy(array)


def test_values_outside_the_training_range_are_warned_of_and_stored(scene):
    bright = scene[["vv"]] * 1e4
    with pytest.warns(UserWarning, match=r"of the values of 'vv' lie outside the .* coded, not clipped"):
        metadata = plan(bright, scale="power", bits_per_pixel=1).variables["vv"]
    assert metadata.outside_training_range > 0.1


def test_a_short_header_share_is_counted_in_the_rate(scene):
    small = scene[["vv"]].isel(y=slice(200, 240), x=slice(100, 140))
    alone = plan(small, bits_per_pixel=2).estimate
    assert alone.bits_per_pixel == pytest.approx(2, rel=0.03)
    assert alone.step_db > plan(scene[["vv"]], bits_per_pixel=2).estimate.step_db


def noise_subtracted(shape=(300, 360)):
    """Power of which a quarter is negative, each value another one."""
    values = np.random.default_rng(1).gamma(4.4, 0.02 / 4.4, shape).astype(np.float32)
    return xr.DataArray(values - np.quantile(values, 0.25).astype(np.float32), dims=("y", "x"), name="vv").to_dataset()


@pytest.mark.filterwarnings("ignore:this does not look like")
def test_negative_power_is_warned_of_with_its_share_its_cost_and_a_way_out():
    with pytest.warns(
        UserWarning, match=r"25% of the values of 'vv' are negative.*take about [0-9.]+ of 9.98 bits.*clip\(min=1e-3\)"
    ):
        plan(noise_subtracted(), scale="power", bits_per_pixel=10)
    plan(noise_subtracted().clip(min=1e-3), scale="power", bits_per_pixel=1)


@pytest.mark.filterwarnings("ignore:this does not look like")
def test_a_large_scene_that_holds_too_little_for_the_rate_is_warned_of(scene):
    sparse = xr.Dataset({"vv": (("y", "x"), np.full((2100, 2100), np.nan, np.float32))})
    sparse.vv[:300, :360] = scene.vv.values
    with pytest.warns(
        UserWarning, match=r"bits_per_pixel=3 was asked for, the data gives 0\.[0-9]+ at a step of 0\.02 dB"
    ):
        plan(sparse, bits_per_pixel=3)
    plan(sparse, preset="archive")
