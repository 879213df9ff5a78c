"""The model card: round trip, one canonical text, and refusal of everything else."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.model_card import CARD_FORMAT, ModelCard
from xsarcomp.codec.trellis import BLOCK_TRELLIS, CELL_TRELLIS
from xsarcomp.errors import ModelIntegrityError

CARD = ModelCard(
    name="s1-test.10m",
    architecture="lapped",
    network=None,
    offset_db=-15.5,
    lowest_db=-40.0,
    highest_db=30.0,
    anchor_steps_db=(0.5, 1.0, 2.0),
    lagrangian=0.12,
    mean_corrections_db=(0.01, 0.02, 0.1),
    texture_gains=(1.0, 1.01, 1.05),
)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def cards(draw):
    steps = sorted(draw(st.sets(st.floats(1e-3, 100), min_size=1, max_size=6)))
    network = draw(st.none() | st.fixed_dictionaries({"channels": st.integers(1, 1024), "blocks": st.integers(1, 32)}))
    return ModelCard(
        name=draw(st.from_regex(r"[a-z0-9][a-z0-9.-]{0,63}", fullmatch=True)),
        architecture="lapped" if network is None else "lapped-residual",
        network=network,
        offset_db=draw(st.floats(-100, 100)),
        lowest_db=draw(finite),
        highest_db=draw(finite),
        anchor_steps_db=tuple(steps),
        lagrangian=draw(finite),
        mean_corrections_db=tuple(draw(finite) for _ in steps),
        texture_gains=tuple(draw(st.floats(0.01, 3.99)) for _ in steps),
    )


@given(card=cards())
@settings(deadline=None, max_examples=60)
def test_reading_a_written_card_gives_the_card_and_the_same_text(card):
    text = card.to_json()
    read = ModelCard.from_json(text)
    assert read == card
    assert read.to_json() == text


def test_text_of_a_card_is_canonical():
    text = CARD.to_json()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert " " not in text
    shuffled = json.dumps(dict(reversed(json.loads(text).items())), indent=2)
    assert ModelCard.from_json(shuffled).to_json() == text


def test_card_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CARD.name = "other"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Upper"},
        {"name": ""},
        {"name": "../x"},
        {"name": "a" * 65},
        {"name": "a\n"},
        {"architecture": "wavelet"},
        {"architecture": "lapped-residual"},
        {"network": {"channels": 8, "blocks": 2}},
        {"architecture": "lapped-residual", "network": {"channels": 8}},
        {"architecture": "lapped-residual", "network": {"channels": 0, "blocks": 2}},
        {"architecture": "lapped-residual", "network": {"channels": 8, "blocks": 10**6}},
        {"architecture": "lapped-residual", "network": {"channels": 8.5, "blocks": 2}},
        {"offset_db": float("nan")},
        {"offset_db": 500.0},
        {"lagrangian": float("inf")},
        {"mean_corrections_db": (0.0, float("-inf"), 0.0)},
        {"mean_corrections_db": (0.0, 0.1)},
        {"texture_gains": (1.0, float("nan"), 1.0)},
        {"texture_gains": (1.0, 1.0)},
        {"texture_gains": (1.0, 0.0, 1.0)},
        {"texture_gains": (1.0, 5.0, 1.0)},
        {"anchor_steps_db": ()},
        {"anchor_steps_db": (0.0, 1.0, 2.0)},
        {"anchor_steps_db": (2.0, 1.0, 0.5)},
        {"anchor_steps_db": (1.0, 1.0, 2.0)},
    ],
)
def test_card_that_breaks_a_rule_is_refused(changes):
    with pytest.raises(ModelIntegrityError, match="Install the model again"):
        dataclasses.replace(CARD, **changes)


def changed_record(**changes):
    return json.dumps({**json.loads(CARD.to_json()), **changes})


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(ModelCard) if field.name != "trellis"] + ["format"]
)
def test_card_that_lacks_a_field_is_refused(name):
    record = json.loads(CARD.to_json())
    del record[name]
    with pytest.raises(ModelIntegrityError, match=name):
        ModelCard.from_json(json.dumps(record))


def test_unknown_field_is_refused_by_name():
    with pytest.raises(ModelIntegrityError, match="surprise"):
        ModelCard.from_json(changed_record(surprise=1))


@pytest.mark.parametrize("version", [0, CARD_FORMAT + 1, "1", None, [1]])
def test_card_of_another_format_asks_for_an_update(version):
    with pytest.raises(ModelIntegrityError, match="update xsarcomp"):
        ModelCard.from_json(changed_record(format=version))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 5},
        {"name": None},
        {"architecture": ["lapped"]},
        {"network": []},
        {"network": 3},
        {"network": "channels"},
        {"offset_db": None},
        {"offset_db": "low"},
        {"offset_db": [1.0]},
        {"lagrangian": {}},
        {"anchor_steps_db": 1.0},
        {"anchor_steps_db": None},
        {"anchor_steps_db": [[1.0], 2.0, 3.0]},
        {"mean_corrections_db": [None, 0.0, 0.0]},
        {"texture_gains": "111"},
        {"offset_db": 10**400},
        {"offset_db": "-15.5"},
        {"anchor_steps_db": "123"},
        {"lagrangian": True},
    ],
    ids=lambda changes: f"{next(iter(changes))}={str(next(iter(changes.values())))[:12]}",
)
def test_value_of_a_wrong_type_is_refused(changes):
    with pytest.raises(ModelIntegrityError):
        ModelCard.from_json(changed_record(**changes))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "[1]", "3", '"card"', "{}", "\0", '{"format":1', "[" * 100_000, "9" * 5000],
    ids=lambda text: text[:12].encode().hex() + f"-{len(text)}",
)
def test_text_that_is_no_card_is_refused(text):
    with pytest.raises(ModelIntegrityError):
        ModelCard.from_json(text)


@given(position=st.integers(0, 10**6), character=st.characters(codec="utf-8"))
@settings(deadline=None, max_examples=200)
def test_changed_character_gives_a_valid_card_or_an_integrity_error(position, character):
    text = CARD.to_json()
    position %= len(text)
    try:
        card = ModelCard.from_json(text[:position] + character + text[position + 1 :])
    except ModelIntegrityError:
        return
    assert ModelCard.from_json(card.to_json()) == card


def test_cards_of_the_first_models_name_no_trellis_and_later_ones_do():
    assert "trellis" not in json.loads(CARD.to_json())
    card = dataclasses.replace(CARD, trellis=CELL_TRELLIS)
    assert json.loads(card.to_json())["trellis"] == {"cell": 16, "states": 128, "spacing": 0.625}
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(CARD.to_json()).trellis == BLOCK_TRELLIS
    with pytest.raises(ModelIntegrityError, match="trellis"):
        ModelCard.from_json(card.to_json().replace("128", "129"))
