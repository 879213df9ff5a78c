"""Stores behind URLs, as the commands write them, and targets that are refused."""

import uuid

import pytest
import xarray as xr

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files

SCENE = simulated_dataset((48, 40), seed=2)


@pytest.fixture
def url():
    """A place in memory that nobody has used."""
    return f"memory://{uuid.uuid4().hex}.zarr"


def encoded():
    return SCENE.sarcomp.encode(bits_per_pixel=2, model="s1-grd-10m-lapped")


def test_a_store_behind_a_url_is_replaced_only_if_that_is_wanted(url):
    files.write_store(encoded(), url)
    with pytest.raises(ConfigurationError, match="exists: choose another name, or pass --overwrite"):
        files.write_store(encoded(), url)
    files.write_store(encoded(), url, overwrite=True)
    assert set(files.open_scene(url).data_vars) == {"vv", "vh"}


def test_decoded_scenes_are_written_behind_urls_as_zarr_and_nothing_else(url):
    files.write_store(encoded(), url)
    scene, target = files.open_scene(url), url.replace(".zarr", "-decoded.zarr")
    files.write_scene(scene, target)
    xr.testing.assert_equal(files.open_scene(target).vv.load(), scene.vv.load())
    for ending in (".tif", ".nc"):
        with pytest.raises(ConfigurationError, match=r"is a URL, expected one that ends in \.zarr"):
            files.write_scene(scene, url.replace(".zarr", ending))


@pytest.mark.parametrize("name", ["a.zarr", "with a space.zarr", "100%.zarr"])
def test_file_urls_are_paths(tmp_path, name):
    address = (tmp_path / name).as_uri()
    files.write_store(encoded(), address)
    assert (tmp_path / name / "zarr.json").exists()
    assert not list(tmp_path.glob(".partial*"))
    files.write_scene(files.open_scene(address), (tmp_path / "b.tif").as_uri())
    assert files.open_scene(str(tmp_path / "b.tif")).sizes["band"] == 2
    with pytest.raises(ConfigurationError, match="are the same, or one contains the other"):
        files.refuse_overlapping(address, str(tmp_path / name))
