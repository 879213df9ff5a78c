"""Dates are appended to stores of both kinds, or nothing changes."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import zarr

from xsarcomp.errors import ConfigurationError, DimensionError, NotEncodedError, SarcompError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.appending import append_dataset
from xsarcomp.stores.recording import UNFINISHED
from xsarcomp.stores.verification import verify_store

pytestmark = [pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"), pytest.mark.slow]

MODEL = "s1-grd-10m-lapped"
KINDS = ["latents", "transparent", "transparent format 2"]


def scene(number, shape=(150, 136), variables=("vv", "vh")):
    """One date of simulated backscatter, with a scalar time."""
    date = np.datetime64("2024-01-01T05:06:07.123456") + np.timedelta64(12 * number, "D")
    return simulated_dataset(shape, seed=number)[[*variables]].assign_coords(time=date)


def dated(*numbers, **options):
    return xr.concat([scene(number, **options) for number in numbers], "time", join="override")


def write(path, kind, first, **options):
    """A store of some dates."""
    if kind == "latents":
        first.sarcomp.encode(bits_per_pixel=1, model=MODEL).sarcomp.to_zarr(path, **options)
    else:
        zarr_format = 2 if kind.endswith("2") else 3
        encoding = first.sarcomp.encoding(bits_per_pixel=1, model=MODEL, zarr_format=zarr_format)
        first.sarcomp.to_zarr(path, encoding=encoding, zarr_format=zarr_format, **options)
    return path


def read(path):
    opened = xr.open_zarr(path, decode_coords="all")
    return (
        opened.sarcomp.decode() if any("sarcomp" in one.attrs for one in opened.variables.values()) else opened
    ).load()


def content(path):
    """All bytes of a store."""
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_to_which_dates_were_appended_is_the_store_of_all_dates(tmp_path, kind, is_lazy):
    path = write(tmp_path / "s.zarr", kind, dated(1))
    for addition in (scene(2), dated(3, 4)):
        (addition.chunk() if is_lazy else addition).sarcomp.append(path)
    found, original = read(path), dated(1, 2, 3, 4)
    np.testing.assert_array_equal(found.time, original.time)
    for name in ("vv", "vh"):
        alone = read(write(tmp_path / "one.zarr", kind, dated(1), mode="w"))
        np.testing.assert_array_equal(found[name][0], alone[name][0])
        error = 10 * np.log10(found[name].astype("f8") / original[name])
        assert np.sqrt((error**2).mean(("y", "x"))).max() < 1.3
    assert found.rio.crs == original.rio.crs
    report = verify_store(path)
    assert (report.ok, report.manifest, report.problems) == (True, "recorded", ())


def test_the_settings_are_those_of_the_store(tmp_path):
    path = tmp_path / "s.zarr"
    dated(1).sarcomp.encode(max_error_db=0.5, model=MODEL).sarcomp.to_zarr(path)
    scene(2).sarcomp.append(path)
    error = 10 * np.log10(read(path).vv.astype("f8") / dated(1, 2).vv)
    assert np.abs(error).max() <= 0.5


@pytest.mark.parametrize("first_is_lazy", [False, True])
def test_exact_values_of_a_later_date_are_kept(tmp_path, first_is_lazy):
    path, later = tmp_path / "s.zarr", dated(2)
    later["vv"][0, 3, 4] = -0.001
    first = dated(1).sarcomp.encode(bits_per_pixel=1, model=MODEL)
    if not first_is_lazy:  # as stores of older versions are
        first = first.drop_vars(["vv_exact", "vh_exact"])
    first.sarcomp.to_zarr(path)
    (later if first_is_lazy else later.chunk()).sarcomp.append(path)
    found = read(path)
    assert found.vv[1, 3, 4] == np.float32(-0.001)
    assert (found.vv[0] > 0).any()
    dated(3).sarcomp.encode(like=xr.open_zarr(path, decode_coords="all")).drop_vars(
        ["vv_exact", "vh_exact"]
    ).sarcomp.append(path)
    assert read(path).sizes["time"] == 3
    assert verify_store(path).ok


def test_small_scenes_share_chunks_and_keep_what_was_there(tmp_path):
    path = write(tmp_path / "s.zarr", "latents", dated(1, 2, 3, shape=(40, 48)))
    before = read(path)
    for number in (4, 5):
        dated(number, shape=(40, 48)).chunk(time=1).sarcomp.append(path)
    assert zarr.open_array(path / "vv_latents").chunks[0] > 2
    np.testing.assert_array_equal(read(path).vv[:3], before.vv)
    error = 10 * np.log10(read(path).vv / dated(1, 2, 3, 4, 5, shape=(40, 48)).vv)
    assert np.sqrt((error**2).mean(("y", "x"))).max() < 2
    assert verify_store(path).ok


def _shifted(dataset):
    return dataset.assign_coords(x=dataset.x + 30_000)


def _by_a_pixel(dataset):
    return dataset.assign_coords(y=dataset.y + 10)


WRONG = {
    "shifted by 30 km": (_shifted, DimensionError, "coordinate 'x' begins at"),
    "shifted by a pixel": (_by_a_pixel, DimensionError, "coordinate 'y' begins at"),
    "flipped": (lambda one: one.isel(y=slice(None, None, -1)), DimensionError, "coordinate 'y'"),
    "cut": (lambda one: one.isel(y=slice(0, 100)), DimensionError, "100 x 136 pixels instead of 150 x 136"),
    "of another zone": (
        lambda one: one.rio.write_crs("EPSG:32633"),
        DimensionError,
        "EPSG:32633 instead of EPSG:32632",
    ),
    "without a polarization": (lambda one: one.drop_vars("vh"), NotEncodedError, "vh is missing"),
    "with one too many": (lambda one: one.assign(hh=one.vv), NotEncodedError, "the store has no hh"),
    "in decibels": (
        lambda one: (10 * np.log10(one)).assign_attrs(one.attrs).map(lambda v: v.assign_attrs(units="dB")),
        SarcompError,
        "decibel",
    ),
    "in another type": (lambda one: one.astype("f8"), ConfigurationError, "'<f8'|float64"),
    "without a time": (lambda one: one.drop_vars("time"), DimensionError, "no 'time'"),
    "of a date that is there": (lambda one: one.assign_coords(time=scene(1).time), ConfigurationError, "already"),
}


@pytest.mark.parametrize("kind", ["latents", "transparent"])
@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_into_a_store_is_refused_before_anything_is_written(tmp_path, name, kind):
    change, error, message = WRONG[name]
    path = write(tmp_path / "s.zarr", kind, dated(1))
    before = content(path)
    with pytest.raises(error, match=message):
        change(scene(2)).sarcomp.append(path)
    assert content(path) == before


@pytest.mark.parametrize("name", ["shifted by 30 km", "without a polarization", "of another zone", "cut"])
def test_encoding_like_a_store_looks_at_its_grid(tmp_path, name):
    change, error, message = WRONG[name]
    like = xr.open_zarr(write(tmp_path / "s.zarr", "latents", dated(1)), decode_coords="all")
    if name == "without a polarization":
        error, message = NotEncodedError, "vh"
    with pytest.raises(error, match=message):
        change(dated(2)).sarcomp.encode(like=like)


def test_latents_of_another_store_are_refused(tmp_path):
    path = write(tmp_path / "s.zarr", "latents", dated(1))
    other = dated(2).sarcomp.encode(max_error_db=1, model=MODEL)
    with pytest.raises(ConfigurationError, match="max_error_db 1"):
        other.sarcomp.append(path)
    dated(2).sarcomp.encode(like=xr.open_zarr(path, decode_coords="all")).sarcomp.append(path)
    assert read(path).sizes["time"] == 2


def test_a_time_that_the_store_cannot_hold_is_refused_and_nothing_is_appended(tmp_path):
    first = dated(1)
    first.time.encoding = {"units": "days since 2024-01-01", "dtype": "int64"}
    first["time"] = first.time.dt.floor("D").assign_attrs(first.time.attrs)
    first.time.encoding = {"units": "days since 2024-01-01", "dtype": "int64"}
    path = write(tmp_path / "s.zarr", "latents", first)
    before = content(path)
    with pytest.raises(ConfigurationError, match="'time' 2024-01-25T05"):
        scene(2).sarcomp.append(path)
    assert content(path) == before


def test_chunks_that_hold_several_dates_with_loss_are_not_coded_again(tmp_path):
    first = dated(1, 2, 3).chunk(time=2)
    path = tmp_path / "s.zarr"
    encoding = first.sarcomp.encoding(bits_per_pixel=1, model=MODEL)
    for name in ("vv", "vh"):
        encoding[name]["chunks"] = (2, 150, 136)
    first.sarcomp.to_zarr(path, encoding=encoding)
    before = content(path)
    with pytest.raises(DimensionError, match=r"room for 1 more.*chunk\(time=1\)"):
        scene(4).sarcomp.append(path)
    assert content(path) == before


class _Broken:
    """Values of which a part cannot be read."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim

    def __getitem__(self, place):
        raise OSError("the disk went away")


@pytest.mark.parametrize("shares_a_chunk", [False, True])
def test_after_an_error_the_store_is_as_it_was(tmp_path, shares_a_chunk):
    import dask.array

    shape, numbers = ((40, 48), (1, 2, 3)) if shares_a_chunk else ((150, 136), (1,))
    path = write(tmp_path / "s.zarr", "latents", dated(*numbers, shape=shape))
    dated(4, shape=shape).sarcomp.append(path)
    assert (zarr.open_array(path / "vv_latents").chunks[0] > 1) == shares_a_chunk
    before, addition = content(path), dated(5, shape=shape)
    like = xr.open_zarr(path, decode_coords="all")
    encoded = addition.sarcomp.encode(like=like)
    broken = dask.array.from_array(_Broken(encoded.vh_latents.values), chunks=encoded.vh_latents.shape)
    encoded["vh_latents"] = encoded.vh_latents.copy(data=broken)
    with pytest.raises(OSError, match="went away"):
        encoded.sarcomp.append(path)
    assert content(path) == before
    addition.sarcomp.append(path)
    assert read(path).sizes["time"] == len(numbers) + 2
    assert verify_store(path).ok


def test_dates_that_xarray_appended_are_recorded_by_the_next_append(tmp_path):
    path = write(tmp_path / "s.zarr", "latents", dated(1))
    dated(2).sarcomp.encode(like=xr.open_zarr(path, decode_coords="all")).to_zarr(path, append_dim="time")
    assert not verify_store(path).ok
    dated(3).sarcomp.append(path)
    assert verify_store(path).ok


PROGRAM = """
import sys, time
import xarray as xr
from tests.stores.test_appending import dated
from xsarcomp.stores import array_writes, appending
write = array_writes.write_values
count = int(sys.argv[2])
def slow(*args, **kwargs):
    global count
    write(*args, **kwargs)
    count -= 1
    if count == 0:
        print("now", flush=True)
        time.sleep(60)
appending.write_values = array_writes.write_values = slow
dated(2, 3).chunk(time=1).sarcomp.append(sys.argv[1])
"""


@pytest.mark.parametrize("writes", [1, 3, 5])
def test_what_a_killed_process_left_is_taken_back_by_the_next_call(tmp_path, writes):
    path = write(tmp_path / "s.zarr", "latents", dated(1))
    before = read(path)
    command = [sys.executable, "-c", PROGRAM, str(path), str(writes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n"
        with pytest.raises(ConfigurationError, match="being written by another process"):
            dated(5).sarcomp.append(path)
        process.send_signal(signal.SIGKILL)
    assert (path / UNFINISHED).exists()
    assert not verify_store(path).ok
    xr.testing.assert_identical(read(path), before)  # consolidated metadata are those of before
    dated(2).sarcomp.append(path)
    assert not (path / UNFINISHED).exists()
    assert list(read(path).time.values) == list(dated(1, 2).time.values)
    assert verify_store(path).ok


def test_a_kill_before_the_metadata_are_consolidated_hides_no_date(tmp_path, monkeypatch):
    path = write(tmp_path / "s.zarr", "latents", dated(1), consolidated=True)
    with monkeypatch.context() as patched:
        patched.setattr(zarr, "consolidate_metadata", lambda *_args, **_keywords: None)
        dated(2).sarcomp.append(path)
    assert xr.open_zarr(path).sizes["time"] == 1  # as readers of consolidated metadata see it
    with pytest.raises(ConfigurationError, match="already"):
        dated(2).sarcomp.append(path)
    dated(3).sarcomp.append(path)
    assert list(read(path).time.values) == list(dated(1, 2, 3).time.values)
    assert verify_store(path).ok


@pytest.mark.parametrize("kind", ["latents", "transparent"])
def test_what_the_store_holds_once_is_compared_and_not_lost(tmp_path, kind):
    angle = xr.zeros_like(scene(1).vv, dtype="f4").drop_vars("time").assign_attrs(long_name="incidence angle") + 35
    angle = angle.assign_attrs(long_name="incidence angle", units="degree")
    path = write(tmp_path / "s.zarr", kind, dated(1).assign(angle=angle))
    scene(2).assign(angle=angle).sarcomp.append(path)
    dated(3).assign(angle=angle).sarcomp.append(path)
    assert read(path).angle.dims == ("y", "x")
    before = content(path)
    with pytest.raises(ConfigurationError, match="'angle' has no dimension 'time' and other values"):
        dated(4).assign(angle=angle + 1).sarcomp.append(path)
    with pytest.raises(NotEncodedError, match="the store has no 'slope'"):
        dated(4).assign(slope=angle).sarcomp.append(path)
    assert content(path) == before


@pytest.mark.parametrize("kind", ["latents", "transparent"])
def test_fill_values_that_the_first_dates_showed_are_those_of_later_ones(tmp_path, kind):
    def filled(number):
        decibels = 10 * np.log10(dated(number, variables=("vv",)))
        decibels["vv"][:, :60, :60] = 0.0
        decibels.vv.attrs = {"units": "dB", "long_name": "sigma nought"}
        return decibels

    with pytest.warns(UserWarning, match="exactly 0"):
        path = write(tmp_path / "s.zarr", kind, filled(1))
    filled(2).sarcomp.append(path)
    assert (read(path).vv[:, :60, :60] == 0).all()


def test_there_must_be_a_compressed_store(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no store .* to append to: write the first dates"):
        scene(1).sarcomp.append(tmp_path / "none.zarr")
    dated(1).to_zarr(tmp_path / "plain.zarr")
    with pytest.raises(NotEncodedError, match="nothing that xsarcomp compressed"):
        scene(2).sarcomp.append(tmp_path / "plain.zarr")


def test_only_new_chunks_are_read_for_the_manifest(tmp_path, monkeypatch):
    path = write(tmp_path / "s.zarr", "latents", dated(1, 2))
    from xsarcomp.stores import stored_array

    read_keys = []
    content_of = stored_array.StoredArray._content

    async def noted(self, place, limit):
        read_keys.append(place.key)
        return await content_of(self, place, limit)

    monkeypatch.setattr(stored_array.StoredArray, "_content", noted)
    scene(3).sarcomp.append(path)
    assert {key for key in read_keys if key.startswith("vv_latents")} == {"vv_latents/c/1/0/0/0"}


def test_the_report_and_the_journal_name_the_dimension(tmp_path):
    path = write(tmp_path / "s.zarr", "transparent", dated(1).rename(time="date"))
    report = append_dataset(dated(2).rename(time="date"), path)
    assert (report.dim, report.before, report.after) == ("date", 1, 2)
    assert not (path / UNFINISHED).exists()
