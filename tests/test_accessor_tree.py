"""Trees: each group is encoded, written and decoded as a dataset is, others are kept, and errors name the group."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.products import eopf
from xsarcomp.errors import (
    AlreadyLossyError,
    ConfigurationError,
    DimensionError,
    NotEncodedError,
    RadiometryError,
    RateError,
)
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.verification import verify_store

pytestmark = pytest.mark.slow

REQUEST = {"rmse_db": 1, "model": "s1-grd-10m-lapped"}
WRITE = {"zarr_format": 3, "consolidated": False}


@pytest.fixture(scope="module")
def product():
    """A product with a group for each polarization, as ESA's Zarr format has them, calibrated; the sizes differ."""
    scene = simulated_dataset((40, 48), seed=5)
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"product": "S1A"}),
            "/VV/measurements": scene[["vv"]],
            "/VH/measurements": scene[["vh"]].isel(x=slice(32)),
            "/VV/conditions/orbit": xr.Dataset({"position": (("epoch", "axis"), np.eye(3))}),
        },
        name="product",
    )


@pytest.fixture(scope="module")
def shared_grid():
    """Groups that inherit the coordinates of the root, of which one holds no backscatter."""
    scene = simulated_dataset((40, 48), seed=5)
    bare = scene.drop_vars(["y", "x"])
    angles = xr.Dataset({"inc": (("y", "x"), np.full((40, 48), 35.0))})
    groups = {"/": scene[["y", "x"]], "/vv": bare[["vv"]], "/vh": bare[["vh"]], "/vv/angles": angles}
    return xr.DataTree.from_dict(groups)


@pytest.fixture(params=["product", "shared_grid"])
def tree(request):
    return request.getfixturevalue(request.param)


def assert_decoded(found, original):
    """The frame of the original: groups, coordinates (inherited where they were), other variables; near values."""
    assert set(found.groups) == set(original.groups)
    for path in original.groups:
        expected, dataset = original[path].to_dataset(inherit=False), found[path].to_dataset(inherit=False)
        assert set(dataset.variables) == set(expected.variables)
        assert dataset.attrs == expected.attrs
        for name in expected.variables:
            if name in ("vv", "vh"):
                assert np.isfinite(dataset[name].values).sum() == np.isfinite(expected[name].values).sum()
                assert np.nanmax(np.abs(10 * np.log10(dataset[name] / expected[name]))) < 10
            else:
                xr.testing.assert_identical(dataset[name].variable, expected[name].variable)


def test_a_tree_is_encoded_and_decoded_group_by_group(tree):
    encoded = tree.sarcomp.encode(**REQUEST)
    assert encoded.name == tree.name
    described = encoded.sarcomp.info()
    assert [variables.keys() for variables in described.values()] == [{"vv"}, {"vh"}]
    decoded = encoded.sarcomp.decode()
    assert_decoded(decoded, tree)
    found = decoded.sarcomp.compare(tree)
    assert found.keys() == described.keys()
    assert all(metrics["rmse_db"] == pytest.approx(1, rel=0.2) for metrics in found.values())


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "lazy"])
@pytest.mark.parametrize("inherited", [False, True], ids=["at the root", "in each group"])
def test_a_tree_is_one_store_with_groups_that_all_readers_open(tree, tmp_path, lazy, inherited):
    path = tmp_path / "tree.zarr"
    encoded = (tree.chunk() if lazy else tree).sarcomp.encode(**REQUEST)
    encoded.sarcomp.to_zarr(path, write_inherited_coords=inherited, **WRITE)
    report = verify_store(path)
    assert report.ok
    assert report.manifest == "recorded"
    expected = tree.sarcomp.encode(**REQUEST).sarcomp.decode()
    for opened in (
        xr.open_datatree(path, engine="sarcomp"),
        xr.open_datatree(path, engine="sarcomp", chunks={}),
        xr.open_datatree(path, engine="zarr", decode_coords="all", consolidated=False).sarcomp.decode(),
    ):
        with opened:
            assert_decoded(opened, tree)
            for group in tree.sarcomp.encode(**REQUEST).sarcomp.info():
                for name in opened[group].data_vars:
                    np.testing.assert_allclose(opened[group][name], expected[group][name], rtol=1e-5)
    groups = xr.open_groups(path, engine="sarcomp")
    assert groups.keys() == set(tree.groups)


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")
def test_metadata_are_consolidated_at_the_root(product, tmp_path):
    product.sarcomp.encode(**REQUEST).sarcomp.to_zarr(tmp_path / "a.zarr")
    assert_decoded(xr.open_datatree(tmp_path / "a.zarr", engine="sarcomp", consolidated=True), product)
    assert verify_store(tmp_path / "a.zarr").ok


def test_a_tree_is_written_into_a_part_of_a_store_in_memory(product):
    store = zarr.storage.MemoryStore()
    place = zarr.storage.StorePath(store, "products/first")
    product.sarcomp.encode(**REQUEST).sarcomp.to_zarr(place, **WRITE)
    assert verify_store(place).ok
    assert_decoded(xr.open_datatree(store, engine="sarcomp", group="products/first"), product)


def test_a_group_opens_alone_and_a_root_without_latents_names_those_that_hold_some(product, tmp_path):
    product.sarcomp.encode(**REQUEST).sarcomp.to_zarr(tmp_path / "a.zarr", **WRITE)
    alone = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", group="VV/measurements")
    assert set(alone.coords) == set(product["VV/measurements"].coords)
    part = xr.open_datatree(tmp_path / "a.zarr", engine="sarcomp", group="VV")
    assert_decoded(part, xr.DataTree.from_dict(product["VV"].to_dict(relative=True)))
    with pytest.raises(NotEncodedError, match=r"groups below it do: .*group='V[VH]/measurements'.*open_datatree"):
        xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp")
    with pytest.raises(NotEncodedError, match=r"group='VV/measurements'"):
        xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", group="/VV/")


@pytest.mark.filterwarnings("ignore:left out of the overview. inc:UserWarning")
def test_overviews_of_groups_share_the_coarsened_coordinates(tree, tmp_path):
    encoded = tree.sarcomp.encode(**REQUEST)
    encoded.sarcomp.to_zarr(tmp_path / "a.zarr", **WRITE)
    expected = encoded.sarcomp.decode(overview=8)
    found = xr.open_datatree(tmp_path / "a.zarr", engine="sarcomp", overview=8)
    assert set(found.groups) == set(expected.groups) == set(tree.groups)
    for path in tree.groups:
        xr.testing.assert_allclose(found[path].to_dataset(), expected[path].to_dataset())
    group = next(iter(encoded.sarcomp.info()))
    assert expected[group].sizes == {"y": 5, "x": 6}
    assert float(expected[group].y[0]) == pytest.approx(float(tree[group].y[:8].mean()))


def test_a_transparent_tree_is_written_by_xarray_and_by_us(tree, tmp_path):
    encoding = tree.sarcomp.encoding(**REQUEST)
    tree.to_zarr(tmp_path / "xarray.zarr", encoding=encoding, **WRITE)
    tree.sarcomp.to_zarr(tmp_path / "ours.zarr", encoding=encoding, **WRITE)
    assert verify_store(tmp_path / "ours.zarr").ok
    opened = [
        xr.open_datatree(tmp_path / name, engine="zarr", consolidated=False) for name in ("xarray.zarr", "ours.zarr")
    ]
    for path in encoding:
        for name in encoding[path]:
            np.testing.assert_array_equal(opened[0][path][name], opened[1][path][name])
    assert opened[1].sarcomp.info().keys() == encoding.keys()
    with pytest.raises(ConfigurationError, match=r"the encoding names the groups \['/nowhere'\]"):
        tree.sarcomp.to_zarr(tmp_path / "b.zarr", encoding={"/nowhere": {}})


def test_variables_are_named_for_all_groups_that_have_them(product):
    renamed = product.map_over_datasets(lambda group: group.rename({name: "grd" for name in {"vv", "vh"} & {*group}}))
    plain = renamed.map_over_datasets(lambda group: group.drop_attrs())
    assert [*plain.sarcomp.encode(variables="grd", **REQUEST).sarcomp.info().values()][1].keys() == {"grd"}
    with pytest.raises(
        DimensionError, match=r"no group has the variables \['nothing'\]. Found /: ; .*measurements: grd"
    ):
        plain.sarcomp.encode(variables=["grd", "nothing"], **REQUEST)


def test_errors_name_the_group(product, tmp_path):
    with pytest.raises(RateError, match="group '/VV/measurements'"):
        product.sarcomp.encode(bits_per_pixel=1e-6)
    encoded = product.sarcomp.encode(**REQUEST)
    with pytest.raises(AlreadyLossyError, match="group '/VV/measurements'"):
        encoded.sarcomp.encode()
    broken = encoded.copy()
    broken["VH/measurements"] = encoded["VH/measurements"].to_dataset().drop_vars("vh_mask")
    with pytest.raises(NotEncodedError, match="group '/VH/measurements': the mask 'vh_mask'"):
        broken.sarcomp.decode()
    broken.sarcomp.to_zarr(tmp_path / "a.zarr", **WRITE)
    with pytest.raises(NotEncodedError, match="group '/VH/measurements': the mask 'vh_mask'"):
        xr.open_datatree(tmp_path / "a.zarr", engine="sarcomp")
    with pytest.raises(DimensionError, match="group '/VV/measurements': the other tree has the groups"):
        encoded.sarcomp.decode().sarcomp.compare(product["VV"])


def test_a_tree_without_anything_to_do_is_an_error(product, tmp_path):
    others = xr.DataTree.from_dict({"/orbit": product["VV/conditions/orbit"].to_dataset()})
    with pytest.raises(
        DimensionError, match=r"no group holds what says that it is backscatter. Found /: ; /orbit: position"
    ):
        others.sarcomp.encode()
    with pytest.raises(NotEncodedError, match="no group of the tree holds latents"):
        product.sarcomp.decode()
    product.to_zarr(tmp_path / "plain.zarr", **WRITE)
    with pytest.raises(NotEncodedError, match="no group of the tree holds latents"):
        xr.open_datatree(tmp_path / "plain.zarr", engine="sarcomp")
    with pytest.raises(DimensionError, match="no group holds backscatter to compare"):
        others.sarcomp.compare(product)


def test_digital_numbers_of_a_product_are_refused_by_their_group():
    numbers = xr.DataTree.from_dict({"/S01SIWGRD_VV/measurements": eopf()})
    with pytest.raises(RadiometryError, match=r"group '/S01SIWGRD_VV/measurements': .*[Cc]alibrate"):
        numbers.sarcomp.encode(variables=["grd"])


def test_tables_of_calibration_are_kept_exactly_unless_they_are_named(product):
    table = xr.Dataset({"sigma_nought": (("azimuth_time", "pixel"), np.linspace(400, 420, 30).reshape(5, 6))})
    groups = {"/VV/measurements": product["VV/measurements"].to_dataset(), "/VV/quality/calibration": table}
    tree = xr.DataTree.from_dict(groups)
    encoded = tree.sarcomp.encode(**REQUEST)
    assert encoded.sarcomp.info().keys() == tree.sarcomp.encoding(**REQUEST).keys() == {"/VV/measurements"}
    xr.testing.assert_identical(encoded["VV/quality/calibration"].to_dataset(), table)
    with pytest.raises(RadiometryError, match="group '/VV/quality/calibration'"):
        tree.sarcomp.encode(variables=["vv", "sigma_nought"], **REQUEST)


def test_a_store_is_never_replaced_while_one_of_its_groups_is_read(product, tmp_path):
    path = tmp_path / "a.zarr"
    product.sarcomp.encode(**REQUEST).sarcomp.to_zarr(path, **WRITE)
    before = sorted(file.relative_to(path) for file in path.rglob("*"))
    opened = xr.open_datatree(path, engine="zarr", consolidated=False)
    with pytest.raises(ConfigurationError, match=r"group '/V[VH]/measurements': .*load it first"):
        opened.sarcomp.to_zarr(path, mode="w", **WRITE)
    assert sorted(file.relative_to(path) for file in path.rglob("*")) == before
    with pytest.raises(FileExistsError):
        product.sarcomp.to_zarr(path, **WRITE)
    product.sarcomp.encode(**REQUEST).sarcomp.to_zarr(path, mode="w", **WRITE)
    assert verify_store(path).ok


def test_an_interrupted_tree_is_resumed(tmp_path):
    """The root holds latents as well, so that its manifest also records the groups below."""
    scene = simulated_dataset((40, 48), seed=6)
    groups = {"/": scene[["vv"]], "/vh": scene[["vh"]].drop_vars(["y", "x"])}
    encoded = xr.DataTree.from_dict(groups).sarcomp.encode(**REQUEST)
    failing = encoded.copy()
    mask = encoded["vh/vh_mask"]
    failing["vh/vh_mask"] = mask.copy(data=da.from_delayed(delayed_failure(), mask.shape, mask.dtype))
    path = tmp_path / "a.zarr"
    with pytest.raises(RuntimeError, match="interrupted"):
        failing.sarcomp.to_zarr(path, **WRITE)
    encoded.sarcomp.to_zarr(path, resume=True, **WRITE)
    report = verify_store(path)
    assert report.ok, report.problems
    assert_decoded(xr.open_datatree(path, engine="sarcomp"), xr.DataTree.from_dict(groups))


def delayed_failure():
    import dask

    def fail():
        raise RuntimeError("interrupted")

    return dask.delayed(fail)()
