"""Installed models: a name or id to a verified coder. The only file that opens model files.

A model is one safetensors file (:mod:`xsarcomp.codec.model_file`). Its id is the SHA-256 of the file and is checked at
each load, so the same id always decodes to the same values. Beside it lies its *description*, a JSON file of the same name
with the id and documentation: training data, metrics, limits. Models are searched in the package and in the folders of the
environment variable ``XSARCOMP_MODEL_PATH``; nothing is ever downloaded, and no store can name a path.
"""

import functools
import hashlib
import json
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.model_card import MODEL_ID_PATTERN, NAME_PATTERN
from xsarcomp.codec.model_file import coder_from_bytes
from xsarcomp.errors import ModelError, ModelIntegrityError, ModelNotFoundError
from xsarcomp.radiometry.domain import Domain

DEFAULT_MODEL = "s1-grd-10m"
LARGEST_MODEL_BYTES = 256 * 2**20
"""Bytes of a model file at most."""
LARGEST_DESCRIPTION_BYTES = 2**20
"""Bytes of a description at most."""
_LOCK = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_LOCK=threading.Lock()))


def model_folders() -> list[Path]:
    """Folders that are searched for models: the package, then ``XSARCOMP_MODEL_PATH``."""
    configured = os.environ.get("XSARCOMP_MODEL_PATH", "")
    return [Path(__file__).parents[1] / "pretrained", *(Path(part) for part in configured.split(os.pathsep) if part)]


def _model_files() -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Name, description and file of every model in every folder; several may share a name but not an id."""
    for folder in model_folders():
        for path in sorted(folder.glob("*.json")):
            if not NAME_PATTERN.fullmatch(path.stem) or not path.with_suffix(".safetensors").is_file():
                continue
            try:
                description = json.loads(_read_regular_file(path, LARGEST_DESCRIPTION_BYTES).decode("utf-8"))
            except (ValueError, RecursionError, ModelError) as error:  # one bad file must not hide the others
                warnings.warn(f"{path.name} is no readable JSON ({error}): install the model again", stacklevel=3)
                continue
            model_id = description.get("id") if isinstance(description, dict) else None
            if isinstance(model_id, str) and MODEL_ID_PATTERN.fullmatch(model_id):
                yield path.stem, description, path.with_suffix(".safetensors")


def installed_models() -> dict[str, dict[str, Any]]:
    """List the models that have a name.

    Returns
    -------
    dict of str to dict
        Model name to the content of its description: ``id`` and documentation. The package comes first, then the folders
        of ``XSARCOMP_MODEL_PATH`` in their order; further models of the same name are found only by their id.
    """
    descriptions: dict[str, dict[str, Any]] = {}
    for name, description, _ in _model_files():
        descriptions.setdefault(name, description)
    return descriptions


def resolve_model(model: str | None = None) -> str:
    """Find the full id of a model.

    Parameters
    ----------
    model : str, optional
        Name or 64-digit id; the default model if None.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ModelNotFoundError
        If no installed model has that name or id.
    """
    wanted = DEFAULT_MODEL if model is None else str(model)
    models = installed_models()
    if wanted in models:
        return models[wanted]["id"]
    if any(description["id"] == wanted for _, description, _ in _model_files()):
        return wanted
    raise _not_found(wanted, models)


def _not_found(wanted: str, models: Mapping[str, dict[str, Any]]) -> ModelNotFoundError:
    """Error for a model that is not installed."""
    is_file = wanted.endswith((".safetensors", ".json"))
    hint = f" Give the name without the ending: model={Path(wanted).stem!r}." if is_file else ""
    configured = os.environ.get("XSARCOMP_MODEL_PATH", "")
    return ModelNotFoundError(
        f"model {wanted[:80]!r} is not installed. Installed: {', '.join(sorted(models)) or 'none'}. Looked in the "
        f"package and in the folders of XSARCOMP_MODEL_PATH ({configured[:300] or 'not set'}): put the model's .safetensors "
        f"and .json files there, or update xsarcomp.{hint}"
    )


def model_name(model_id: str) -> str:
    """Find the name of an installed model by its id. A ModelNotFoundError is raised if there is none."""
    return _find(model_id)[0]


def _find(model_id: str) -> tuple[str, Path]:
    """Name and file of the model with an id."""
    for name, description, path in _model_files():
        if description["id"] == model_id:
            return name, path
    raise _not_found(model_id, installed_models())


def load_domain(model_id: str) -> Domain | None:
    """Read the statistics of the training data of an installed model from its description.

    Parameters
    ----------
    model_id : str
        64 hexadecimal digits.

    Returns
    -------
    Domain or None
        None if the description has no entry ``domain``.

    Raises
    ------
    ModelIntegrityError
        If the entry ``domain`` breaks a rule.
    """
    descriptions = (description for _, description, _ in _model_files() if description["id"] == model_id)
    domain = next(descriptions, {}).get("domain")
    return None if domain is None else Domain.from_json(domain)


def load_coder(model: str | None = None, *, network: bool = True) -> LappedCoder:
    """Load a model once per process; other threads that need it wait.

    Parameters
    ----------
    model : str, optional
        Name or 64-digit id; the default model if None.
    network : bool
        False to leave the network of the model out, where it has one.

    Returns
    -------
    LappedCoder
        Shared between callers and never changed by them.

    Raises
    ------
    ModelNotFoundError
        If no installed model has that name or id.
    ModelIntegrityError
        If the file does not have the hash that is its id, or breaks a rule.
    """
    model_id = model if model is not None and MODEL_ID_PATTERN.fullmatch(str(model)) else resolve_model(model)
    with _LOCK:
        return _load(model_id) if network else _load_without_network(model_id)


@functools.lru_cache(maxsize=8)
def _load(model_id: str) -> LappedCoder:
    return coder_from_bytes(model_content(model_id))


@functools.lru_cache(maxsize=8)
def _load_without_network(model_id: str) -> LappedCoder:
    return _load(model_id).without_network()


def model_content(model_id: str) -> bytes:
    """Read the file of an installed model of any architecture, and verify it.

    Parameters
    ----------
    model_id : str
        64 hexadecimal digits.

    Returns
    -------
    bytes

    Raises
    ------
    ModelNotFoundError, ModelIntegrityError
        As :func:`load_coder`.
    """
    path = _find(model_id)[1]
    content = _read_regular_file(path, LARGEST_MODEL_BYTES)
    actual = hashlib.sha256(content).hexdigest()
    if actual != model_id:
        raise ModelIntegrityError(
            f"model file {path.name} has SHA-256 {actual[:16]}..., expected {model_id[:16]}...: it was changed or damaged. "
            "Install it again."
        )
    return content


def _read_regular_file(path: Path, largest: int) -> bytes:
    """Read a file in a folder of models; refuse a pipe, a device, and a file of more than ``largest`` bytes."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= largest:
                return file.read(largest)
    except OSError as error:
        raise ModelError(f"file {path.name} of a model cannot be read ({error}): install the model again") from error
    raise ModelIntegrityError(
        f"file {path.name} of a model is no regular file of at most {largest >> 20} MiB: install the model again"
    )


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file and return at once; opening a pipe would otherwise wait until another process writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
