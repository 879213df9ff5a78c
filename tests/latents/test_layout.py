"""Layout of a latents store: dimensions and sizes of the parts, chunks that hold whole planes of small scenes."""

import numpy as np
import pytest

from tests.support.speckle_arrays import array, speckle
from xsarcomp.latents.layout import CHUNK_LATENTS, drop_storage_encoding, part_grids, plane_chunks
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata


def test_grids_are_those_of_the_encoded_parts():
    values = speckle((2, 70, 90))
    values[0, 0, 0] = -1e-3
    encoded = array(values, "time", "y", "x").sarcomp.encode(bits_per_pixel=2, max_error_db=3, keep_means=True)
    metadata = LatentsMetadata.from_attribute(encoded.vv_latents.attrs[ATTRIBUTE])
    grids = part_grids(metadata)
    assert {f"vv_{part}" for part in grids} == set(encoded.data_vars)
    for part, grid in grids.items():
        assert dict(encoded[f"vv_{part}"].sizes) == {"time": 2, **grid}


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((64, 9, 9), ()),
        ((5, 64, CHUNK_LATENTS, 200), (1,)),
        ((5, 64, 32, 32), (4,)),
        ((3, 5, 64, 8, 8), (1, 5)),
        ((0, 64, 8, 8), (1,)),
    ],
    ids=str,
)
def test_planes_share_a_chunk_as_far_as_they_fill_it(shape, chunks):
    assert plane_chunks(shape) == chunks


def test_storage_of_the_source_is_forgotten_but_not_in_the_source():
    stack = array(speckle((8, 8))).to_dataset()
    stack.vv.encoding = {"chunksizes": (8, 8), "grid_mapping": "spatial_ref"}
    assert drop_storage_encoding(stack).vv.encoding == {"grid_mapping": "spatial_ref"}
    assert "chunksizes" in stack.vv.encoding


def test_packing_of_floats_into_floats_is_forgotten_and_that_of_integers_stays():
    dataset = array(np.ones((4, 4), np.float32)).to_dataset()
    packed = {"dtype": "int16", "scale_factor": 0.1}
    for encoding, kept in (({"scale_factor": 10.0}, {}), (packed, packed)):
        dataset.vv.encoding = dict(encoding)
        assert drop_storage_encoding(dataset).vv.encoding == kept
