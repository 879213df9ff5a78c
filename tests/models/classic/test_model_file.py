"""Model files of classic autoencoders: verified like any model, the same bytes again, refused by every store."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from xsarcomp.codec import installed_models, model_file
from xsarcomp.errors import ModelError, ModelIntegrityError, ModelNotFoundError
from xsarcomp.models.classic.model_file import (
    ClassicCard,
    classic_codec_from_bytes,
    classic_model_bytes,
    is_classic,
    load_classic,
)
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

NAME = "simulated-classic"


@pytest.fixture
def installed(classic_content, tmp_path, monkeypatch):
    """The model in a folder where models are looked up; its id."""
    model_id = hashlib.sha256(classic_content).hexdigest()
    (tmp_path / f"{NAME}.safetensors").write_bytes(classic_content)
    (tmp_path / f"{NAME}.json").write_text(json.dumps({"id": model_id, "name": NAME}))
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(tmp_path))
    return model_id


def parts(content):
    """Card and arrays of a model file."""
    arrays, text = model_file.arrays_and_card(content)
    record = json.loads(text)
    return ClassicCard(**{name: record[name] for name in ClassicCard.__slots__}), arrays


def test_a_model_written_again_is_the_same_to_the_bit(classic_content, classic_codec):
    card, _ = parts(classic_content)
    state = {name: tensor.numpy() for name, tensor in classic_codec.model.state_dict().items()}
    assert classic_model_bytes(card, state) == classic_content
    assert classic_model_bytes(card, dict(reversed(state.items()))) == classic_content


def test_the_id_is_the_digest_of_the_file(installed, classic_codec):
    assert classic_codec.model_id == installed
    for model in (NAME, installed):
        codec = load_classic(model)
        assert (codec.name, codec.model_id) == (NAME, installed)
        assert is_classic(model)
    assert not is_classic("s1-grd-10m")


def test_a_changed_file_is_refused(installed, tmp_path, classic_content):
    (tmp_path / f"{NAME}.safetensors").write_bytes(classic_content[:-1] + b"\x01")
    with pytest.raises(ModelIntegrityError, match="changed or damaged"):
        load_classic(NAME)


def test_a_name_that_is_not_installed_is_an_error():
    with pytest.raises(ModelNotFoundError, match="not installed"):
        load_classic("absent-classic")


def test_stores_refuse_a_classic_model_and_say_why(installed, classic_content):
    scene = simulated_dataset((64, 64), 1)
    for refused in (
        lambda: installed_models.load_coder(NAME),
        lambda: installed_models.load_coder(installed),
        lambda: model_file.coder_from_bytes(classic_content),
        lambda: scene.sarcomp.encode(bits_per_pixel=1, model=NAME),
        lambda: scene.sarcomp.encoding(bits_per_pixel=1, model=NAME),
    ):
        with pytest.raises(ModelError, match=f"{NAME}' is a classic autoencoder.*no store can guarantee exact symbols"):
            refused()


def test_the_default_codec_is_no_classic_model(model_content):
    with pytest.raises(ModelError, match="architecture 'lapped', expected 'classic': load it with"):
        classic_codec_from_bytes(model_content)


def test_bytes_that_are_no_model_are_refused(classic_content):
    for content in (b"", b"\x80\x04K\x01.", classic_content[:100], classic_content[:-1]):
        with pytest.raises(ModelIntegrityError, match="no model file"):
            classic_codec_from_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Not A Name"},
        {"lowest_db": 20.0},
        {"lowest_db": "low"},
        {"highest_db": None},
        {"network": 3},
        {"format": 2},
        {"more": 1},
        {"network": {"latents": 6, "width": 4, "variant": "attention", "depth": 1}},
    ],
    ids=str,
)
def test_cards_that_break_a_rule_are_refused(classic_content, change):
    arrays, text = model_file.arrays_and_card(classic_content)
    record = {**json.loads(text), **change}
    content = safetensors.numpy.save(arrays, metadata={"card": json.dumps(record)})
    with pytest.raises(ModelIntegrityError):
        classic_codec_from_bytes(content)


def test_weights_of_another_size_are_refused(classic_content):
    card, arrays = parts(classic_content)
    with pytest.raises(ModelIntegrityError, match="do not fit its network"):
        classic_codec_from_bytes(classic_model_bytes(replace(card, network={**card.network, "width": 8}), arrays))
    with pytest.raises(ModelIntegrityError, match="do not fit its network"):
        classic_codec_from_bytes(classic_model_bytes(card, {**arrays, "more": np.zeros(2, np.float32)}))
