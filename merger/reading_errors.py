# SPDX-License-Identifier: BSD-3-Clause
"""Errors of the reading process, as they cross to the process that asked."""

from merger.predictions import GraphNotFoundError
from registry.errors import FormatError, InvalidNameError, NewerFormatError, QuantumExecError
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    InvalidDatastoreError,
    ObjectNotFoundError,
    TransferError,
    TransferRefusedError,
)

_KNOWN: dict[str, type[QuantumExecError]] = {
    kind.error_type: kind
    for kind in (
        *(TransferError, TransferRefusedError, ObjectNotFoundError, ChecksumMismatchError),
        *(FormatError, NewerFormatError, InvalidNameError, InvalidDatastoreError),
        GraphNotFoundError,
    )
}


class ReadingError(QuantumExecError):
    """The reading process met an error that it does not know."""

    error_type = "reading"


def told(error: Exception) -> list[str]:
    """Return an error as it is sent."""
    if isinstance(error, QuantumExecError):
        return [error.error_type, str(error)]
    return [ReadingError.error_type, f"reading deltas: {type(error).__name__}: {error}"]


def raised(error_type: str, message: str) -> QuantumExecError:
    """Return the error that was sent."""
    return _KNOWN.get(error_type, ReadingError)(message)
