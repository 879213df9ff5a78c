"""Latents that were moved, computed with, exchanged or written over since encoding: right pixels, or an error that says which."""

import json

import numpy as np
import pytest
import xarray as xr

from tests.support.part_scenes import SIZE, STORED, encode, opened, scene, ways_to_read
from xsarcomp.errors import CorruptStreamError, DimensionError, NotEncodedError, SarcompError
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.scenes.simulation import simulated_dataset

SCENES = {
    "with coordinates": scene,
    "without coordinates": lambda: scene().drop_vars(["y", "x"]),
    "of several dates": lambda: xr.concat([scene(seed).expand_dims(time=[seed]) for seed in (1, 2)], "time"),
}


@pytest.fixture(scope="module", params=SCENES)
def encoded(request):
    return encode(SCENES[request.param](), keep_means=True)


BACKWARDS = slice(None, None, -1)
MOVES = {
    "rows flipped": lambda data: data.isel(y=BACKWARDS),
    "columns flipped": lambda data: data.isel(x=BACKWARDS),
    "rows of latents flipped": lambda data: data.isel(y_latent=BACKWARDS),
    "columns of latents flipped": lambda data: data.isel(x_latent=BACKWARDS),
    "all rows flipped": lambda data: data.isel(y=BACKWARDS, y_latent=BACKWARDS),
    "latents in another order": lambda data: data.isel(y_latent=[0, 2, 1, *range(3, 8)]),
    "reindexed": lambda data: data.reindex(y_latent=data.y_latent[::-1]),
    "sorted": lambda data: data.sortby("y_latent", ascending=False),
    "rolled": lambda data: data.roll(y=8, y_latent=1, roll_coords=True),
    "rows rolled": lambda data: data.roll(y=1, roll_coords=True),
    "thinned": lambda data: data.thin(y=2),
    "thinned latents": lambda data: data.thin(x_latent=2),
    "coarsened": lambda data: data.coarsen(y=2, x=2).mean(),
    "coarsened latents": lambda data: data.coarsen(y_latent=2).max(),
    "latents exchanged": lambda data: data.rename(y_latent="x_latent", x_latent="y_latent"),
    "axes exchanged": lambda data: data.rename(y="x", x="y"),
}


@pytest.mark.parametrize("move", MOVES)
def test_latents_that_were_moved_are_refused(encoded, move):
    with pytest.raises(DimensionError, match="Decode first"):
        MOVES[move](encoded).sarcomp.decode()


COMPUTED = {
    "shifted": lambda data: data.shift(y=8),
    "latents shifted": lambda data: data.shift(y_latent=1),
    "interpolated": lambda data: data.interp(y=data.y.values),
    "as wider integers": lambda data: data.astype("int64"),
    "as floats": lambda data: data.astype("float32"),
    "where": lambda data: data.where(data.y_latent > 2),
    "doubled": lambda data: data * 2,
    "negative": lambda data: -data,
    "clipped": lambda data: data.clip(-3, 3),
    "clipped at zero": lambda data: data.clip(min=0),
    "absolute": abs,
    "rounded": lambda data: data.round(),
    "summed up": lambda data: data.cumsum("y_latent", keep_attrs=True),
    "mean of dates": lambda data: data.mean("time", keep_attrs=True) if "time" in data.dims else data / 1,
}


@pytest.mark.parametrize("computed", COMPUTED)
def test_latents_that_were_computed_with_are_refused(encoded, computed):
    with xr.set_options(keep_attrs=True), pytest.raises((NotEncodedError, CorruptStreamError)):
        COMPUTED[computed](encoded).sarcomp.decode()


@pytest.mark.parametrize(
    "harmless", [lambda data: data + 0, lambda data: data.fillna(0), lambda data: data.copy(deep=True)]
)
def test_what_changes_no_value_is_no_error(encoded, harmless):
    with xr.set_options(keep_attrs=True):
        xr.testing.assert_equal(harmless(encoded).sarcomp.decode(), encoded.sarcomp.decode())


def test_positions_are_in_the_store_and_not_in_the_scene(encoded, tmp_path):
    encoded.to_zarr(tmp_path / "a", **STORED)
    positions = {name for name, array in opened(tmp_path / "a").coords.items() if "sarcomp_position" in array.attrs}
    assert positions >= {"y_latent", "x_latent"}
    assert positions | {"y", "x", "time"} == set(encoded.coords) | {"time"}
    for read in ways_to_read(tmp_path / "a").values():
        assert set(read().coords) == set(encoded.coords) - positions
    with pytest.raises(DimensionError, match="Decode first"):
        opened(tmp_path / "a").isel(y_latent=BACKWARDS).sarcomp.decode()


def test_a_scene_as_wide_as_a_whole_swath_needs_few_bytes_for_its_positions(tmp_path):
    wide = xr.Dataset({"vv": (("y", "x"), simulated_dataset((16, 25_000), seed=1).vv.values)})
    encode(wide).to_zarr(tmp_path / "a", **STORED)
    files = {path.parent.parent.name: path.stat().st_size for path in (tmp_path / "a").rglob("c/0")}
    assert files["x"] < 1500
    assert files["x_latent"] < 500


# parts that are not what they were


def test_polarizations_whose_latents_were_exchanged_are_refused():
    both = encode(scene(polarizations=("vv", "vh")))
    with pytest.raises(NotEncodedError, match="renamed, or exchanged"):
        both.rename(vv_latents="vh_latents", vh_latents="vv_latents").sarcomp.decode()
    with pytest.raises(NotEncodedError, match="another model"):
        both.rename(vv_coding="vh_coding", vh_coding="vv_coding").sarcomp.decode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale", "amplitude"),
        ("nodata", -1.0),
        ("dtype", "<f8"),
        ("fingerprint", 1),
        ("spatial", {"tuple": ["x", "y"]}),
    ],
)
def test_metadata_whose_values_were_changed_are_refused(key, value):
    encoded = encode(scene())
    encoded.vv_latents.attrs[ATTRIBUTE] = {**encoded.vv_latents.attrs[ATTRIBUTE], key: value}
    with pytest.raises(NotEncodedError, match="fingerprint of 'vv' does not fit"):
        encoded.sarcomp.decode()


def edit(path, **attributes):
    """Change the Zarr metadata of an array; with a callable, the whole document."""
    document = json.loads((path / "zarr.json").read_text())
    if "change" in attributes:
        attributes.pop("change")(document)
    document["attributes"] |= attributes
    (path / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize("part", ["latents", "mask", "residual", "gains"])
@pytest.mark.parametrize(
    "attributes", [{"scale_factor": 0.5}, {"_FillValue": 3}, {"missing_value": 1}, {"add_offset": 1.0}], ids=str
)
def test_parts_that_attributes_turn_into_other_numbers_are_refused(tmp_path, part, attributes):
    encode(scene(), max_error_db=6.0, keep_means=True).to_zarr(tmp_path / "a", **STORED)
    edit(tmp_path / "a" / f"vv_{part}", **attributes)
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(NotEncodedError, match=f"'vv_{part}' has the type float"):
            pytest.fail(f"{name}: {read()}")


@pytest.mark.parametrize("attributes", [{"dtype": "bool"}, {"_Unsigned": "false"}], ids=str)
def test_a_mask_that_attributes_turn_into_another_type_is_refused(tmp_path, attributes):
    encode(scene()).to_zarr(tmp_path / "a", **STORED)
    edit(tmp_path / "a/vv_mask", **attributes)
    with pytest.raises(NotEncodedError, match="'vv_mask' has the type"):
        opened(tmp_path / "a").sarcomp.decode()


@pytest.mark.parametrize(
    "attributes", [{"scale_factor": 0.5}, {"_FillValue": "AAAAAAAAAAA="}, {"add_offset": 1.0}], ids=str
)
def test_exact_values_that_attributes_change_are_refused(tmp_path, attributes):
    encode(scene()).to_zarr(tmp_path / "a", **STORED)
    edit(tmp_path / "a/vv_exact", **attributes)
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(NotEncodedError, match="'vv_exact' has the"):
            pytest.fail(f"{name}: {read()}")


def test_a_store_that_was_written_without_the_encoding_is_read(tmp_path):
    encoded = encode(scene())
    encoded.drop_encoding().to_zarr(tmp_path / "a", **STORED)
    assert "_FillValue" in opened(tmp_path / "a").vv_exact.encoding  # NaN, by xarray itself
    for name, read in ways_to_read(tmp_path / "a").items():
        right = encoded.sarcomp.decode(overview=8 if "overview" in name else None).vv
        np.testing.assert_allclose(read(), right, rtol=1e-5)


@pytest.mark.parametrize("part", ["latents", "mask", "residual"])
def test_names_of_dimensions_that_were_exchanged_in_the_store_are_an_error(tmp_path, part):
    encode(scene(), max_error_db=6.0).to_zarr(tmp_path / "a", **STORED)

    def exchange(document):
        names = document["dimension_names"]
        names[-2:] = names[:-3:-1]

    edit(tmp_path / "a" / f"vv_{part}", change=exchange)
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(DimensionError, match=f"dimensions of 'vv_{part}' stand as .*x.*, y.* in the store"):
            pytest.fail(f"{name}: {read()}")


def test_a_store_written_transposed_is_read_after_drop_encoding(tmp_path):
    turned = encode(scene()).transpose("latent", "coding", "x_latent", "y_latent", "x", "y")
    right = turned.sarcomp.decode()
    turned.to_zarr(tmp_path / "a", **STORED)
    with pytest.raises(DimensionError, match="drop_encoding"):
        opened(tmp_path / "a").sarcomp.decode()
    xr.testing.assert_allclose(opened(tmp_path / "a").drop_encoding().sarcomp.decode().load(), right)


def test_a_lost_chunk_of_exact_values_is_an_error_and_not_zero(tmp_path):
    encode(scene()).to_zarr(tmp_path / "a", **STORED)
    assert float(opened(tmp_path / "a").sarcomp.decode().vv[1, 2]) == np.float32(-1e-3)
    (tmp_path / "a/vv_exact/c/0/0").unlink()
    for name, read in ways_to_read(tmp_path / "a").items():
        if "overview" not in name:  # a block of which a pixel is valid shows no exact value
            with pytest.raises(CorruptStreamError, match="'vv_exact' is missing"):
                read()


@pytest.mark.parametrize("nodata", [-0.0, 0.0])
def test_zeros_of_both_signs_come_back_where_nodata_is_a_zero(nodata):
    zeros = scene()
    zeros.vv[3, 3:5] = np.array([0.0, -0.0], np.float32)
    zeros.vv.attrs["_FillValue"] = nodata
    found = encode(zeros).sarcomp.decode().vv[3, 3:5].values
    assert np.signbit(found).tolist() == [False, True]
    assert (found == 0).all()


# coordinates


HARMLESS = {
    "float32": lambda values: values.astype(np.float32),
    "rounded to 1e-6": lambda values: np.round(values, 6),
    "half a pixel": lambda values: values + (values[1] - values[0]) / 2,
    "half a pixel back, rounded": lambda values: (values - (values[1] - values[0]) / 2).astype(np.float32),
}
GRIDS = {
    "metres": (5.4e6 - 10.0 * np.arange(SIZE), 6e5 + 10.0 * np.arange(SIZE)),
    "degrees": (47.123456789 - 1e-4 * np.arange(SIZE) / 3, 11.987654321 + 1e-4 * np.arange(SIZE) / 3),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("change", HARMLESS)
def test_coordinates_that_were_rounded_or_mean_edges_are_no_move(tmp_path, grid, change):
    placed = scene().assign_coords(dict(zip(("y", "x"), GRIDS[grid], strict=True)))
    encoded = encode(placed)
    changed = encoded.assign_coords({dim: HARMLESS[change](encoded[dim].values) for dim in ("y", "x")})
    changed.to_zarr(tmp_path / "a", **STORED)
    for read in ways_to_read(tmp_path / "a").values():
        read()
    np.testing.assert_array_equal(changed.sarcomp.decode().vv.values, encoded.sarcomp.decode().vv.values)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("pixels", [-2, -1, 1, 3])
def test_coordinates_that_moved_by_whole_pixels_are_an_error_with_a_way_out(grid, pixels):
    placed = scene().assign_coords(dict(zip(("y", "x"), GRIDS[grid], strict=True)))
    encoded = encode(placed)
    values = encoded.y.values
    moved = encoded.assign_coords(y=values + pixels * (values[1] - values[0]))
    with pytest.raises(DimensionError) as error:
        moved.sarcomp.decode()
    for number in (values[0], values[-1], moved.y.values[0], moved.y.values[-1]):
        assert repr(float(number)) in str(error.value)
    right = encoded.sarcomp.decode().vv.values
    np.testing.assert_array_equal(moved.drop_vars("y").sarcomp.decode().vv.values, right)


def test_every_refusal_is_an_error_of_the_package(encoded):
    for change in (*MOVES.values(), *COMPUTED.values()):
        with xr.set_options(keep_attrs=True), pytest.raises(SarcompError):
            change(encoded).sarcomp.decode()
