# SPDX-License-Identifier: BSD-3-Clause
"""The error of everything that a person has set up wrongly."""

from registry.errors import QuantumExecError


class SettingsError(QuantumExecError, ValueError):
    """The command line, environment or a file of settings cannot be used."""

    error_type = "settings"
