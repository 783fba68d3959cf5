# SPDX-License-Identifier: BSD-3-Clause
"""The base of all errors that this project raises on purpose."""


class QuantumExecError(Exception):
    """An error whose message tells a person what to do; shown without a traceback.

    ``error_type`` is stable and machine-readable: it crosses processes in deltas, reports and
    the ``--json`` output of commands.
    """

    error_type = "error"


class FormatError(QuantumExecError, ValueError):
    """A file or object does not have the form its specification asks for."""

    error_type = "format"


class NewerFormatError(FormatError):
    """An object was written by a newer release than the one that reads it."""

    error_type = "newer_format"


class InvalidNameError(QuantumExecError, ValueError):
    """A RUN, dataset type, dimension or key cannot be used as a name."""

    error_type = "invalid_name"
