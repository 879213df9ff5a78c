"""Model files: a coder to the bytes of a safetensors file and back.

A model file holds the arrays of a model, and as metadata its card (:mod:`xsarcomp.codec.model_card`). ``docs/format.md`` lists
the arrays.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping

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

LARGEST_HEADER_BYTES = 2**20
"""Bytes of the header at most; the largest network has a few hundred arrays."""
ODD_FREQUENCIES = "odd_frequencies"
"""Array of the tables of the odd quantizer, only of channels with trellis, in the order of table set and channel."""
_NETWORK_PREFIX = "network."
_DTYPES = {
    "lapped_basis": "int32", "shifts": "float32", "trellised": "bool", "term_channels": "int16", "term_kinds": "uint8",
    "term_weights": "int16", "thresholds": "int32", "frequencies": "uint16", "odd_frequencies": "uint16", "lowest_thresholds": "int32",
    "lowest_frequencies": "uint16", "sign_term_channels": "int16", "sign_term_kinds": "uint8", "sign_term_weights": "int16",
    "sign_thresholds": "int32", "sign_frequencies": "uint16",
}  # fmt: skip


def arrays_and_card(content: bytes) -> tuple[dict[str, NDArray], str]:
    """Split a model file of any architecture into its arrays and the text of its card.

    Parameters
    ----------
    content : bytes
        A safetensors file.

    Returns
    -------
    arrays : dict of str to ndarray
        Arrays by name.
    card : str
        JSON.

    Raises
    ------
    ModelIntegrityError
        If the bytes are no such file.
    """
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
    """Make the coder of a model from the bytes of its file.

    Parameters
    ----------
    content : bytes
        A safetensors file as :func:`model_bytes` makes it.

    Returns
    -------
    LappedCoder

    Raises
    ------
    ModelIntegrityError
        If the bytes are no such file or a value breaks a rule.
    ModelError
        If the model is a classic autoencoder.
    MissingDependencyError
        If the model has a network and PyTorch is not installed.
    """
    arrays, card_text = arrays_and_card(content)
    card = ModelCard.from_json(card_text)
    network = network_arrays(arrays)
    arrays = {name: array for name, array in arrays.items() if not name.startswith(_NETWORK_PREFIX)}
    expected = {"lapped_basis", "shifts", ODD_FREQUENCIES, *EntropyTables.names()}
    if set(arrays) != expected:
        raise ModelIntegrityError(f"the model file holds arrays {sorted(arrays)}, expected {sorted(expected)}")
    anchors = len(card.anchor_steps_db)
    check_arrays(arrays, anchors)
    if card.network is None and network:
        raise ModelIntegrityError(f"the model file holds weights {sorted(network)}, but its card names no network")
    arrays["frequencies"] = joined_frequencies(arrays)
    tables = EntropyTables(**{name: arrays[name] for name in EntropyTables.names()}, trellis=card.trellis)
    if len(tables.frequencies) != anchors:
        raise ModelIntegrityError(f"the model has {len(tables.frequencies)} table sets for {anchors} anchor steps")
    make_coder = LappedCoder if card.network is None else _coder_with_network(card, network)
    return make_coder(
        model_id=hashlib.sha256(content).hexdigest(),
        card=card,
        basis=arrays["lapped_basis"],
        tables=tables,
        shifts=arrays["shifts"],
    )


def network_arrays(arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Weights of the network among the arrays of a model file, without the prefix of their names; empty without a network."""
    return {
        name.removeprefix(_NETWORK_PREFIX): array for name, array in arrays.items() if name.startswith(_NETWORK_PREFIX)
    }


def _coder_with_network(card: ModelCard, weights: Mapping[str, NDArray]) -> Callable[..., LappedCoder]:
    """Constructor of a coder with these weights, which takes the arguments of :class:`LappedCoder`."""
    try:
        from xsarcomp.codec.network.coder import ResidualCoder
    except ImportError as error:
        raise MissingDependencyError(
            f"model {card.name!r} needs PyTorch, which is not installed. Install it with: pip install torch"
        ) from error
    return functools.partial(ResidualCoder, weights=weights)


def model_bytes(
    card: ModelCard,
    basis: NDArray[np.int32],
    tables: EntropyTables,
    shifts: NDArray[np.float32],
    network: Mapping[str, NDArray] | None = None,
) -> bytes:
    """Make the bytes of a model file; the inverse of :func:`coder_from_bytes`. The same input gives the same bytes.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    basis : ndarray of int32, shape (tap=16, frequency=8)
        See :func:`xsarcomp.codec.lapped.lapped_basis`.
    tables : EntropyTables
        Tables of the entropy coder.
    shifts : ndarray of float32, shape (anchor, latent=64, SHIFT_CLASSES)
        See :func:`xsarcomp.codec.quantization.dequantize`.
    network : mapping of str to ndarray, optional
        Weights of the network; none if not given.

    Returns
    -------
    bytes
    """
    arrays = {name: getattr(tables, name) for name in EntropyTables.names()}
    bins = tables.frequencies.shape[2] // QUANTIZERS
    arrays["frequencies"], odd = tables.frequencies[:, :, :bins], tables.frequencies[:, :, bins:]
    arrays |= {ODD_FREQUENCIES: odd[tables.trellised], "lapped_basis": basis, "shifts": shifts}
    arrays |= {_NETWORK_PREFIX + name: array for name, array in (network or {}).items()}
    # safetensors writes the memory of an array in its order and ignores strides
    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    return safetensors.numpy.save(arrays, metadata={"card": card.to_json()})


def check_arrays(arrays: Mapping[str, NDArray], anchors: int) -> None:
    """Refuse arrays of wrong data types or shapes, and a basis too large for an exact analysis in float64.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of a model file without those of the network.
    anchors : int
        Number of table sets.

    Raises
    ------
    ModelIntegrityError
        If an array breaks a rule.
    """
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
    """Join the tables of both quantizers; where a channel has no trellis, the even ones stand in for the odd ones.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of a model file.

    Returns
    -------
    ndarray of uint16, shape (anchor, channel=64, 2 bins, token)

    Raises
    ------
    ModelIntegrityError
        If shapes disagree.
    """
    even, odd, has_trellis = arrays["frequencies"], arrays[ODD_FREQUENCIES], arrays["trellised"]
    if (
        even.ndim != 4
        or has_trellis.shape != even.shape[:2]
        or odd.shape != (np.count_nonzero(has_trellis), *even.shape[2:])
    ):
        raise ModelIntegrityError(
            f"the model has frequencies of shape {even.shape} and {odd.shape} for {np.count_nonzero(has_trellis)} channels with "
            "trellis, which do not go together"
        )
    joined = np.concatenate([even, even], axis=2)
    joined[:, :, even.shape[2] :][has_trellis] = odd
    return joined
