"""The exceptions and warnings of xsarcomp.

::

    SarcompError
    ├── RadiometryError (ValueError)          scale, unit or values cannot be used
    ├── RateError (ValueError)                the requested rate or quality cannot be met or is contradictory
    ├── BoundError (RuntimeError)             an error bound would be broken; nothing is written
    ├── DimensionError (ValueError)           dimensions, shapes or chunks do not fit
    ├── AlreadyLossyError (ValueError)        the input was compressed with loss before
    ├── NotEncodedError (ValueError)          the object holds no latents to decode
    ├── BitstreamError (ValueError)           bytes are not a stream that this version reads
    │   ├── CorruptStreamError                checksum, length or symbol hash disagree
    │   ├── UnsupportedFormatError            newer or unknown format, flag or configuration
    │   └── LimitExceededError                a header asks for more than the limits allow
    ├── ModelError (RuntimeError)
    │   ├── ModelNotFoundError (LookupError)  no model of that name or id is installed
    │   └── ModelIntegrityError               the model file does not match its id
    ├── ConfigurationError (ValueError)       a training or codec configuration is wrong
    └── MissingDependencyError (ImportError)  an optional library is needed

    DomainWarning (UserWarning)               the input does not look like the model's training data

Each message says what was found, what was expected, and what to do.
"""

import os
import sys
from pathlib import Path

_PACKAGE = str(Path(__file__).parent) + os.sep
LARGEST_MESSAGE = 2000
"""Characters of a message at most. Messages may quote files that anybody wrote, and end up in logs."""


def caller_stacklevel() -> int:
    """Compute the ``stacklevel`` with which a warning names the line outside the package that called it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


class SarcompError(Exception):
    """Base class of all errors that xsarcomp raises on purpose."""

    def __init__(self, message: str = "") -> None:
        if len(message) > LARGEST_MESSAGE:  # the remedy stands at the end
            half = LARGEST_MESSAGE // 2
            message = f"{message[:half]} [...] {message[-half:]}"
        super().__init__(message)


class RadiometryError(SarcompError, ValueError):
    """Scale, unit or values of the backscatter cannot be used."""


class RateError(SarcompError, ValueError):
    """The requested rate or quality is contradictory or out of reach."""


class BoundError(SarcompError, RuntimeError):
    """A pixel would be off by more than the requested bound; nothing is written."""


class DimensionError(SarcompError, ValueError):
    """Dimensions, shapes or chunks do not fit."""


class AlreadyLossyError(SarcompError, ValueError):
    """The input was compressed with loss before; a second pass would add to the loss."""


class NotEncodedError(SarcompError, ValueError):
    """The object holds no latents to decode."""


class BitstreamError(SarcompError, ValueError):
    """Bytes are not a stream that this version can read."""


class CorruptStreamError(BitstreamError):
    """A checksum, a length or the hash of the decoded symbols disagrees."""


class UnsupportedFormatError(BitstreamError):
    """The stream or configuration is of a newer or unknown kind."""


class LimitExceededError(BitstreamError):
    """A header asks for more memory or work than the limits allow."""


class ModelError(SarcompError, RuntimeError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError, LookupError):
    """No model of that name or id is installed."""


class ModelIntegrityError(ModelError):
    """The model file does not match its id, or its content breaks a rule."""


class ConfigurationError(SarcompError, ValueError):
    """A training or codec configuration is wrong."""


class MissingDependencyError(SarcompError, ImportError):
    """An optional library is needed for a function that was called."""


class DomainWarning(UserWarning):
    """The input does not look like the data that the model was trained on; it is encoded anyway."""
