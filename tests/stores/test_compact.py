"""Small documents and coordinates: what any reader of Zarr reads, in few bytes."""

import json
import threading

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.store_model import all_files
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.compact import compact_documents, with_small_coordinates
from xsarcomp.stores.verification import verify_store

REQUEST = {"bits_per_pixel": 0.5, "model": "s1-grd-10m-lapped"}
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.fixture(scope="module")
def chip():
    return simulated_dataset((64, 64), seed=1)


def write(chip, path, kind, **options):
    if kind == "latents":
        chip.sarcomp.encode(**REQUEST).sarcomp.to_zarr(path, **options)
    else:
        encoding = chip.sarcomp.encoding(**REQUEST, zarr_format=options.get("zarr_format", 3))
        chip.sarcomp.to_zarr(path, encoding=encoding, **options)


def documents_and_coordinates(path):
    coded = ("vv/", "vh/", "vv_latents/c/", "vh_latents/c/", "vv_mask/c/", "vh_mask/c/")
    return sum(
        len(content)
        for name, content in all_files(path).items()
        if not name.startswith(coded) or name.endswith("zarr.json")
    )


@pytest.mark.parametrize(("kind", "most"), [("latents", 24_500), ("transparent", 12_000)])
def test_a_chip_takes_few_bytes_beside_its_pixels(chip, tmp_path, kind, most):
    write(chip, tmp_path / "a", kind)
    assert documents_and_coordinates(tmp_path / "a") < most
    write(chip, tmp_path / "b", kind, consolidated=False)
    assert documents_and_coordinates(tmp_path / "b") < 0.55 * most


@pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"consolidated": False}])
def test_small_documents_and_coordinates_are_read_as_ever(chip, tmp_path, options):
    chip = chip.assign_coords(time=np.datetime64("2024-05-01T05:26:31.123456", "ns")).expand_dims("time")
    write(chip, tmp_path / "a", "transparent", **options)
    opened = xr.open_zarr(tmp_path / "a", consolidated=options.get("consolidated"), decode_coords="all")
    xr.testing.assert_equal(opened.coords.to_dataset(), chip.coords.to_dataset())
    assert verify_store(tmp_path / "a").ok


def test_every_document_of_a_store_is_one_line(chip, tmp_path):
    dated = chip.expand_dims(time=[np.datetime64("2024-05-01", "ns")])
    dated.sarcomp.encode(**REQUEST).sarcomp.to_zarr(tmp_path / "a")
    dated.assign_coords(time=dated.time + np.timedelta64(12, "D")).sarcomp.append(tmp_path / "a")
    documents = {name: text for name, text in all_files(tmp_path / "a").items() if name.endswith("zarr.json")}
    assert len(documents) > 10
    for text in documents.values():
        assert b"\n" not in text
        json.loads(text)


def test_every_document_of_a_tree_is_one_line_its_consolidated_metadata_too(chip, tmp_path):
    xr.DataTree.from_dict({"/": xr.Dataset(), "/a": chip}).sarcomp.encode(**REQUEST).sarcomp.to_zarr(
        tmp_path / "a.zarr"
    )
    found = all_files(tmp_path / "a.zarr")
    documents = [content for name, content in found.items() if name.endswith("zarr.json")]
    assert "consolidated_metadata" in json.loads(found["zarr.json"])
    assert not any(b"\n" in document for document in documents)


def test_a_coordinate_of_equal_steps_takes_a_hundredth(tmp_path):
    steps = xr.Dataset(coords={"x": 600_005 + 10.0 * np.arange(20_000), "lon": ("x", np.linspace(9.1, 11.2, 20_000))})
    steps.sarcomp.to_zarr(tmp_path / "a")
    files = all_files(tmp_path / "a")
    assert len(files["x/c/0"]) < steps.x.nbytes / 100
    assert sum(len(content) for name, content in files.items() if name.startswith("lon/c/")) < steps.lon.nbytes / 20
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "a").load(), steps)


def test_codecs_that_a_user_chose_for_coordinates_stay(chip):
    zstd = {"name": "zstd", "configuration": {"level": 3}}
    chip = chip.copy()
    chip.x.encoding = {"compressors": [zstd]}
    small = with_small_coordinates(chip, {"y": {}}, 3)
    assert small.x.encoding == {"compressors": [zstd]}
    assert "compressors" not in small.y.encoding
    assert chip.y.encoding == small.y.encoding


def test_the_setting_of_zarr_is_as_before_when_the_last_writer_ends():
    before, begun, may_end = zarr.config.get("json_indent"), threading.Event(), threading.Event()

    def write():
        with compact_documents():
            begun.set()
            may_end.wait(10)

    other = threading.Thread(target=write)
    with compact_documents():
        other.start()
        begun.wait(10)
    assert zarr.config.get("json_indent") is None
    may_end.set()
    other.join()
    assert zarr.config.get("json_indent") == before
    with pytest.raises(ZeroDivisionError), compact_documents():
        raise ZeroDivisionError
    assert zarr.config.get("json_indent") == before
