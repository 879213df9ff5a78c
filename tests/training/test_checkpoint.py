"""Checkpoints: exact round trips, and every way of damage ends in a clear error or in the old state."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from xsarcomp.errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError
from xsarcomp.training import checkpoint
from xsarcomp.training.checkpoint import load_checkpoint, save_checkpoint
from xsarcomp.whole_files import write_atomically


def tree(value=1.0):
    weights = torch.full((3, 2), value)
    return {
        "step": 12,
        "model": {"layer.weight": weights, "layer.bias": torch.zeros(2, dtype=torch.bfloat16)},
        "tied": {"layer.weight": weights},
        "optimizer": {"layer.weight": {"step": torch.tensor(12.0), "exp_avg": torch.randn(3, 2).T}},
        "generator": torch.Generator().get_state(),
        "sampler": {"generator": {"state": {"state": 2**127 + 1, "inc": 3}, "name": "PCG64"}},
        "best": {"value": None, "step": None},
        "empty": {},
    }


def assert_same(left, right):
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    else:
        assert left == right


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_state_and_metadata_come_back_exactly(tmp_path):
    state, metadata = tree(), {"radiometry": {"offset_db": -13.7}, "seed": 4, "scenes": ["a", "b"]}
    path = save_checkpoint(tmp_path / "run", "last", state, metadata)
    assert path == tmp_path / "run" / "last.json"
    loaded, loaded_metadata = load_checkpoint(tmp_path / "run", "last")
    assert_same(loaded, state)
    assert loaded_metadata == metadata


def test_saving_again_leaves_two_files_a_name_and_other_names_alone(tmp_path):
    save_checkpoint(tmp_path, "best", tree(0.0), {})
    for value in range(3):
        save_checkpoint(tmp_path, "last", tree(float(value)), {"value": value})
    assert len(files(tmp_path)) == 4
    assert load_checkpoint(tmp_path, "last")[1] == {"value": 2}
    assert load_checkpoint(tmp_path, "best")[0]["model"]["layer.weight"][0, 0] == 0


def test_the_same_state_can_be_saved_twice(tmp_path):
    state = tree()
    for _ in range(2):
        save_checkpoint(tmp_path, "last", state, {})
    assert_same(load_checkpoint(tmp_path, "last")[0], state)


@pytest.mark.parametrize("survivals", [0, 1])
def test_a_failure_between_temporary_file_and_rename_leaves_the_old_checkpoint(tmp_path, monkeypatch, survivals):
    save_checkpoint(tmp_path, "last", tree(1.0), {"step": 1})
    before = files(tmp_path)
    renames = []
    replace = Path.replace

    def failing(source, target):
        if len(renames) == survivals:
            raise OSError("power cut")
        renames.append(target)
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="power cut"):
        save_checkpoint(tmp_path, "last", tree(2.0), {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, "last")[1] == {"step": 1}
    save_checkpoint(tmp_path, "last", tree(3.0), {"step": 3})
    assert load_checkpoint(tmp_path, "last")[1] == {"step": 3}
    assert len(files(tmp_path)) == len(before)


@pytest.mark.slow
def test_a_process_killed_before_the_rename_leaves_the_old_checkpoint(tmp_path):
    save_checkpoint(tmp_path, "last", {"weights": torch.ones(3)}, {"step": 1})
    program = f"""
        import os, signal, torch
        from pathlib import Path
        from xsarcomp.training.checkpoint import save_checkpoint
        Path.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
        save_checkpoint({str(tmp_path)!r}, "last", {{"weights": torch.zeros(3)}}, {{"step": 2}})
    """
    root = Path(checkpoint.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, check=False, capture_output=True
    )
    assert done.returncode == -9, done.stderr.decode()
    assert any(name.startswith(".partial-") for name in files(tmp_path))
    state, metadata = load_checkpoint(tmp_path, "last")
    assert metadata == {"step": 1}
    assert torch.equal(state["weights"], torch.ones(3))
    save_checkpoint(tmp_path, "last", {"weights": torch.zeros(3)}, {"step": 2})
    assert len(files(tmp_path)) == 2


def test_atomic_writing_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def failing(_source, _target):
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="no"):
        write_atomically(target, b"new")
    assert files(tmp_path) == ["file"]
    assert target.read_bytes() == b"old"


def test_a_missing_checkpoint_names_those_that_are_there(tmp_path):
    save_checkpoint(tmp_path, "last", tree(), {})
    with pytest.raises(ModelNotFoundError, match=r"best.*last"):
        load_checkpoint(tmp_path, "best")


def tensor_file(folder):
    return next(folder.glob("*.safetensors"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(tensor_file(folder)),
        lambda folder: flip_a_bit(tensor_file(folder)),
        lambda folder: tensor_file(folder).write_bytes(b""),
        lambda folder: tensor_file(folder).unlink(),
        lambda folder: cut(folder / "last.json"),
        lambda folder: (folder / "last.json").write_bytes(b""),
        lambda folder: (folder / "last.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "last.json").write_text("[]"),
        lambda folder: (folder / "last.json").write_text('{"format": "other"}'),
    ],
)
def test_every_damage_gives_a_clear_error(tmp_path, damage):
    save_checkpoint(tmp_path, "last", tree(), {})
    damage(tmp_path)
    with pytest.raises(ModelIntegrityError, match=r"damaged.*Resume from another checkpoint"):
        load_checkpoint(tmp_path, "last")


@pytest.mark.parametrize(
    "change",
    [
        {"tensors": "../elsewhere.safetensors"},
        {"tensors": None},
        {"sha256": 3},
        {"state": []},
        {"metadata": None},
        {"state": {"weights": {"$tensor": "nowhere"}}},
        {"state": {"weights": {"$tensor": ["not a name"]}}},
    ],
)
def test_an_edited_record_gives_a_clear_error(tmp_path, change):
    path = save_checkpoint(tmp_path, "last", tree(), {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelIntegrityError, match="damaged"):
        load_checkpoint(tmp_path, "last")


def test_a_newer_version_is_not_called_damaged(tmp_path):
    path = save_checkpoint(tmp_path, "last", tree(), {})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(ModelIntegrityError, match="version 99"):
        load_checkpoint(tmp_path, "last")


@pytest.mark.parametrize("name", ["../last", "", "last-2", "a/b", ".hidden"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(ConfigurationError, match="checkpoint name"):
        save_checkpoint(tmp_path, name, {}, {})


@pytest.mark.parametrize(
    "state",
    [
        {"a/b": 1},
        {1: 2},
        {"$tensor": "x"},
        {"value": float("nan")},
        {"object": object()},
        {"list": [torch.ones(1)]},
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path, state):
    with pytest.raises(ConfigurationError):
        save_checkpoint(tmp_path / "new", "last", state, {})
    assert not (tmp_path / "new").exists()


def test_nothing_in_a_checkpoint_is_pickled(tmp_path):
    save_checkpoint(tmp_path, "last", tree(), {})
    content = tensor_file(tmp_path).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) - {"__metadata__"} == {
        "model/layer.weight",
        "model/layer.bias",
        "tied/layer.weight",
        "optimizer/layer.weight/step",
        "optimizer/layer.weight/exp_avg",
        "generator",
    }
