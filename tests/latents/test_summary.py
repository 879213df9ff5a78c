"""Summaries: the accessor and info() say what they hold, in every state, at no cost, and whatever a dataset holds."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xsarcomp  # noqa: F401
from tests.support.markup import checked_markup
from xsarcomp.latents.info import describe
from xsarcomp.scenes.simulation import simulated_dataset

SHAPE = (64, 72)
HOSTILE = "<script>alert('1')</script>&\x1b[31m\u202e\n"


@pytest.fixture(scope="module")
def scene():
    dataset = simulated_dataset(SHAPE, 1)
    return dataset.assign(local_incidence_angle=dataset.vv * 0 + 30)


@pytest.fixture(scope="module")
def latents(scene):
    return scene.sarcomp.encode(bits_per_pixel=1)


@pytest.fixture(scope="module")
def transparent(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("summary") / "plain.zarr"
    encoding = scene.sarcomp.encoding(max_error_db=1)
    scene.drop_encoding().to_zarr(path, encoding=encoding, consolidated=False)
    return xr.open_zarr(path, chunks=None, consolidated=False)


def shown(thing):
    """Text of an object; its markup must be right, and show nothing else than the text does."""
    text = repr(thing)
    assert text.startswith("<xsarcomp> ")
    assert all(line.isprintable() for line in text.splitlines())
    page = checked_markup(thing._repr_html_())
    assert not {"img", "script"} & {*page.tags}
    cells = {cell.strip() for row in page.rows for cell in row} - {""}
    assert all(cell in text for cell in cells if cell not in ("setting",)), cells
    assert "no summary" not in text
    return text


def test_a_scene_says_what_would_be_compressed_and_kept_and_what_comes_next(scene):
    text = shown(scene.sarcomp)
    assert "backscatter, not compressed" in text
    assert "vv, vh (y: 64, x: 72; float32" in text
    assert "local_incidence_angle (its name says 'incidence')" in text
    assert "36.9 kB as float32, about 1.15 kB at 1 bit per pixel" in text
    for method in ("preview", "encode", "encoding", "compare"):
        assert f".{method}(" in text
        assert hasattr(scene.sarcomp, method)


def test_one_array_is_its_own_choice(scene):
    assert "vv (y: 64, x: 72; float32" in shown(scene.vv.sarcomp)
    assert "18.4 kB" in shown(scene.vv.rename(None).sarcomp)
    assert "no backscatter found" in shown(scene.local_incidence_angle.sarcomp)
    assert "its name says 'incidence'" in shown(scene.local_incidence_angle.sarcomp)


def test_latents_say_what_was_asked_for_and_is_expected(latents, scene):
    text = shown(latents.sarcomp)
    info = latents.sarcomp.info()["vv"]
    assert "latents" in text.splitlines()[0]
    assert "bits_per_pixel=1" in text
    assert f"{info['estimated_bits_per_pixel']:.4g} bits per pixel" in text
    assert info["model"] in text
    assert "mean power of each tile" in text
    assert ".decode()" in text
    bounded = scene.sarcomp.encode(max_error_db=0.5)
    assert "no valid pixel is off by more than 0.5 dB" in shown(bounded.sarcomp)
    assert "one part of latents" in shown(latents.vv_latents.sarcomp)


def test_decoded_backscatter_says_how_it_was_compressed(latents, transparent, tmp_path):
    decoded = latents.sarcomp.decode()
    text = shown(decoded.sarcomp)
    assert "loss of vv, vh" in text
    assert "asked for bits_per_pixel=1" in text
    assert ".compare(original)" in text
    decoded.drop_encoding().to_zarr(tmp_path / "copy.zarr", consolidated=False)
    assert "restored from lossy compression" in shown(
        xr.open_zarr(tmp_path / "copy.zarr", chunks=None, consolidated=False).sarcomp
    )
    opened = shown(transparent.sarcomp)
    assert "opened from a transparent store" in opened
    assert ".drop_encoding()" in opened
    assert "opened from a transparent store" in shown(transparent.vv.sarcomp)


def test_what_is_no_backscatter_says_so():
    assert "found no variable" in shown(xr.Dataset().sarcomp)
    assert "no variable says that it is backscatter" in shown(
        xr.Dataset({"height": (("y", "x"), np.ones((3, 3)))}).sarcomp
    )
    for odd in (
        xr.DataArray(3.0),
        xr.DataArray(["a"]),
        xr.DataArray(np.array([object()])),
        xr.DataArray(np.ones(3)),
    ):
        assert "no backscatter found" in shown(odd.sarcomp)


def test_of_many_variables_some_are_named():
    many = xr.Dataset({f"vv_{number}": (("y", "x"), np.ones((2, 2), "f4")) for number in range(500)})
    text = shown(many.sarcomp)
    assert "and 492 more" in text
    assert len(text) < 2000


def test_lazy_values_are_not_computed():
    def refuse(*_):
        raise AssertionError("computed")

    lazy = xr.DataArray(np.ones((8, 8), "f4"), dims=("y", "x"), name="vv").chunk()
    lazy = lazy.copy(data=lazy.data.map_blocks(refuse, dtype="f4", meta=np.empty((0, 0), "f4")))
    for thing in (lazy, lazy.to_dataset(), lazy.assign_attrs(sarcomp_lossy="x")):
        assert "vv" in shown(thing.sarcomp)
    assert "lazy" in repr(lazy.sarcomp)


def test_names_and_attributes_of_strangers_are_shown_as_text(latents, scene):
    backscatter = {"units": "dB", "long_name": HOSTILE, "polarization": "VV"}
    named = xr.Dataset({f"vv {HOSTILE}": ((f"y{HOSTILE}", "x"), np.ones((4, 4), "f4"), backscatter), HOSTILE: 1})
    for thing in (named, named[HOSTILE], named[f"vv {HOSTILE}"], scene.vv.assign_attrs(sarcomp_lossy=HOSTILE * 1000)):
        assert len(shown(thing.sarcomp)) < 3000
        shown(thing.sarcomp.info())
    forged = latents.copy()
    attribute = copy.deepcopy(latents.vv_latents.attrs["sarcomp"])
    forged["vv_latents"] = forged.vv_latents.assign_attrs(
        sarcomp={**attribute, "target": HOSTILE, "model": HOSTILE, "scale_reason": HOSTILE}
    )
    assert "script" in shown(forged.sarcomp)
    assert "script" in shown(forged.sarcomp.info())


@pytest.mark.parametrize("attribute", [None, 3, "x", [], {}, {"format": 99}, {"format": 1, HOSTILE: 2}], ids=str)
def test_metadata_that_cannot_be_read_are_named(latents, attribute):
    forged = latents.copy()
    forged["vv_latents"] = forged.vv_latents.assign_attrs(sarcomp=attribute)
    text = shown(forged.sarcomp)
    assert "cannot be read" in text
    assert "vh" in text


def test_info_stays_a_dictionary(latents, transparent):
    for dataset in (latents, latents.sarcomp.decode(), transparent, xr.Dataset()):
        info = dataset.sarcomp.info()
        plain = {name: dict(settings) for name, settings in info.items()}
        assert isinstance(info, dict)
        assert info == plain == describe(dataset)
        assert json.dumps(info) == json.dumps(plain)
        assert pickle.loads(pickle.dumps(info)) == copy.deepcopy(info) == plain
        text = shown(info)
        assert text.count("\n") == 0 if not info else all(name in text for name in info)


def test_info_has_words_and_units(latents):
    text = shown(latents.sarcomp.info())
    info = latents.sarcomp.info()["vv"]
    assert f"{info['step_db']:.4g} dB" in text
    assert "float32" in text
    assert "<f4" not in text
    assert info["scale_reason"] in text
    assert info["model_id"] not in text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(
    st.sampled_from(
        ["sarcomp", "sarcomp_lossy", "units", "long_name", "polarization", "nodata", "_FillValue", "flag_values", "x"]
    ),
    json_values | st.just(np.arange(3)),
    max_size=3,
)
names = st.text(min_size=1, max_size=6) | st.sampled_from(["vv", "vh_latents", "sigma0", "y", "x"]) | st.integers(0, 3)


@st.composite
def odd_datasets(draw):
    """Datasets of any names, dimensions, types and attributes."""
    dims = draw(
        st.lists(st.sampled_from(["y", "x", "time", "band", "<b>"]) | st.text(max_size=3), max_size=3, unique=True)
    )
    sizes = {dim: draw(st.integers(0, 3)) for dim in dims}
    dataset = xr.Dataset()
    for name in draw(st.lists(names, max_size=3, unique=True)):
        own = [dim for dim in dims if draw(st.booleans()) and dim != name]
        dtype = draw(st.sampled_from(["f4", "i2", "c8", "U2", "M8[ns]", "?", "O"]))
        array = xr.DataArray(np.zeros([sizes[dim] for dim in own], dtype), dims=own, attrs=draw(attributes))
        if draw(st.booleans()):
            array.encoding = {
                "sarcomp_settings": draw(json_values),
                "serializer": draw(json_values),
                "compressors": draw(json_values),
            }
        if name not in dims:
            dataset[name] = array
    return dataset.assign_attrs(draw(attributes))


@given(odd_datasets())
def test_showing_never_fails(dataset):
    shown(dataset.sarcomp)
    for array in dataset.values():
        shown(array.sarcomp)


@pytest.mark.slow
def test_showing_loads_nothing_heavy():
    program = (
        "import sys, numpy, xarray, xsarcomp\n"
        "array = xarray.DataArray(numpy.ones((8, 8), 'f4'), dims=('y', 'x'), name='vv')\n"  # xarray may load Dask here
        "before = {*sys.modules}\n"
        "for thing in (array, array.to_dataset(), array.assign_attrs(sarcomp_lossy='x'), array.assign_attrs(sarcomp={}).to_dataset()):\n"
        "    repr(thing.sarcomp), thing.sarcomp._repr_html_(), repr(array.sarcomp.info())\n"
        "loaded = {name.split('.')[0] for name in {*sys.modules} - before}\n"
        "print(*sorted(loaded & {'torch', 'dask', 'distributed', 'zarr', 'numcodecs', 'matplotlib', 'numba', 'jinja2'}))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
