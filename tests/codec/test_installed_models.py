"""Model files: found by name or id alone, verified at each load, and refused when a byte has changed."""

import dataclasses
import hashlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from xsarcomp.codec import installed_models, model_file
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import EntropyTables
from xsarcomp.codec.installed_models import load_coder, model_name, resolve_model
from xsarcomp.codec.model_file import coder_from_bytes, model_bytes
from xsarcomp.errors import ModelIntegrityError, ModelNotFoundError

NAME = "simulated-small"
PRETRAINED = Path(installed_models.__file__).parents[1] / "pretrained"


@pytest.fixture(autouse=True)
def forget_loaded_models():
    """Each test loads models itself."""
    installed_models._load.cache_clear()
    yield
    installed_models._load.cache_clear()


def write_model(folder, content, name=NAME, model_id=None):
    """Put a model into a folder, under the id of its bytes if no other is given; returns the id."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(content)
    model_id = model_id or hashlib.sha256(content).hexdigest()
    (folder / f"{name}.json").write_text(json.dumps({"id": model_id, "training": "simulated"}), encoding="utf-8")
    return model_id


@pytest.fixture
def folder(tmp_path, monkeypatch, model_content):
    """A folder on the search path that holds the small model."""
    write_model(tmp_path / "models", model_content)
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(tmp_path / "models"))
    return tmp_path / "models"


def test_model_is_found_by_name_and_by_id(folder, model_content):
    model_id = hashlib.sha256(model_content).hexdigest()
    assert resolve_model(NAME) == resolve_model(model_id) == model_id
    assert model_name(model_id) == NAME
    loaded = load_coder(NAME)
    assert loaded is load_coder(model_id)
    assert loaded.model_id == model_id
    assert loaded.card.name == NAME
    assert installed_models.installed_models()[NAME]["training"] == "simulated"


def test_search_path_may_name_several_folders_and_the_first_wins(tmp_path, monkeypatch, model_content, coder):
    first = write_model(tmp_path / "a", model_content)
    write_model(tmp_path / "b", model_content, model_id="1" * 64)
    write_model(tmp_path / "b", model_content, name="second")
    path = os.pathsep.join([str(tmp_path / "absent"), str(tmp_path / "a"), "", str(tmp_path / "b")])
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", path)
    assert resolve_model(NAME) == first
    assert {NAME, "second"} <= set(installed_models.installed_models())


@pytest.mark.parametrize("ask", [resolve_model, load_coder])
@pytest.mark.parametrize(
    "name",
    [
        "no-such-model",
        "",
        "../models/" + NAME,
        "./" + NAME,
        NAME + ".json",
        NAME + "\0",
        "\0",
        "a" * 10_000,
        "É",
        NAME.upper(),
    ],
    ids=lambda name: ascii(name)[:24],
)
def test_name_that_is_not_installed_is_refused_with_what_was_looked_for_and_where(folder, ask, name):
    with pytest.raises(ModelNotFoundError) as caught:
        ask(name)
    message = str(caught.value)
    assert repr(name[:80]) in message
    assert NAME in message  # what there is instead
    assert "XSARCOMP_MODEL_PATH" in message
    assert "package" in message
    assert len(message) < 1000


def test_no_name_reaches_a_file_outside_the_searched_folders(folder, model_content):
    outside = folder.parent / "outside"
    write_model(outside, model_content, name="stranger")
    for name in (
        "stranger",
        "../outside/stranger",
        str(outside / "stranger"),
        str(outside / "stranger.safetensors"),
    ):
        with pytest.raises(ModelNotFoundError):
            load_coder(name)


def test_id_that_is_not_installed_is_refused(folder):
    for ask in (resolve_model, load_coder, model_name):
        with pytest.raises(ModelNotFoundError, match="ffffffffffffffff"):
            ask("f" * 64)


def test_files_that_are_no_models_are_not_listed(folder, model_content):
    write_model(folder, model_content, name="Upper")
    write_model(folder, model_content, name="short-id", model_id="abc")
    (folder / "alone.json").write_text(json.dumps({"id": "2" * 64}))
    (folder / "list.json").write_text("[]")
    (folder / "list.safetensors").write_bytes(b"")
    assert set(installed_models.installed_models()) - {path.stem for path in PRETRAINED.glob("*.json")} == {NAME}


def test_description_that_is_no_json_is_named(folder):
    (folder / f"{NAME}.json").write_text("{")
    with pytest.warns(UserWarning, match=NAME), pytest.raises(ModelNotFoundError, match=NAME):
        load_coder(NAME)


@pytest.mark.filterwarnings("ignore:.* is no readable JSON")
def test_a_damaged_description_takes_no_other_model_away(folder):
    (folder / "damaged.json").write_text("{")
    (folder / "damaged.safetensors").write_bytes(b"")
    assert load_coder(NAME).card.name == NAME


def test_a_second_model_of_a_name_is_found_by_its_id(folder, tmp_path, monkeypatch, model_content):
    first = tmp_path / "first"
    first.mkdir()
    card = dataclasses.replace(load_coder(NAME).card, lagrangian=0.5)
    old = load_coder(NAME)
    other = model_bytes(card, old.basis, old.tables, old.shifts)
    (first / f"{NAME}.safetensors").write_bytes(other)
    (first / f"{NAME}.json").write_text(json.dumps({"id": hashlib.sha256(other).hexdigest()}))
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", f"{first}{os.pathsep}{folder}")
    assert resolve_model(NAME) == hashlib.sha256(other).hexdigest()
    assert load_coder(old.model_id).model_id == old.model_id


@pytest.mark.parametrize("place", [0, 9, 200, -40_000, -1])
def test_flipped_byte_in_a_model_file_is_noticed(folder, model_content, place):
    damaged = bytearray(model_content)
    damaged[place] ^= 1
    (folder / f"{NAME}.safetensors").write_bytes(damaged)
    with pytest.raises(ModelIntegrityError, match="SHA-256"):
        load_coder(NAME)


def test_model_file_that_is_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr(installed_models, "LARGEST_MODEL_BYTES", 1000)
    with pytest.raises(ModelIntegrityError, match="regular file"):
        load_coder(NAME)


def mutated(content, generator):
    """A model file with a few bytes changed, often in its header, or cut, or with bytes inserted."""
    damaged = bytearray(content)
    header_stop = 8 + int.from_bytes(content[:8], "little")
    limit = header_stop if generator.random() < 0.5 else len(content)
    kind = generator.integers(4)
    if kind == 0:
        return bytes(damaged[: generator.integers(limit)])
    if kind == 1:
        place = int(generator.integers(limit))
        damaged[place:place] = generator.bytes(int(generator.integers(1, 9)))
        return bytes(damaged)
    for _ in range(int(generator.integers(1, 5))):
        damaged[generator.integers(limit)] = generator.integers(256)
    return bytes(damaged)


def test_no_mutation_of_a_model_file_is_loaded_under_its_id(folder, model_content):
    generator = np.random.default_rng(2)
    for _ in range(200):
        content = mutated(model_content, generator)
        (folder / f"{NAME}.safetensors").write_bytes(content)
        if content == model_content:
            continue
        with pytest.raises(ModelIntegrityError):
            load_coder(NAME)


def test_mutated_bytes_are_an_integrity_error_or_another_valid_model(model_content, coder):
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        content = mutated(model_content, generator)
        try:
            loaded = coder_from_bytes(content)
        except ModelIntegrityError:
            refused += 1
            continue
        assert isinstance(loaded, LappedCoder)
        assert loaded.model_id != coder.model_id or content == model_content
    assert refused > 100


def test_each_damaged_character_of_the_header_is_an_integrity_error_or_another_valid_model(model_content):
    header_stop = 8 + int.from_bytes(model_content[:8], "little")
    for place in range(0, header_stop, 3):
        damaged = bytearray(model_content)
        damaged[place] = ord('"') if damaged[place] != ord('"') else ord("1")
        try:
            coder_from_bytes(bytes(damaged))
        except ModelIntegrityError:
            continue


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8, b"\xff" * 100, b"\x02" + bytes(7) + b"{}", b"\x02" + bytes(7) + b"[]"]
)
def test_bytes_that_are_no_model_are_refused(content):
    with pytest.raises(ModelIntegrityError):
        coder_from_bytes(content)


def test_model_is_loaded_once_for_eight_threads(folder, monkeypatch):
    loads, coders, barrier = [], [], threading.Barrier(8)
    original = model_file.coder_from_bytes

    def counted(content):
        loads.append(len(content))
        time.sleep(0.1)  # so that the others come meanwhile; it holds if they do not
        return original(content)

    def ask():
        barrier.wait()
        coders.append(load_coder(NAME))

    monkeypatch.setattr(installed_models, "coder_from_bytes", counted)
    with ThreadPoolExecutor(8) as pool:
        for asked in [pool.submit(ask) for _ in range(8)]:
            asked.result()
    assert len(coders) == 8
    assert len({id(loaded) for loaded in coders}) == 1
    assert len(loads) == 1


def test_writing_a_loaded_model_gives_its_bytes_again_whatever_the_memory_layout(coder, model_content):
    written = model_bytes(coder.card, coder.basis, coder.tables, coder.shifts)
    assert written == model_content
    fortran = EntropyTables(**{name: np.asfortranarray(getattr(coder.tables, name)) for name in EntropyTables.names()})
    layout = model_bytes(coder.card, np.asfortranarray(coder.basis), fortran, np.asfortranarray(coder.shifts))
    assert layout == model_content


def changed_model(coder, **changes):
    parts = {name: getattr(coder, name) for name in ("card", "basis", "tables", "shifts")}
    return model_bytes(**(parts | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"basis": np.zeros((8, 16), np.int32)},
        {"basis": np.full((16, 8), np.nan, np.float32)},
        {"basis": np.zeros((16, 8), np.float32)},
        {"shifts": np.zeros((2, 64, 6), np.float32)},
        {"shifts": np.zeros((3, 64, 3), np.float32)},
        {"shifts": np.full((3, 64, 6), np.inf, np.float32)},
        {"network": {"surprise": np.zeros(3, np.float32)}},
    ],
    ids=[
        "turned basis",
        "NaN basis",
        "float basis",
        "fewer shifts",
        "shifts of fewer magnitudes",
        "infinite shifts",
        "weights without a network",
    ],
)
def test_model_whose_arrays_break_a_rule_is_refused(coder, changes):
    with pytest.raises(ModelIntegrityError):
        coder_from_bytes(changed_model(coder, **changes))


def test_model_whose_booleans_are_other_bytes_than_0_and_1_is_refused(model_content):
    header_stop = 8 + int.from_bytes(model_content[:8], "little")
    place = header_stop + json.loads(model_content[8:header_stop])["trellised"]["data_offsets"][0] + 1
    damaged = bytearray(model_content)
    assert damaged[place] == 1  # channel 1 of the first anchor
    damaged[place] = 2
    with pytest.raises(ModelIntegrityError, match="other than 0 and 1"):
        coder_from_bytes(bytes(damaged))


def test_tables_of_the_odd_quantizer_stand_where_the_format_says(coder, model_content):
    arrays = safetensors.numpy.load(model_content)
    even, odd = arrays["frequencies"], arrays["odd_frequencies"]
    bins = coder.tables.thresholds.shape[-1] + 1
    assert even.shape[2] == odd.shape[1] == bins
    np.testing.assert_array_equal(coder.tables.frequencies[:, :, :bins], even)
    number = 0
    for anchor, channel in np.ndindex(arrays["trellised"].shape):
        if arrays["trellised"][anchor, channel]:
            np.testing.assert_array_equal(coder.tables.frequencies[anchor, channel, bins:], odd[number])
            number += 1
    assert number == len(odd) > 0


def test_model_without_a_trellis_loads_and_is_written_again(coder):
    tables = dataclasses.replace(coder.tables, trellised=np.zeros_like(coder.tables.trellised))
    content = changed_model(coder, tables=tables)
    assert safetensors.numpy.load(content)["odd_frequencies"].shape[0] == 0
    assert changed_model(coder_from_bytes(content)) == content


@pytest.mark.parametrize("how", ["too few", "too many", "other bins", "other anchors", "one axis"])
def test_tables_of_the_odd_quantizer_that_do_not_fit_the_trellis_are_refused(coder, model_content, how):
    arrays = safetensors.numpy.load(model_content)
    odd, even = arrays["odd_frequencies"], arrays["frequencies"]
    arrays |= {
        "too few": {"odd_frequencies": odd[1:]},
        "too many": {"odd_frequencies": np.concatenate([odd, odd[:1]])},
        "other bins": {"odd_frequencies": odd[:, 1:].copy()},
        "other anchors": {"trellised": arrays["trellised"][1:]},
        "one axis": {"frequencies": even.reshape(-1)},
    }[how]
    content = safetensors.numpy.save(arrays, metadata={"card": coder.card.to_json()})
    with pytest.raises(ModelIntegrityError, match="do not go together"):
        coder_from_bytes(content)


def test_model_with_more_anchor_steps_than_tables_is_refused(coder):
    tables = EntropyTables(**{name: getattr(coder.tables, name)[:2] for name in EntropyTables.names()})
    with pytest.raises(ModelIntegrityError, match="2 table sets for 3"):
        coder_from_bytes(changed_model(coder, tables=tables))


SHIPPED = sorted(PRETRAINED.glob("*.safetensors"))


@pytest.mark.skipif(not SHIPPED, reason="no model ships with this version of the package")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_model_has_the_id_and_name_of_its_file_and_loads(path):
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["id"] == hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load_coder(path.stem)
    assert loaded.model_id == record["id"]
    assert loaded.card.name == path.stem
