"""Checkpoints that a crash cannot damage and that contain no code.

A checkpoint consists of two files in a folder::

    last.json                          configuration, radiometry, step, seeds, best value, SHA-256 of the tensors
    last-0123456789abcdef.safetensors  weights, averaged weights, moments of the optimizer

The tensor file is named after its content and is complete on disk before ``last.json`` replaces its
predecessor in one rename. That rename is the only moment of change: a process killed at any other time leaves
the old checkpoint readable. Nothing is pickled.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from xsarcomp.errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError
from xsarcomp.whole_files import write_atomically

FORMAT = "xsarcomp-checkpoint"
VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")
_TENSOR = "$tensor"


def save_checkpoint(
    folder: str | os.PathLike[str], name: str, state: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Path:
    """Write a checkpoint, replacing the one of the same name in one step.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    name : str
        Letters, digits and underscores: "last", "best".
    state : mapping
        Nested dictionaries with string keys; leaves are tensors of any dtype and shape, or JSON values.
    metadata : mapping
        JSON values: model configuration, radiometry, data, seeds.

    Returns
    -------
    Path
        The JSON file.

    Raises
    ------
    ConfigurationError
        If the name, a key or a value cannot be stored.
    """
    path = Path(folder) / f"{_checked_name(name)}.json"
    tensors: dict[str, torch.Tensor] = {}
    values = _split(state, "", tensors)
    payload = safetensors.torch.save(tensors)
    digest = hashlib.sha256(payload).hexdigest()
    tensor_name = f"{name}-{digest[:16]}.safetensors"
    description = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": tensor_name,
        "sha256": digest,
        "state": values,
        "metadata": dict(metadata),
    }
    try:
        text = json.dumps(description, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"checkpoint {name!r} contains a value that JSON cannot express ({error}); expected tensors, "
            "finite numbers, strings, lists and dictionaries. Convert it, or use None for a missing number."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path.parent / tensor_name, payload)
    write_atomically(path, text.encode())
    _remove_superseded(path.parent, name, keep=tensor_name)
    return path


def load_checkpoint(folder: str | os.PathLike[str], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint and verify it.

    Parameters
    ----------
    folder : path
        Folder given to `save_checkpoint`.
    name : str
        Name given to `save_checkpoint`.

    Returns
    -------
    state : dict
        As saved; tensors on the CPU.
    metadata : dict
        As saved.

    Raises
    ------
    ModelNotFoundError
        If there is no checkpoint of that name.
    ModelIntegrityError
        If a file is missing, cut off, changed, or of another format.
    """
    path = Path(folder) / f"{_checked_name(name)}.json"
    if not path.is_file():
        existing = sorted(other.stem for other in path.parent.glob("*.json"))
        raise ModelNotFoundError(
            f"no checkpoint {name!r} in {path.parent}, found {existing}. Check the folder, or train without resuming."
        )
    description = _read_description(path)
    tensor_path = path.parent / description["tensors"]
    try:
        payload = tensor_path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"its tensor file {tensor_path.name} cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(payload).hexdigest()
    if digest != description["sha256"]:
        raise _damaged(path, f"{tensor_path.name} has SHA-256 {digest[:16]}, expected {description['sha256'][:16]}")
    try:
        tensors = safetensors.torch.load(payload)
        state = _join(description["state"], tensors)
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise _damaged(path, f"{tensor_path.name} lacks tensors that its JSON file names ({error})") from error
    return state, description["metadata"]


def _remove_superseded(folder: Path, name: str, *, keep: str) -> None:
    """Delete tensor files that the JSON file no longer names, and leftovers of killed writers."""
    tensors = rf"{re.escape(name)}-[0-9a-f]{{16}}\.safetensors"
    superseded = re.compile(rf"{tensors}|\.partial-\d+-[0-9a-f]{{8}}-({tensors}|{re.escape(name)}\.json)")
    for path in folder.iterdir():
        if path.name != keep and superseded.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _checked_name(name: str) -> str:
    """Refuse names that could leave the folder or clash with a tensor file."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"checkpoint name is {name!r}, expected letters, digits and underscores only. Use a name such as 'last'."
        )
    return name


def _read_description(path: Path) -> dict[str, Any]:
    """Read the JSON file and check its form before anything in it is trusted."""
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, f"its JSON cannot be read ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _damaged(path, f"its format is not {FORMAT!r}")
    if description.get("version") != VERSION:
        raise ModelIntegrityError(
            f"checkpoint {path} has version {description.get('version')!r}, this xsarcomp reads {VERSION}. "
            "Use the version that wrote it, or train again."
        )
    digest, tensors = description.get("sha256"), description.get("tensors")
    if not isinstance(digest, str) or tensors != f"{path.stem}-{digest[:16]}.safetensors":
        raise _damaged(path, f"it names the tensor file {tensors!r}, which does not belong to it")
    if not isinstance(description.get("state"), dict) or not isinstance(description.get("metadata"), dict):
        raise _damaged(path, "state or metadata is missing")
    return description


def _damaged(path: Path, damage: str) -> ModelIntegrityError:
    """Error for a damaged checkpoint, with the same remedy for any damage."""
    return ModelIntegrityError(
        f"checkpoint {path} is damaged: {damage}. "
        f"Resume from another checkpoint in {path.parent} (last or best), or restore the files from a copy."
    )


def _split(tree: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors of a tree into a flat dictionary, and put their names in their places."""
    if isinstance(tree, torch.Tensor):
        # A clone on the CPU, because safetensors refuses tensors that share memory, as tied weights do.
        tensors[path] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if not isinstance(tree, Mapping):
        return tree
    for key in tree:
        if not isinstance(key, str) or "/" in key or key == _TENSOR:
            raise ConfigurationError(
                f"checkpoint key {key!r} under {path or 'the root'!r} cannot be stored, "
                "expected a string without '/'. Rename it."
            )
    return {key: _split(value, f"{path}/{key}" if path else key, tensors) for key, value in tree.items()}


def _join(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Put the tensors back into a tree: the inverse of `_split`."""
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_TENSOR}:
        return tensors[tree[_TENSOR]]
    return {key: _join(value, tensors) for key, value in tree.items()}
