"""Windows of Dask arrays: the same values for any chunks, few tasks, stable names, nothing computed that is not asked for."""

import pickle

import dask
import dask.array as da
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.scenes import windows
from xsarcomp.scenes.windows import Source, map_windows

SHAPE = (13, 9)
VALUES = np.arange(13 * 9).reshape(SHAPE)
HALO = 2
CHUNKS = ((5, 5, 3), (4, 5))


def around(block):
    return tuple(
        (max(0, start - HALO), min(size, stop + HALO)) for (start, stop), size in zip(block, SHAPE, strict=True)
    )


def same(block):
    return block


def sum_around(block, pieces, weight=1):
    """Sum over the neighborhood of each pixel, clipped at the edges of the array."""
    first = [start for start, _ in around(block)]
    result = np.empty([stop - start for start, stop in block], np.int64)
    for i, j in np.ndindex(*result.shape):
        y, x = block[0][0] + i - first[0], block[1][0] + j - first[1]
        result[i, j] = pieces["around"][max(0, y - HALO) : y + HALO + 1, max(0, x - HALO) : x + HALO + 1].sum()
    return weight * result + pieces.get("same", 0)


def expected():
    return np.array(
        [
            [VALUES[max(0, y - HALO) : y + HALO + 1, max(0, x - HALO) : x + HALO + 1].sum() for x in range(SHAPE[1])]
            for y in range(SHAPE[0])
        ]
    )


def partition(size):
    """Any way to cut an axis into chunks."""
    return st.sets(st.integers(1, size - 1)).map(lambda cuts: tuple(np.diff([0, *sorted(cuts), size]).tolist()))


@settings(max_examples=60, deadline=None)
@given(rows=partition(13), columns=partition(9), result_rows=partition(13), result_columns=partition(9))
def test_any_chunks_of_source_and_result_give_the_values_of_the_whole(rows, columns, result_rows, result_columns):
    source = da.from_array(VALUES, chunks=(rows, columns))
    result = map_windows(
        sum_around, {"around": Source(source, around)}, (result_rows, result_columns), np.int64, name="sum"
    )
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(result.compute(), expected())


def test_several_sources_and_arguments_reach_the_function():
    source = da.from_array(VALUES, chunks=(1, 1))
    own = da.from_array(VALUES, chunks=(6, 6))
    result = map_windows(
        sum_around,
        {"around": Source(source, around), "same": Source(own, same)},
        CHUNKS,
        np.int64,
        name="sum",
        arguments=(3,),
    )
    np.testing.assert_array_equal(result.compute(), 3 * expected() + VALUES)


def test_each_block_of_the_result_is_one_task():
    source = da.from_array(VALUES, chunks=(2, 2))
    result = map_windows(sum_around, {"around": Source(source, around)}, CHUNKS, np.int64, name="sum")
    assert len(dict(result.dask)) - len(dict(source.dask)) == result.npartitions == 6


def test_a_part_of_the_result_computes_only_the_source_blocks_that_it_needs():
    read = []
    source = da.map_blocks(
        lambda block, block_info=None: read.append(block_info[0]["chunk-location"]) or block,
        da.from_array(VALUES, chunks=(1, 1)),
        dtype=VALUES.dtype,
        meta=VALUES[:0, :0],
    )
    result = map_windows(sum_around, {"around": Source(source, around)}, CHUNKS, np.int64, name="sum")
    with dask.config.set(scheduler="synchronous"):
        part = result[:2, :2].compute()
    np.testing.assert_array_equal(part, expected()[:2, :2])
    # the first block of the result is 5 x 4 pixels, and two more around it
    assert sorted(read) == sorted(np.ndindex(7, 6))


def build(name="sum", weight=1, chunks=CHUNKS, function=sum_around, values=VALUES):
    source = da.from_array(values, chunks=(4, 4))
    return map_windows(function, {"around": Source(source, around)}, chunks, np.int64, name=name, arguments=(weight,))


def test_names_of_tasks_depend_on_what_is_computed_and_on_nothing_else():
    assert build().name == build().name
    assert build().name.startswith("sum-")
    others = [build(weight=2), build(chunks=((13,), (9,))), build(values=VALUES + 1), build(name="other")]
    assert len({array.name for array in [build(), *others]}) == 5


def test_the_graph_can_be_pickled_and_is_small():
    assert len(pickle.dumps(dict(build().dask))) < 20_000


def test_what_is_no_dask_array_becomes_one_and_a_dask_array_is_rechunked():
    for array in (VALUES, da.from_array(VALUES, chunks=(1, 9))):
        result = windows.from_numpy_or_dask(array, CHUNKS)
        assert isinstance(result, da.Array)
        assert result.chunks == CHUNKS
        np.testing.assert_array_equal(result.compute(), VALUES)


def test_arrays_computed_together_read_shared_chunks_once():
    read = []
    source = da.from_array(VALUES, chunks=SHAPE).map_blocks(lambda block: read.append(1) or block, meta=VALUES[:0, :0])
    first, second = windows.compute_together([source[:3], source[5:]])
    np.testing.assert_array_equal(first, VALUES[:3])
    np.testing.assert_array_equal(second, VALUES[5:])
    assert len(read) == 1
