# SPDX-License-Identifier: BSD-3-Clause
"""Of several exit codes the lowest is returned."""

from merger.exit_codes import ExitCode, lowest


def test_lowest_of_those_with_a_reason() -> None:
    applying = {ExitCode.CONFLICTS: 0, ExitCode.NEWER_FORMAT: ["key"], ExitCode.QUARANTINED: 2}
    assert lowest(applying) is ExitCode.QUARANTINED


def test_nothing_that_applies() -> None:
    assert lowest({ExitCode.OK: True, ExitCode.CONFLICTS: []}) is ExitCode.OK


def test_ok_is_no_reason_against_another() -> None:
    assert lowest({ExitCode.OK: True, ExitCode.DELTAS_MISSING: 1}) is ExitCode.DELTAS_MISSING
