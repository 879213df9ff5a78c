"""The step of each plane, and what planes must have in common."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.metadata import changed
from xsarcomp.errors import CorruptStreamError, NotEncodedError
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plane_steps import (
    CHECK,
    GRID_KEYS,
    SHARED_KEYS,
    STEP,
    PlaneRun,
    _hash,
    _shared,
    accepted_fingerprints,
    check_fingerprint,
    check_numbers,
    describe_differences,
    make_coding,
    plane_runs,
    plane_step,
    with_fingerprint,
)
from xsarcomp.scenes.simulation import simulated_dataset

ENCODED = simulated_dataset((24, 24), seed=3).expand_dims("time").sarcomp.encode(rmse_db=1, model="s1-grd-10m-lapped")
METADATA = LatentsMetadata.from_attribute(ENCODED.vv_latents.attrs["sarcomp"])
OTHER = {
    "model_id": "ab" * 32,
    "dtype": "<f8",
    "scale": "decibel",
    "nodata": -9999.0,
    "max_error_db": 1.0,
    "keep_means": False,
    "residual_spacing_db": 0.5,
}


@given(st.lists(st.sampled_from([0.02, 1.5, 3.0, 64.0]), max_size=9))
def test_each_plane_gets_its_step_and_runs_are_as_long_as_can_be(steps):
    coding = make_coding(METADATA, (len(steps),))
    coding[:, STEP], coding[:, CHECK] = steps, check_numbers(METADATA.fingerprint, steps)
    runs = plane_runs(coding, METADATA, len(steps))
    assert [run.settings.step_db for run in runs for _ in range(len(steps))[run.planes]] == steps
    assert [run.planes.start for run in runs] == [0, *(run.planes.stop for run in runs[:-1])][: len(runs)]
    assert all(first.settings.step_db != second.settings.step_db for first, second in itertools.pairwise(runs))
    assert all(replace(run.settings, step_db=METADATA.settings.step_db) == METADATA.settings for run in runs)


def test_without_a_coding_all_planes_have_the_step_of_the_metadata():
    assert plane_runs(None, METADATA, 7) == [PlaneRun(slice(0, 7), METADATA.settings)]


@pytest.mark.parametrize("name", SHARED_KEYS)
def test_each_shared_setting_changes_the_fingerprint_and_is_named(name):
    other = changed(METADATA, **{name: OTHER[name]})
    assert with_fingerprint(other).fingerprint != with_fingerprint(METADATA).fingerprint == METADATA.fingerprint
    assert describe_differences(other, METADATA) == [f"{name} {OTHER[name]!r} instead of {METADATA.to_dict()[name]!r}"]


def test_what_may_differ_does_not_change_the_fingerprint():
    for name, value in {"step_db": 9.0, "anchor": 3, "target": "else", "attributes": {}, "corners": (1.0,) * 4}.items():
        assert with_fingerprint(changed(METADATA, **{name: value})).fingerprint == METADATA.fingerprint
        assert describe_differences(changed(METADATA, **{name: value}), METADATA) == []


@pytest.mark.parametrize("nodata", [-9999.0, 0, float("nan")])
def test_equal_nodata_of_several_types_has_one_fingerprint(nodata):
    variants = [changed(METADATA, nodata=kind(nodata)) for kind in (float, np.float32, np.float64)]
    assert len({with_fingerprint(variant).fingerprint for variant in variants}) == 1
    assert describe_differences(variants[0], variants[1]) == []


@pytest.mark.parametrize("column", [STEP, CHECK])
def test_a_missing_coding_is_an_error(column):
    coding = make_coding(METADATA, (3,))
    coding[1, column] = np.nan
    with pytest.raises(CorruptStreamError, match="missing"):
        plane_runs(coding, METADATA, 3)


@pytest.mark.parametrize("step", [0.0, -1.0, 1000.0, 1e300])
def test_steps_that_cannot_be_are_refused(step):
    coding = make_coding(METADATA, (2,))
    coding[1, STEP] = step
    with pytest.raises(CorruptStreamError, match="steps"):
        plane_runs(coding, METADATA, 2)


def test_planes_of_another_fingerprint_are_counted_and_refused():
    coding = make_coding(METADATA, (5,))
    coding[2:, CHECK] += 1
    with pytest.raises(NotEncodedError, match="3 of 5 planes"):
        plane_runs(coding, METADATA, 5)


@pytest.mark.parametrize(
    ("name", "value"), [("name", "vh"), ("spatial", ("x", "y")), ("pixels", (24, 32))], ids=list(GRID_KEYS)
)
def test_the_grid_changes_the_fingerprint_but_not_that_of_the_first_encoders(name, value):
    other = with_fingerprint(changed(METADATA, **{name: value}))
    assert other.fingerprint != METADATA.fingerprint
    with pytest.raises(NotEncodedError, match="was changed since"):
        check_fingerprint(replace(other, fingerprint=METADATA.fingerprint))
    assert _hash(_shared(other)) == _hash(_shared(METADATA)) != METADATA.fingerprint
    check_fingerprint(replace(other, fingerprint=_hash(_shared(METADATA))))


def test_planes_of_today_fit_metadata_of_the_first_encoders_and_not_the_other_way():
    first = replace(METADATA, fingerprint=_hash(_shared(METADATA)))
    assert accepted_fingerprints(first) == (first.fingerprint, METADATA.fingerprint)
    for number in (first.fingerprint, check_numbers(METADATA.fingerprint, METADATA.settings.step_db)):
        assert len(plane_runs(np.array([[METADATA.settings.step_db, number]]), first, 1)) == 1
    with pytest.raises(NotEncodedError, match="1 of 1 planes"):
        plane_runs(np.array([[METADATA.settings.step_db, first.fingerprint]]), METADATA, 1)


@given(st.integers(0, 2**48 - 1), st.floats(0.02, 64), st.floats(0.02, 64))
def test_a_check_number_tells_steps_apart_and_no_absolute_value_is_one(fingerprint, step, other):
    number = check_numbers(fingerprint, step)
    assert -(2**48) <= number <= -1
    assert number == np.trunc(number)
    assert (check_numbers(fingerprint, round(step)) == number) == (round(step) == step)
    assert step == other or check_numbers(fingerprint, other) != number


PLANE = simulated_dataset((24, 40), seed=3).sarcomp.encode(rmse_db=1, model="s1-grd-10m-lapped")
PLANE_METADATA = LatentsMetadata.from_attribute(PLANE.vv_latents.attrs["sarcomp"])


def test_a_plane_without_leading_dimensions_has_its_step_at_each_latent_and_in_two_numbers_of_memory():
    coding = make_coding(PLANE_METADATA, ())
    assert coding.shape == (2, 3, 5) == PLANE.vv_coding.shape
    assert coding.base.size == 2
    for window in (coding, coding.copy(), coding[:, 1:2, 2:]):
        assert plane_step(window, PLANE_METADATA) == PLANE_METADATA.settings.step_db


def place(coding, changed_numbers):
    changed_coding = coding.copy()
    changed_coding[:, 2, 4] = changed_numbers
    return changed_coding


def test_latents_of_another_step_beside_those_of_a_plane_are_refused_and_alone_they_are_not():
    coding, step = make_coding(PLANE_METADATA, ()), 9.5
    mixed = place(coding, [step, check_numbers(PLANE_METADATA.fingerprint, step)])
    with pytest.raises(NotEncodedError, match=r"2 encodings .* region was written"):
        plane_step(mixed, PLANE_METADATA)
    assert plane_step(mixed[:, 2:, 4:], PLANE_METADATA) == step
    assert plane_step(mixed[:, :2], PLANE_METADATA) == PLANE_METADATA.settings.step_db


def test_latents_of_a_plane_that_are_missing_foreign_or_impossible_are_refused():
    coding = make_coding(PLANE_METADATA, ())
    step, check = coding[:, 0, 0]
    for numbers, error in (
        ([np.nan, check], CorruptStreamError),
        ([step, np.nan], CorruptStreamError),
        ([-step, check], CorruptStreamError),
        ([step, -check], NotEncodedError),
        ([step, PLANE_METADATA.fingerprint], NotEncodedError),
        ([np.round(step), check], NotEncodedError),
    ):
        for window in (place(coding, numbers), place(coding, numbers)[:, 2:, 4:]):
            with pytest.raises(error):
                plane_step(window, PLANE_METADATA)
