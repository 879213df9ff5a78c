"""Compiled kernels: the NumPy formulation that they stand for, and how they are loaded."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.numpy_formulation import DIAGONAL, DIRECT, numpy_bins, numpy_points, random_tables
from xsarcomp.codec.choice import choose_points, initial_points
from xsarcomp.codec.contexts import Magnitudes, traverse
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, CHANNELS, LOWEST_SPACINGS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.kernels import channels as channel_kernels
from xsarcomp.codec.kernels import contexts as kernels
from xsarcomp.codec.kernels import trellis as trellis_kernels
from xsarcomp.codec.kernels.compile import ReadOnly1D, Writable3D, compiled
from xsarcomp.codec.quantization import SHIFT_CLASSES
from xsarcomp.codec.trellis import BLOCK_TRELLIS

pytestmark = pytest.mark.slow


@st.composite
def cases(draw):
    """Latents, tables, an anchor, reconstruction points, a step and a Lagrange multiplier."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), CHANNELS, draw(st.integers(1, 21)), draw(st.integers(1, 37)))
    decay = draw(st.sampled_from([0.0, 0.2, 0.6]))
    falling = np.array([np.exp(-decay * (channel // 8 + channel % 8)) for channel in range(CHANNELS)])
    step_db = draw(st.sampled_from([0.02, 0.3, 1.0, 2.0, 3.7, 11.0, 64.0]))
    latents = generator.laplace(0, draw(st.sampled_from([0.5, 3.0, 300.0])), shape) * falling[:, None, None]
    # ties and the edges of rounding, on the grid of the trellis too
    for unit_db in (step_db / 2, 0.5625 * step_db / 2):
        chosen = generator.random(shape) < 0.1
        latents[chosen] = np.rint(latents[chosen] / unit_db) * unit_db
    latents[generator.random(shape) < 0.02] = np.nextafter(0.5, 0) * step_db
    if draw(st.booleans()):
        shipped = load_coder("s1-grd-10m-lapped")
        anchor = draw(st.integers(0, len(shipped.shifts) - 1))
        return latents, shipped.tables, anchor, shipped.shifts[anchor], step_db, draw(st.floats(0, 2))
    shifts = generator.uniform(-0.3, 0.4, (CHANNELS, SHIFT_CLASSES)).astype(np.float32)
    return latents, random_tables(generator), 0, shifts, step_db, draw(st.floats(0, 2))


@given(case=cases())
@settings(deadline=None, max_examples=60)
def test_points_are_those_of_numpy_to_the_last_one(case):
    latents, tables, anchor, shifts, step_db, lagrangian = case
    trellised = tables.trellised[anchor]
    start = initial_points(latents, trellised, step_db, BLOCK_TRELLIS)
    scaled = latents / np.where(trellised, 0.5625 * step_db, step_db)[:, None, None]
    rounded = (np.sign(scaled) * np.floor(np.abs(scaled) + 0.4)).astype(np.int32)
    rounded[:, 0] = np.rint(scaled[:, 0])
    np.testing.assert_array_equal(start, rounded)
    expected = numpy_points(latents, start, tables, anchor, shifts, step_db, lagrangian)
    chosen = choose_points(latents, start, tables, anchor, shifts, step_db, lagrangian)
    assert chosen.dtype == np.int32
    np.testing.assert_array_equal(chosen, expected)


@given(case=cases())
@settings(deadline=None, max_examples=40)
def test_context_bins_are_those_of_numpy(case):
    latents, tables, anchor, _, step_db, _ = case
    points = initial_points(latents, tables.trellised[anchor], step_db, BLOCK_TRELLIS)
    known = Magnitudes()
    for channel in CHANNEL_ORDER:
        if channel:
            expected = numpy_bins(points, tables, anchor, channel)
            bins = known.bins(tables, anchor, channel)
            assert bins.dtype == np.uint8
            np.testing.assert_array_equal(bins, expected)
        known.add(channel, points[:, channel])


def lowest_passes(plane, tables, anchor):
    """Residuals and bins of the passes over a lowest channel, place by place as the format describes them."""
    height, width = plane.shape
    table = 0
    for s in LOWEST_SPACINGS:
        for first_row, first_column, diagonal in ((s, s, True), (0, s, False), (s, 0, False)):
            table += 1
            rows, columns = range(first_row, height, 2 * s), range(first_column, width, 2 * s)
            residuals = np.zeros((len(rows), len(columns)), np.int64)
            bins = np.zeros(residuals.shape, np.int64)
            for place in np.ndindex(residuals.shape):
                i, j = rows[place[0]], columns[place[1]]

                def at(row, column, i=i, j=j, s=s):
                    row, column = i + row * s, j + column * s
                    row = row if 0 <= row < height else 2 * i - row
                    column = column if 0 <= column < width else 2 * j - column
                    inside = 0 <= row < height and 0 <= column < width
                    return int(plane[row, column]) if inside else None

                near = [at(*step) for step in (DIAGONAL if diagonal else DIRECT)]
                if None in near:  # no neighbors across: those along the line count twice
                    near = 2 * [value for value in near if value is not None]
                residuals[place] = int(plane[i, j]) - ((sum(near) + 2) >> 2)
                bins[place] = (tables.lowest_thresholds[anchor, table] <= max(near) - min(near)).sum()
            yield table, residuals, bins


@given(seed=st.integers(0, 2**32), shape=st.tuples(st.integers(1, 2), st.integers(1, 37), st.integers(1, 37)))
@settings(deadline=None, max_examples=40)
def test_the_lowest_channel_is_predicted_as_the_format_says(seed, shape):
    generator = np.random.default_rng(seed)
    tables = random_tables(generator)
    symbols = np.zeros((shape[0], CHANNELS, *shape[1:]), np.int32)
    symbols[:, 0] = np.rint(np.cumsum(generator.laplace(0, 9, shape), 2))
    seen = {}

    def transfer(values, bins, key):
        seen[key[2]] = values, bins
        return values

    result = traverse(symbols, symbols.shape, tables, 0, transfer, coded_channels=1)
    np.testing.assert_array_equal(result, symbols)
    for plane in range(shape[0]):
        for table, residuals, bins in lowest_passes(symbols[plane, 0], tables, 0):
            if residuals.size:
                np.testing.assert_array_equal(seen[table][0][plane], residuals)
                np.testing.assert_array_equal(seen[table][1][plane], bins)
            else:
                assert table not in seen


def test_annotations_are_the_signature_of_a_kernel():
    from numba import types

    @compiled
    def kernel(
        read: ReadOnly1D[np.bool_],
        write: Writable3D[np.uint64],
        integer: int,
        number: float,
        small: np.float32,
        flag: bool,
    ) -> np.uint32:
        write[:] = read.size * integer
        return np.uint32(number + small + flag)

    (signature,) = kernel.nopython_signatures
    arrays = types.Array(types.boolean, 1, "C", readonly=True), types.Array(types.uint64, 3, "C")
    assert signature == types.uint32(*arrays, types.int64, types.float64, types.float32, types.boolean)
    written = np.zeros((1, 2, 3), np.uint64)
    assert kernel(np.ones(4, bool), written, 5, 1.0, 2.0, True) == 4
    assert (written == 20).all()
    with pytest.raises(TypeError):
        kernel(np.ones(4), written, 5, 1.0, 2.0, True)


@pytest.mark.parametrize("name", ["encode_channels", "decode_channels"])
def test_groups_of_arguments_have_the_order_of_the_kernels(name):
    arguments = list(inspect.signature(getattr(channel_kernels, name).py_func).parameters)
    start = arguments.index("trellised")
    groups = (channel_kernels.ChannelTables, channel_kernels.KnownSymbols, channel_kernels.Paths)
    assert arguments[start:-3] == [name for group in groups for name in group._fields]


def dispatchers():
    """The kernels, by module and name."""
    return {
        (module.__name__, name): kernel
        for module in (kernels, trellis_kernels)
        for name, kernel in vars(module).items()
        if hasattr(kernel, "py_func")
    }


def test_calls_never_compile_whatever_arrays_come():
    case = np.random.default_rng(2).normal(0, 9, (2, CHANNELS, 5, 12))
    coder = load_coder("s1-grd-10m-lapped")
    tables, shifts = coder.tables, coder.shifts[3]
    assert tables.trellised[3].any()
    read = case.copy()
    read.setflags(write=False)
    results = []
    for latents in (case, read, np.asfortranarray(case), np.pad(case, 1)[1:-1, 1:-1, 1:-1, 1:-1]):
        start = initial_points(latents, tables.trellised[3], 1.0, BLOCK_TRELLIS)
        start.setflags(write=False)
        results.append(choose_points(latents, np.asfortranarray(start), tables, 3, shifts, 1.0, 0.1))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert {name: len(kernel.signatures) for name, kernel in dispatchers().items()} == dict.fromkeys(dispatchers(), 1)


def run_python(code, **environment):
    """Output of a fresh interpreter that treats warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_no_fused_multiplication_rounds_differently_from_numpy():
    code = (
        "import numba\n"
        "numba.njit = (lambda njit: lambda *a, cache=False, **k: njit(*a, **k))(numba.njit)\n"
        "from xsarcomp.codec.kernels import contexts, decoder, trellis\n"
        "kernels = [kernel for kernel in vars(decoder).values() if hasattr(kernel, 'inspect_asm')]\n"
        "kernels += [trellis.weigh_branches, trellis.extend_paths, trellis.choose_paths]\n"
        "for kernel in (contexts.decide, contexts.choose, *kernels):\n"
        "    print(*kernel.inspect_asm().values())"
    )
    assembly = run_python(code).lower()
    assert len(assembly) > 1000
    assert not [
        word for word in ("vfmadd", "vfmsub", "vfnmadd", "vfnmsub", "fmadd", "fmla", "fmls") if word in assembly
    ]


FIRST_CALLS = """
import threading
import numpy as np
from xsarcomp.codec.quantization import quantize_deadzone
results, start = [], threading.Barrier(8)
def quantize(*latents):
    return quantize_deadzone(np.array(latents).reshape(1, 1, 1, -1), np.ones(1)).ravel().tolist()
def work():
    start.wait()
    results.append(quantize(0.5, -1.7))
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
{meanwhile}
[thread.join() for thread in threads]
print(results == 8 * [[0, -2]])
"""


def test_threads_that_come_first_together_all_get_their_result():
    assert run_python(FIRST_CALLS.format(meanwhile="")).split() == ["True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_the_first_import_leaves_a_child_that_works():
    meanwhile = (
        "import os, time, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # newer Python warns of forks beside threads
        "time.sleep(0.1)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(quantize(3.0)[0])\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert run_python(FIRST_CALLS.format(meanwhile=meanwhile)).split() == ["3", "True"]


def test_machine_code_is_kept_for_the_next_process(tmp_path):
    code = "from xsarcomp.codec.kernels import contexts; print(sum(contexts.choose.stats.cache_hits.values()))"
    assert run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["0"]
    assert list(Path(tmp_path).rglob("*.nbc"))
    assert run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["1"]


def test_kernels_work_where_no_folder_can_be_written():
    code = (
        "from numba.core import caching\n"
        "caching._CacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError('read-only'))\n"
        "from xsarcomp.codec.kernels import contexts\n"
        "from xsarcomp.codec.quantization import quantize_deadzone\n"
        "import numpy as np\n"
        "print(type(contexts.choose._cache).__name__, *quantize_deadzone(np.array([[[[2.6, -0.3]]]]), np.ones(1)).ravel())"
    )
    assert run_python(code).split() == ["NullCache", "3", "0"]
