"""The step of each plane, and what planes must have in common."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.errors import CorruptStreamError, NotEncodedError
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plane_steps import (
    FINGERPRINT,
    SHARED,
    STEP,
    coding_values,
    differences,
    fingerprinted,
    own_records,
)
from xsarcomp.scenes.simulation import simulated_dataset

ENCODED = simulated_dataset((24, 24), seed=3).expand_dims("time").sarcomp.encode(rmse_db=1, model="s1-grd-10m-lapped")
RECORD = LatentsMetadata.from_attribute(ENCODED.vv_latents.attrs["sarcomp"])
OTHER = {
    "model_id": "ab" * 32,
    "dtype": "<f8",
    "scale": "decibel",
    "nodata": -9999.0,
    "max_error_db": 1.0,
    "keep_means": True,
    "residual_spacing_db": 0.5,
}


@given(st.lists(st.sampled_from([0.02, 1.5, 3.0, 64.0]), max_size=9))
def test_each_plane_gets_its_step_and_runs_are_as_long_as_can_be(steps):
    coding = coding_values(RECORD, (len(steps),))
    coding[:, STEP] = steps
    runs = own_records(coding, RECORD, len(steps))
    assert [own.step_db for run, own in runs for _ in range(len(steps))[run]] == steps
    assert [run.start for run, _ in runs] == [0, *(run.stop for run, _ in runs[:-1])][: len(runs)]
    assert all(first.step_db != second.step_db for (_, first), (_, second) in itertools.pairwise(runs))
    assert all(replace(own, step_db=RECORD.step_db) == RECORD for _, own in runs)


def test_without_a_coding_all_planes_have_the_step_of_the_record():
    assert own_records(None, RECORD, 7) == [(slice(0, 7), RECORD)]


@pytest.mark.parametrize("name", SHARED)
def test_each_shared_setting_changes_the_fingerprint_and_is_named(name):
    other = replace(RECORD, **{name: OTHER[name]})
    assert fingerprinted(other).fingerprint != fingerprinted(RECORD).fingerprint == RECORD.fingerprint
    assert differences(other, RECORD) == [f"{name} {OTHER[name]!r} instead of {getattr(RECORD, name)!r}"]


def test_what_may_differ_does_not_change_the_fingerprint():
    for name, value in {"step_db": 9.0, "anchor": 3, "target": "else", "attributes": {}, "corners": (1.0,) * 4}.items():
        assert fingerprinted(replace(RECORD, **{name: value})).fingerprint == RECORD.fingerprint
        assert differences(replace(RECORD, **{name: value}), RECORD) == []


@pytest.mark.parametrize("nodata", [-9999.0, 0, float("nan")])
def test_equal_nodata_of_several_types_has_one_fingerprint(nodata):
    records = [replace(RECORD, nodata=kind(nodata)) for kind in (float, np.float32, np.float64)]
    assert len({fingerprinted(record).fingerprint for record in records}) == 1
    assert differences(records[0], records[1]) == []


@pytest.mark.parametrize("column", [STEP, FINGERPRINT])
def test_a_missing_coding_is_an_error(column):
    coding = coding_values(RECORD, (3,))
    coding[1, column] = np.nan
    with pytest.raises(CorruptStreamError, match="missing"):
        own_records(coding, RECORD, 3)


@pytest.mark.parametrize("step", [0.0, -1.0, 1000.0, 1e300])
def test_steps_that_cannot_be_are_refused(step):
    coding = coding_values(RECORD, (2,))
    coding[1, STEP] = step
    with pytest.raises(CorruptStreamError, match="steps"):
        own_records(coding, RECORD, 2)


def test_planes_of_another_fingerprint_are_counted_and_refused():
    coding = coding_values(RECORD, (5,))
    coding[2:, FINGERPRINT] += 1
    with pytest.raises(NotEncodedError, match="3 of 5 planes"):
        own_records(coding, RECORD, 5)
