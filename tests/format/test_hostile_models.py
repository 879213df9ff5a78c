"""Models that somebody made to do harm: refused with a ModelError, in little time and memory, or harmless when they are used.

Ids are right wherever they could be: the SHA-256 of a file is computed by whoever makes it, and the JSON beside it too.
"""

import hashlib
import json
import math
import os
import pickle
import random
import resource
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import safetensors.numpy

from tests.codec.test_installed_models import NAME, mutated, write_model
from tests.format.test_hostile import sealed
from tests.support.hostile_models import (
    hostile_card,
    hostile_header,
    hostile_values,
    joined,
    split,
    with_arrays,
    with_card,
)
from xsarcomp.codec import chunk, installed_models, model_file
from xsarcomp.codec.frame import DTYPES, LATENTS, read_frame
from xsarcomp.codec.settings import Settings
from xsarcomp.errors import (
    LARGEST_MESSAGE,
    BitstreamError,
    ModelError,
    ModelIntegrityError,
    ModelNotFoundError,
    SarcompError,
)
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MUTATIONS, LONG_MUTATIONS = 500, 100_000
SECONDS = 5.0
MEBIBYTES = 64
STEPS = (0.5, 2.0, 20.0)


VALUES = np.random.default_rng(0).gamma(4, 0.1 / 4, (24, 40)).astype(np.float32)
VALUES[:3, :3] = np.nan


def symbols_of(coder):
    """The symbol section of a chunk of latents, as a sound model codes it."""
    symbols = np.random.default_rng(1).integers(-3, 4, (64, 3, 5), np.int32)
    return read_frame(chunk.encode_latents(symbols, 0, coder)).symbols


def use(coder, symbols):
    """Encode and decode a small chunk with a model, and decode what another model coded."""
    for step in STEPS:
        content = chunk.encode_backscatter(VALUES, Settings(step_db=step, scale="power", nodata=None), coder)
        assert chunk.decode_backscatter(content, None, coder).shape == VALUES.shape
    for anchor in range(min(3, len(coder.card.anchor_steps_db))):
        fields = {"kind": LATENTS, "dtype": DTYPES.index("<i4"), "anchor": anchor, "scale": 0, "step": 0.0}
        fields["model"] = bytes.fromhex(coder.model_id[:16])
        with pytest.raises(BitstreamError):  # of the hash, if the stream could be read at all
            chunk.decode_latents(sealed(fields, (64, 3, 5), symbols), coder)


def bounded(action, errors):
    """What an action gives, or the error of the wanted types that it raises; fails if it is slow, or large beside the models."""
    tracemalloc.reset_peak()
    before, started = tracemalloc.get_traced_memory()[0], time.thread_time()
    try:
        result = action()
    except errors as error:
        result = error
    assert time.thread_time() - started < SECONDS
    assert tracemalloc.get_traced_memory()[1] - before < MEBIBYTES * 2**20
    return result


def try_models(content, count, seed):
    """How many of many models with hostile cards, headers and values are refused, and how many can be used."""
    rng, loaded = random.Random(seed), safetensors.numpy.load(content)
    sound = model_file.coder_from_bytes(content)
    symbols = symbols_of(sound)
    use(sound, symbols)  # loads the kernels
    refused = used = 0
    tracemalloc.start()
    try:
        for _ in range(count):
            make = rng.choice((hostile_card, hostile_header, lambda model, rng: hostile_values(model, rng, loaded)))
            model = make(content, rng)
            coder = bounded(lambda: model_file.coder_from_bytes(model), ModelError)  # noqa: B023
            if isinstance(coder, ModelError):
                assert len(str(coder)) <= LARGEST_MESSAGE + 10
                refused += 1
                continue
            used += 1
            assert coder.model_id == hashlib.sha256(model).hexdigest()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, where the numbers of a model are extreme
                bounded(lambda: use(coder, symbols), SarcompError)  # noqa: B023
    finally:
        tracemalloc.stop()
    return refused, used


@pytest.mark.slow
def test_hundreds_of_models_made_to_do_harm_are_refused_or_harmless(model_content):
    refused, used = try_models(model_content, MUTATIONS, 1)
    assert refused > MUTATIONS / 2
    assert used > MUTATIONS / 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s1-grd-10m"])
def test_models_with_a_network_made_to_do_harm_are_refused_or_harmless(name):
    pytest.importorskip("torch")
    refused, used = try_models(installed_models.model_content(installed_models.resolve_model(name)), 60, 2)
    assert refused > 20
    assert used > 2


@pytest.mark.soak
def test_very_many_models_made_to_do_harm_are_refused_or_harmless(model_content):
    print("refused, used:", try_models(model_content, LONG_MUTATIONS, 3))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder on the search path."""
    installed_models._load.cache_clear()
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    yield tmp_path / "models"
    installed_models._load.cache_clear()


@pytest.mark.slow
def test_five_hundred_changed_files_are_refused_under_the_id_of_the_model(folder, model_content):
    model_id, generator, changed = write_model(folder, model_content), np.random.default_rng(4), 0
    while changed < MUTATIONS:
        content = mutated(model_content, generator)
        if content == model_content:
            continue
        changed += 1
        (folder / f"{NAME}.safetensors").write_bytes(content)
        with pytest.raises(ModelIntegrityError, match=r"SHA-256|regular file"):
            installed_models.load_coder(model_id)


def test_an_id_made_to_fit_a_changed_file_does_not_make_it_a_model(folder, model_content):
    """What a hostile author does: all of the file is consistent but what the decoder needs."""
    rng, refused = random.Random(5), 0
    for number in range(50):
        model_id = write_model(folder, (hostile_card, hostile_header)[number % 2](model_content, rng))
        loaded = bounded_load(model_id)
        refused += isinstance(loaded, ModelError)
    assert refused > 25


def bounded_load(model):
    started = time.thread_time()
    try:
        return installed_models.load_coder(model)
    except ModelError as error:
        return error
    finally:
        assert time.thread_time() - started < SECONDS


def arrays_of(content):
    return safetensors.numpy.load(content)


def test_tables_for_no_anchor_are_refused(model_content):
    """An array of no elements has no smallest element: NumPy said so in place of us."""
    names = set(arrays_of(model_content)) - {"lapped_basis", "shifts", "odd_frequencies"}
    changes = {name: arrays_of(model_content)[name][:0] for name in names}
    changes["odd_frequencies"] = arrays_of(model_content)["odd_frequencies"][:0]
    with pytest.raises(ModelIntegrityError, match="anchor"):
        model_file.coder_from_bytes(with_arrays(model_content, changes))


@pytest.mark.parametrize(
    "name", ["thresholds", "term_channels", "lowest_frequencies", "lowest_thresholds", "sign_thresholds"]
)
@pytest.mark.parametrize("shape", [(), (3,), (3, 64), (0,)])
def test_a_table_with_too_few_dimensions_is_refused(model_content, name, shape):
    """Two mutations of the long form: a table of fewer dimensions was an IndexError."""
    array = np.zeros(shape, arrays_of(model_content)[name].dtype)
    with pytest.raises(ModelIntegrityError, match=f"{name!r} has shape"):
        model_file.coder_from_bytes(with_arrays(model_content, {name: array}))


@pytest.mark.parametrize("name", ["frequencies", "lowest_frequencies"])
def test_rows_of_frequencies_that_do_not_sum_up_are_refused(model_content, name):
    array = arrays_of(model_content)[name].copy()
    array[0, 1, 0, 0] += 1
    with pytest.raises(ModelIntegrityError, match="sum to 65536"):
        model_file.coder_from_bytes(with_arrays(model_content, {name: array}))
    array[0, 1, 0, 1] -= 1
    assert model_file.coder_from_bytes(with_arrays(model_content, {name: array})).model_id


@pytest.mark.parametrize("name", ["shifts"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(model_content, name, value):
    array = arrays_of(model_content)[name].copy()
    array.reshape(-1)[-1] = value
    with pytest.raises(ModelIntegrityError, match="finite"):
        model_file.coder_from_bytes(with_arrays(model_content, {name: array}))


def test_arrays_that_share_their_bytes_are_refused(model_content):
    header, data = split(model_content)
    header["sign_thresholds"]["data_offsets"] = header["thresholds"]["data_offsets"]
    with pytest.raises(ModelIntegrityError):
        model_file.coder_from_bytes(joined(header, data))


@pytest.mark.parametrize("claimed", [2**20 + 1, 10**8, 10**8 + 1, 2**32, 2**63, 2**64 - 1])
def test_a_header_that_claims_much_is_refused_before_it_is_read(model_content, claimed):
    header, data = split(model_content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelIntegrityError, match=f"its header claims {claimed} of"):
            model_file.coder_from_bytes(joined(header, data, claimed))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_header_that_is_as_long_as_it_claims_is_refused_before_it_is_parsed(model_content):
    """A header of 100 MB within the limit of the file was parsed twice, to gigabytes of dictionaries."""
    header, data = split(model_content)
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps(header | {f"network.{number}": entry for number in range(40_000)}).encode()
    assert 2**20 < len(text) < 10**8
    with pytest.raises(ModelIntegrityError, match="its header claims"):
        model_file.coder_from_bytes(joined(text, data))


def test_what_a_file_says_does_not_make_an_error_endless_and_its_advice_stays(model_content):
    """The names of 5000 arrays of a mutated file stood in the error."""
    arrays = {f"network.{number}": np.zeros(0, np.uint8) for number in range(5000)}
    with pytest.raises(ModelIntegrityError, match=r"holds weights \['0', .* \[...\] .* names no network$") as caught:
        model_file.coder_from_bytes(with_arrays(model_content, arrays))
    assert len(str(caught.value)) <= LARGEST_MESSAGE + 10
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_card_that_asks_for_a_large_network_gets_none_without_its_weights(model_content):
    model = with_card(model_content, architecture="lapped-residual", network={"channels": 1024, "blocks": 32})
    tracemalloc.start()
    try:
        with pytest.raises(ModelIntegrityError, match="network has arrays that are missing"):
            model_file.coder_from_bytes(model)
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTES * 2**20
    finally:
        tracemalloc.stop()


def test_a_pipe_in_place_of_either_file_is_passed_over_and_nobody_waits_for_it(folder, model_content):
    """A pipe in place of the JSON file stopped every look for a model for ever."""
    model_id = write_model(folder, model_content)
    os.mkfifo(folder / "pipe.json")
    (folder / "pipe.safetensors").write_bytes(b"")
    os.mkfifo(folder / "other.safetensors")
    (folder / "other.json").write_text(json.dumps({"id": "1" * 64}))
    with pytest.warns(UserWarning, match="pipe.json is no readable JSON .*regular file"):
        assert installed_models.load_coder(NAME).model_id == model_id
    with pytest.warns(UserWarning, match="pipe.json"), pytest.raises(ModelNotFoundError, match="1111"):
        installed_models.load_coder("1" * 64)


def test_a_pipe_that_takes_the_place_of_a_model_after_it_was_found_is_refused(folder, model_content, monkeypatch):
    write_model(folder, model_content)
    path = folder / f"{NAME}.safetensors"
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: True)
    with pytest.raises(ModelIntegrityError, match="no regular file"):
        installed_models.load_coder(NAME)


@pytest.mark.parametrize("what", ["directory", "list of lists", "large", "no text", "number"])
def test_a_bad_description_takes_no_other_model_away(folder, model_content, what):
    model_id = write_model(folder, model_content)
    bad = folder / "bad.json"
    (folder / "bad.safetensors").write_bytes(model_content)
    if what == "directory":
        bad.mkdir()
    else:
        bad.write_bytes({
            "list of lists": b"[" * 200_000, "large": b" " * (2**20 + 1), "no text": b"\xff\xfe", "number": b"1" * 5000,
        }[what])  # fmt: skip
    with pytest.warns(UserWarning, match="bad.json is no readable JSON"):
        assert installed_models.load_coder(NAME).model_id == model_id


@pytest.mark.parametrize(
    "model_id", [int("1" * 64), ["1" * 64], None, "1" * 63, "1" * 64 + "\n", "G" * 64, "../" * 21 + "x"]
)
def test_a_description_without_an_id_is_passed_over(folder, model_content, model_id):
    """A number of 64 digits looked like an id, and was none."""
    write_model(folder, model_content)
    (folder / f"{NAME}.json").write_text(json.dumps({"id": model_id}))
    with pytest.raises(ModelNotFoundError):
        installed_models.load_coder(NAME)


def test_links_lead_to_models_but_to_no_device(folder, model_content, tmp_path):
    model_id = write_model(tmp_path / "elsewhere", model_content)
    for suffix in ("json", "safetensors"):
        (folder / f"{NAME}.{suffix}").symlink_to(tmp_path / "elsewhere" / f"{NAME}.{suffix}")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "zero.json").write_text(json.dumps({"id": "2" * 64}))
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "loop.json").write_text(json.dumps({"id": "3" * 64}))
    (folder / "secret.safetensors").symlink_to("/etc/passwd")
    (folder / "secret.json").write_text(json.dumps({"id": "4" * 64}))
    assert installed_models.load_coder(NAME).model_id == model_id
    with pytest.raises(ModelIntegrityError, match="SHA-256") as caught:
        installed_models.load_coder("secret")
    assert "root" not in str(caught.value)
    for name in ("zero", "loop"):
        with pytest.raises(ModelNotFoundError):
            installed_models.load_coder(name)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(folder, model_content):
    write_model(folder, model_content)
    with (folder / f"{NAME}.safetensors").open("r+b") as file:
        file.truncate(2**40)  # takes no place on the disk
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelIntegrityError, match="regular file of at most 256 MiB"):
        installed_models.load_coder(NAME)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < MEBIBYTES * 1024


def test_a_store_whose_model_is_not_installed_names_the_id_the_folders_and_what_to_install(
    folder, monkeypatch, tmp_path
):
    encoded = simulated_dataset((24, 40), 3).sarcomp.encode(model="s1-grd-10m-lapped", rmse_db=1)
    model_id = encoded.vv_latents.attrs["sarcomp"]["model_id"]
    monkeypatch.setattr(installed_models, "model_folders", lambda: [folder])
    installed_models._load.cache_clear()
    with pytest.raises(ModelNotFoundError) as caught:
        encoded.sarcomp.decode()
    message = str(caught.value)
    assert all(
        part in message
        for part in (model_id, str(folder), "XSARCOMP_MODEL_PATH", ".safetensors", ".json", "update xsarcomp")
    )
