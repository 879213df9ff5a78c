"""Installed models: from a name or id to a verified, ready coder. The only file that opens model files.

A model is one safetensors file (:mod:`xsarcomp.codec.model_file`). Its id is the SHA-256 of the file and is checked at
each load, so a name can never change what it decodes to. Beside it lies a JSON file of the same name with the id and what
a reader wants to know: training data, metrics, limits. Models are looked up in the package and in the folders of the
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

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.model_card import MODEL_ID_PATTERN, NAME_PATTERN
from xsarcomp.codec.model_file import coder_from_bytes
from xsarcomp.errors import ModelError, ModelIntegrityError, ModelNotFoundError
from xsarcomp.radiometry.domain import Domain

DEFAULT_MODEL = "s1-grd-10m"
LARGEST_MODEL_BYTES = 256 * 2**20
LARGEST_DESCRIPTION_BYTES = 2**20  # of the JSON file beside a model
_LOCK = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_LOCK=threading.Lock()))


def model_folders() -> list[Path]:
    """Folders that are searched for models: the package, then ``XSARCOMP_MODEL_PATH``."""
    configured = os.environ.get("XSARCOMP_MODEL_PATH", "")
    return [Path(__file__).parents[1] / "pretrained", *(Path(part) for part in configured.split(os.pathsep) if part)]


def _model_files() -> Iterator[tuple[str, dict, Path]]:
    """Name, JSON record and file of every model in every folder; several may share a name but not an id."""
    for folder in model_folders():
        for path in sorted(folder.glob("*.json")):
            if not NAME_PATTERN.fullmatch(path.stem) or not path.with_suffix(".safetensors").is_file():
                continue
            try:
                record = json.loads(_read_regular_file(path, LARGEST_DESCRIPTION_BYTES).decode("utf-8"))
            except (ValueError, RecursionError, ModelError) as error:  # one bad file must not take the others away
                warnings.warn(f"{path.name} is no readable JSON ({error}): install the model again", stacklevel=3)
                continue
            model_id = record.get("id") if isinstance(record, dict) else None
            if isinstance(model_id, str) and MODEL_ID_PATTERN.fullmatch(model_id):
                yield path.stem, record, path.with_suffix(".safetensors")


def installed_models() -> dict[str, dict]:
    """The models that can be asked for by name.

    Returns
    -------
    dict of str to dict
        Model name to the content of its JSON file: ``id`` and documentation. The package comes first, then the folders
        of ``XSARCOMP_MODEL_PATH`` in their order; other models of a name are found by their id.
    """
    found: dict[str, dict] = {}
    for name, record, _ in _model_files():
        found.setdefault(name, record)
    return found


def resolve_model(model: str | None = None) -> str:
    """Full id of a model.

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
    wanted = DEFAULT_MODEL if model is None else model
    models = installed_models()
    if wanted in models:
        return models[wanted]["id"]
    if any(record["id"] == wanted for _, record, _ in _model_files()):
        return wanted
    raise _not_found(wanted, models)


def _not_found(wanted: str, models: Mapping[str, dict]) -> ModelNotFoundError:
    configured = os.environ.get("XSARCOMP_MODEL_PATH", "")
    return ModelNotFoundError(
        f"model {str(wanted)[:80]!r} is not installed. Installed: {', '.join(sorted(models)) or 'none'}. Looked in the "
        f"package and in the folders of XSARCOMP_MODEL_PATH ({configured[:300] or 'not set'}): put the model's .safetensors "
        "and .json files there, or update xsarcomp."
    )


def model_name(model_id: str) -> str:
    """Name of an installed model from its id."""
    return _find(model_id)[0]


def _find(model_id: str) -> tuple[str, Path]:
    """Name and file of the model with an id."""
    for name, record, path in _model_files():
        if record["id"] == model_id:
            return name, path
    raise _not_found(model_id, installed_models())


def load_domain(model_id: str) -> Domain | None:
    """What is usual in the training data of an installed model, from its JSON file; None where it does not say.

    Raises
    ------
    ModelIntegrityError
        If the entry ``domain`` breaks a rule.
    """
    records = (record for _, record, _ in _model_files() if record["id"] == model_id)
    record = next(records, {}).get("domain")
    return None if record is None else Domain.from_json(record)


def load_coder(model: str | None = None) -> LappedCoder:
    """Load a model once per process; threads that ask meanwhile wait for it.

    Parameters
    ----------
    model : str, optional
        Name or 64-digit id; the default model if None.

    Returns
    -------
    LappedCoder
        Shared between callers and never changed by them.

    Raises
    ------
    ModelNotFoundError
        If no installed model has that name or id.
    ModelIntegrityError
        If the file is not the one that its id says, or breaks a rule.
    """
    model_id = model if model is not None and MODEL_ID_PATTERN.fullmatch(model) else resolve_model(model)
    with _LOCK:
        return _load(model_id)


@functools.lru_cache(maxsize=8)
def _load(model_id: str) -> LappedCoder:
    return coder_from_bytes(model_content(model_id))


def model_content(model_id: str) -> bytes:
    """Verified bytes of the file of an installed model, of any architecture; errors are those of :func:`load_coder`."""
    path = _find(model_id)[1]
    content = _read_regular_file(path, LARGEST_MODEL_BYTES)
    actual = hashlib.sha256(content).hexdigest()
    if actual != model_id:
        raise ModelIntegrityError(
            f"model file {path.name} has SHA-256 {actual[:16]}..., expected {model_id[:16]}...: it was changed or damaged. "
            "Install it again."
        )
    return content


def _read_regular_file(path: Path, most: int) -> bytes:
    """Content of a file of the folders of models; a pipe, a device or a file of more than ``most`` bytes is refused."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                return file.read(most)
    except OSError as error:
        raise ModelError(f"file {path.name} of a model cannot be read ({error}): install the model again") from error
    raise ModelIntegrityError(
        f"file {path.name} of a model is no regular file of at most {most >> 20} MiB: install the model again"
    )


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting, as a pipe would make us, for somebody who writes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
