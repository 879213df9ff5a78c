"""The arrays of a model file: their types and shapes, and how the tables of both quantisers are joined."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.lapped import BASIS_STEPS
from xsarcomp.codec.quantization import SHIFT_CLASSES
from xsarcomp.errors import ModelIntegrityError

ODD_FREQUENCIES = (
    "odd_frequencies"  # of channels with trellis alone, in the order of anchor and channel: most have none
)
_DTYPES = {
    "lapped_basis": "int32", "shifts": "float32", "trellised": "bool", "term_channels": "int16", "term_kinds": "uint8",
    "term_weights": "int16", "thresholds": "int32", "frequencies": "uint16", "odd_frequencies": "uint16", "lowest_thresholds": "int32",
    "lowest_frequencies": "uint16", "sign_term_channels": "int16", "sign_term_kinds": "uint8", "sign_term_weights": "int16",
    "sign_thresholds": "int32", "sign_frequencies": "uint16",
}  # fmt: skip


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
    """Tables of both quantisers, those of the odd one filled up where a channel has no trellis."""
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
