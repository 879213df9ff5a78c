"""Golden streams: written once, decoded for ever, by the library and by a decoder made from the text of the format alone.

This file never writes one.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import xsarcomp
from tests.support.format_frames import (
    BACKSCATTER,
    CORRECTED,
    DTYPES,
    FORTRAN_ORDER,
    HAS_EXACT,
    INTEGERS,
    LATENTS,
    LEVELED,
    MASKED,
    VERBATIM,
    frame_from_the_format,
)
from tests.support.format_pixels import means_from_the_format
from tests.support.format_stores import (
    ArrayFromTheFormat,
    Models,
    integers_of_frame_from_the_format,
    latents_from_the_format,
    levels_of_frame_from_the_format,
    parts_from_the_format,
    transparent_from_the_format,
    variable_from_the_format,
)
from tests.support.paths import GOLDEN, ROOT
from xsarcomp.codec import chunk, installed_models, integer_chunk
from xsarcomp.codec.installed_models import resolve_model

pytestmark = pytest.mark.slow

MODELS = Models(Path(xsarcomp.__file__).parent / "pretrained")
LISTED = dict(reversed(line.split("  ")) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())
PIXEL_TOLERANCE_DB = 0.002  # what pixels may differ by between decoders; symbols never
NAMES = sorted(path.relative_to(GOLDEN).as_posix()[: -len(".npy")] for path in GOLDEN.rglob("*.npy"))
STREAMS = [name for name in NAMES if name.startswith("streams")]


def variables(name):
    """Variables of a latents store, in the order of their expected values: vv, vh; none of an array."""
    stored = (GOLDEN / name).glob("*_latents/zarr.json")
    return sorted((path.parent.name.removesuffix("_latents") for path in stored), reverse=True)


def array_folder(name):
    """Folder of the array of a transparent store, or of latents or integers without a scene."""
    return GOLDEN / name / ("vv" if name.startswith("zarr3") else "")


def frames(name):
    """Every frame of a stream, with the id of its model and the nodata value."""
    parts = ("latents", "residual", "gains")
    stored = [GOLDEN / name / f"{variable}_{part}" for variable in variables(name) for part in parts]
    for folder in [path for path in stored if path.exists()] or [array_folder(name)]:
        array = ArrayFromTheFormat(folder)
        for _, content in array.frames():
            yield content, array.configuration.get("model"), array.nodata


def scale_of(name):
    """Scale of a stream; None where it holds integers without a scene."""
    if not variables(name):
        return ArrayFromTheFormat(array_folder(name)).configuration.get("scale")
    folder = GOLDEN / name / f"{variables(name)[0]}_latents"
    return json.loads((folder / "zarr.json").read_text())["attributes"]["sarcomp"]["scale"]


def decoded(name):
    """Values of a stream as the library gives them."""
    if variables(name):
        dataset = xr.open_zarr(GOLDEN / name, consolidated=False).sarcomp.decode()
        values = [dataset[one].values for one in variables(name)]
        return np.stack(values) if name.startswith("latents") else values[0]
    return zarr.open_array(array_folder(name), mode="r")[...]


def decoded_from_the_format(name):
    """Values of a stream as the decoder made from the text of the format gives them."""
    if variables(name):
        values = [variable_from_the_format(GOLDEN / name, one, MODELS) for one in variables(name)]
        return np.stack(values) if name.startswith("latents") else values[0]
    array = ArrayFromTheFormat(array_folder(name))
    if array.name == "xsarcomp.backscatter":
        return transparent_from_the_format(array_folder(name), MODELS)
    if array.name == "xsarcomp.integers":
        return array.values(integers_of_frame_from_the_format)
    return array.values(lambda content: latents_from_the_format(content, MODELS[array.configuration["model"]]))


def assert_same(found, expected, scale):
    """Pixels that are no backscatter to the bit, all others within the tolerance of the format."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    native = [np.ascontiguousarray(values, expected.dtype.newbyteorder("=")) for values in (found, expected)]
    bits = [values.view(f"u{values.itemsize}") for values in native]
    different = (bits[0] != bits[1]) & ~(np.isnan(native[0]) & np.isnan(native[1]))
    if not different.any():
        return
    assert scale is not None, "integers differ"
    values, right = (one[different].astype(np.float64) for one in native)
    assert np.isfinite(right).all()
    if scale == "decibel":
        decibels = values, right
        largest = np.abs(expected[np.isfinite(expected)].astype(np.float64)).max()
    else:
        assert (right > 0).all()
        assert (values > 0).all()
        decibels = [{"power": 10, "amplitude": 20}[scale] * np.log10(one) for one in (values, right)]
        valid = native[1][np.isfinite(native[1]) & (native[1] > 0)].astype(np.float64)
        largest = np.abs(20 * np.log10(valid)).max()
    near = np.abs(decibels[0] - decibels[1]) <= PIXEL_TOLERANCE_DB + 1e-6 * min(largest, 500)
    if expected.dtype.kind != "f":  # rounding may fall the other way
        near |= np.abs(values - right) <= 1
    elif expected.dtype.itemsize == 2:
        near |= np.abs(values - right) <= np.spacing(native[1][different]).astype(np.float64)
    assert near.all()


def test_every_golden_file_is_listed_and_unchanged_and_none_is_missing():
    present = {
        path.relative_to(GOLDEN).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in GOLDEN.rglob("*")
        if path.is_file() and path.suffix not in (".md", ".py", ".pyc") and path.name != "SHA256SUMS"
    }
    assert present == LISTED


def test_there_is_a_golden_store_of_each_format():
    assert {re.sub(r"-[\d.]+$", "", name) for name in NAMES if "/" not in name} == {"latents", "zarr3", "zarr2"}
    assert len(STREAMS) >= 40


def test_golden_streams_hold_all_that_the_format_has():
    contents = [content for name in NAMES for content, _, _ in frames(name)]
    found = [frame_from_the_format(content) for content in contents]
    pixels = [frame for frame in found if frame.kind == BACKSCATTER]
    assert {frame.kind for frame in found} == {BACKSCATTER, LATENTS, INTEGERS}
    assert {frame.dtype.str for frame in pixels} == set(DTYPES)
    assert {frame.scale for frame in pixels} == {"power", "amplitude", "decibel"}
    versions = {int(name.rpartition(".")[2]) for name in NAMES if "/" not in name}
    assert {content[5] for content in contents} == versions
    leveled = {frame.kind for frame in found if frame.flags & LEVELED}
    assert leveled == ({BACKSCATTER, LATENTS} if 2 in versions else set())
    for flag in (MASKED, HAS_EXACT, FORTRAN_ORDER, CORRECTED, VERBATIM):
        assert {bool(frame.flags & flag) for frame in pixels} == {True, False}
    assert any(frame.flags & VERBATIM for frame in found if frame.kind == LATENTS)
    assert {len(frame.shape) for frame in pixels} >= {2, 3, 5}
    assert len({frame.anchor for frame in found}) >= 15
    assert {frame.classes[0] for frame in pixels if frame.classes} >= {1, 4, 5, 255}
    assert {bool(frame.symbols[0] & 128) for frame in pixels} == {True, False}
    coded = [model for name in NAMES for _, model, _ in frames(name) if model]
    in_cells = {resolve_model(name) for name in ("s1-grd-10m-v2", "s1-grd-10m-v2-lapped")}  # test_golden_cells
    assert set(coded) == set(MODELS.paths) - in_cells


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_stream_decodes_to_the_values_that_were_written_with_it(name):
    assert_same(decoded(name), np.load(GOLDEN / f"{name}.npy", allow_pickle=False), scale_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_made_from_the_text_of_the_format_gives_the_same_values(name):
    expected = np.load(GOLDEN / f"{name}.npy", allow_pickle=False)
    assert_same(decoded_from_the_format(name), expected, scale_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_made_from_the_text_of_the_format_gives_the_same_symbols_classes_and_corrections(name):
    for content, model, _ in frames(name):
        kind = content[6]
        if kind == INTEGERS:
            np.testing.assert_array_equal(
                integers_of_frame_from_the_format(content), integer_chunk.decode_integer_chunk(content)
            )
        elif kind == LATENTS:
            found = latents_from_the_format(content, MODELS[model])
            np.testing.assert_array_equal(found, chunk.decode_latents(content, installed_models.load_coder(model)))
        else:
            _, *expected, added = chunk.read_backscatter(content, installed_models.load_coder(model))
            symbols, classes, exact, corrections = parts_from_the_format(content, MODELS[model])
            for one, other in zip((symbols, classes), expected, strict=False):
                np.testing.assert_array_equal(one, other)
            assert exact.tobytes() == expected[2].tobytes()
            levels = levels_of_frame_from_the_format(content)
            assert (levels is None) == (added is None or added.means_db is None)
            if levels is not None:
                step_db = frame_from_the_format(content).step_db
                means = means_from_the_format(levels, symbols, MODELS[model], step_db) - MODELS[model].card.offset_db
                np.testing.assert_allclose(means, added.means_db, atol=1e-9)
                added = None
            added = (0.0, None, None) if added is None else (added.spacing_db, added.residuals, added.gains)
            for one, other in zip(corrections, added, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_decoder_made_from_the_text_of_the_format_needs_nothing_of_the_library():
    for path in (ROOT / "tests/support").glob("format_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "xsarcomp"], path.name
    program = (
        "import sys; sys.modules['xsarcomp'] = None\n"
        "from tests.support.format_stores import Models, transparent_from_the_format\n"
        "print(transparent_from_the_format(sys.argv[1], Models(sys.argv[2])).shape)"
    )
    pretrained = Path(xsarcomp.__file__).parent / "pretrained"
    command = [sys.executable, "-c", program, str(GOLDEN / "zarr3-1.0/vv"), str(pretrained)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "(70, 90)", run.stderr


@pytest.mark.slow
def test_golden_stores_are_never_written_again():
    version = next(name for name in NAMES if "/" not in name).split("-")[1]
    run = subprocess.run([sys.executable, GOLDEN / "write.py", version], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "written once" in run.stderr


def test_the_lowest_latents_alone_are_those_of_the_golden_store():
    for name in ("vv_latents", "vh_latents"):
        array = zarr.open_array(GOLDEN / "latents-1.0" / name, mode="r")
        assert array[:].any()
        np.testing.assert_array_equal(array[:1], array[:][:1])
        np.testing.assert_array_equal(array[0], array[:][0])
