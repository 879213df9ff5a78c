"""Model files: safetensors with a card, to a ready coder and back."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import QUANTIZERS, EntropyTables
from xsarcomp.codec.lapped import BASIS_STEPS
from xsarcomp.codec.model_card import ModelCard
from xsarcomp.codec.quantization import SHIFT_CLASSES
from xsarcomp.errors import MissingDependencyError, ModelIntegrityError

LARGEST_HEADER_BYTES = 2**20  # the largest network has a few hundred arrays
_NETWORK_PREFIX = "network."
ODD_FREQUENCIES = (
    "odd_frequencies"  # of channels with trellis alone, in the order of anchor and channel: most have none
)
_DTYPES = {
    "lapped_basis": "int32", "shifts": "float32", "trellised": "bool", "term_channels": "int16", "term_kinds": "uint8",
    "term_weights": "int16", "thresholds": "int32", "frequencies": "uint16", "odd_frequencies": "uint16", "lowest_thresholds": "int32",
    "lowest_frequencies": "uint16", "sign_term_channels": "int16", "sign_term_kinds": "uint8", "sign_term_weights": "int16",
    "sign_thresholds": "int32", "sign_frequencies": "uint16",
}  # fmt: skip


def arrays_and_card(content: bytes) -> tuple[dict[str, NDArray], str]:
    """Arrays of a model file, and the JSON text of its card, of any architecture."""
    header_size = int.from_bytes(content[:8], "little")
    if header_size > min(len(content), LARGEST_HEADER_BYTES):
        raise ModelIntegrityError(
            f"the bytes are no model file of xsarcomp: its header claims {header_size} of {len(content)} bytes, expected at "
            f"most {LARGEST_HEADER_BYTES}: install it again"
        )
    try:
        arrays = safetensors.numpy.load(content)
        return arrays, str(json.loads(content[8 : 8 + header_size])["__metadata__"]["card"])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelIntegrityError(f"the bytes are no model file of xsarcomp ({error}): install it again") from error


def coder_from_bytes(content: bytes) -> LappedCoder:
    """Ready coder from the bytes of a model file.

    Parameters
    ----------
    content : bytes
        A safetensors file as :func:`model_bytes` writes it.

    Returns
    -------
    LappedCoder

    Raises
    ------
    ModelIntegrityError
        If the bytes are no such file or a value breaks a rule.
    ModelError
        If they are a classic autoencoder.
    """
    arrays, card_text = arrays_and_card(content)
    card = ModelCard.from_json(card_text)
    network = {
        name.removeprefix(_NETWORK_PREFIX): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(_NETWORK_PREFIX)
    }
    expected = {"lapped_basis", "shifts", ODD_FREQUENCIES, *EntropyTables.names()}
    if set(arrays) != expected:
        raise ModelIntegrityError(f"the model file holds arrays {sorted(arrays)}, expected {sorted(expected)}")
    anchors = len(card.anchor_steps_db)
    check_arrays(arrays, anchors)
    if card.network is None and network:
        raise ModelIntegrityError(f"the model file holds weights {sorted(network)}, but its card names no network")
    arrays["frequencies"] = joined_frequencies(arrays)
    tables = EntropyTables(**{name: arrays[name] for name in EntropyTables.names()})
    if len(tables.frequencies) != anchors:
        raise ModelIntegrityError(f"the model has {len(tables.frequencies)} table sets for {anchors} anchor steps")
    parts = {
        "model_id": hashlib.sha256(content).hexdigest(),
        "card": card,
        "basis": arrays["lapped_basis"],
        "tables": tables,
        "shifts": arrays["shifts"],
    }
    if card.network is None:
        return LappedCoder(**parts)
    try:
        from xsarcomp.codec.network.coder import ResidualCoder
    except ImportError as error:
        raise MissingDependencyError(
            f"model {card.name!r} needs PyTorch, which is not installed. Install it with: pip install torch"
        ) from error
    return ResidualCoder(weights=network, **parts)


def model_bytes(
    card: ModelCard,
    basis: NDArray[np.int32],
    tables: EntropyTables,
    shifts: NDArray[np.float32],
    network: Mapping[str, NDArray] | None = None,
) -> bytes:
    """Bytes of a model file; the inverse of :func:`coder_from_bytes`. The same input gives the same bytes."""
    arrays = {name: getattr(tables, name) for name in EntropyTables.names()}
    bins = tables.frequencies.shape[2] // QUANTIZERS
    arrays["frequencies"], odd = tables.frequencies[:, :, :bins], tables.frequencies[:, :, bins:]
    arrays |= {ODD_FREQUENCIES: odd[tables.trellised], "lapped_basis": basis, "shifts": shifts}
    arrays |= {_NETWORK_PREFIX + name: array for name, array in (network or {}).items()}
    # safetensors writes the memory of an array as it lies, whatever its strides
    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    return safetensors.numpy.save(arrays, metadata={"card": card.to_json()})


def check_arrays(arrays: Mapping[str, NDArray], anchors: int) -> None:
    """Data types, shapes and the bound on the basis that keeps the analysis exact in float64."""
    for name, dtype in _DTYPES.items():
        if arrays[name].dtype != np.dtype(dtype):
            raise ModelIntegrityError(f"{name} of the model has type {arrays[name].dtype}, expected {dtype}")
    if arrays["trellised"].view(np.uint8).max(initial=0) > 1:
        raise ModelIntegrityError("trellised of the model holds bytes other than 0 and 1")
    shapes = {"lapped_basis": (16, 8), "shifts": (anchors, 64, SHIFT_CLASSES)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ModelIntegrityError(f"{name} of the model has shape {arrays[name].shape}, expected finite {shape}")
    if (np.abs(arrays["lapped_basis"].astype(np.int64)).sum(0) > 4 * BASIS_STEPS).any():
        raise ModelIntegrityError("the lapped basis is too large for an analysis without rounding")


def joined_frequencies(arrays: Mapping[str, NDArray]) -> NDArray[np.uint16]:
    """Tables of both quantizers, those of the odd one filled up where a channel has no trellis."""
    even, odd, trellised = arrays["frequencies"], arrays[ODD_FREQUENCIES], arrays["trellised"]
    if (
        even.ndim != 4
        or trellised.shape != even.shape[:2]
        or odd.shape != (np.count_nonzero(trellised), *even.shape[2:])
    ):
        raise ModelIntegrityError(
            f"the model has frequencies of shape {even.shape} and {odd.shape} for {np.count_nonzero(trellised)} channels with "
            "trellis, which do not go together"
        )
    joined = np.concatenate([even, even], axis=2)
    joined[:, :, even.shape[2] :][trellised] = odd
    return joined
