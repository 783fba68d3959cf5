# SPDX-License-Identifier: BSD-3-Clause
"""The error of everything that reads or checks a submit configuration."""

from registry.errors import QuantumExecError


class ConfigurationError(QuantumExecError, ValueError):
    """A configuration file is wrong; the message names the file, the key and what was expected."""

    error_type = "configuration"
