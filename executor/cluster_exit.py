# SPDX-License-Identifier: BSD-3-Clause
"""One exit code for a job of several quanta: that by which the pool helps most of them.

The policy of the job sees no other. It must not give a job up for one quantum while a retry, or
more memory, may cure another.
"""

import re
from collections.abc import Mapping, Sequence

from executor.exit_codes import ExitCode
from executor.limits import GRANTED, read_ad

MEMORY_MAX_ATTRIBUTE = "QuantumExecMemoryMax"
FINAL_CODES_ATTRIBUTE = "QuantumExecFinalCodes"
_MEMORY_MAX = re.compile(rf"^{MEMORY_MAX_ATTRIBUTE}\s*=\s*(\d+)\s*$", re.MULTILINE | re.IGNORECASE)
_FINAL_CODES = re.compile(
    rf'^{FINAL_CODES_ATTRIBUTE}\s*=\s*"([\d ]*)"\s*$', re.MULTILINE | re.IGNORECASE
)


def code_for_pool(codes: Sequence[int], environment: Mapping[str, str]) -> int:
    """Return one of the codes of the quanta that failed, in their order.

    `ExitCode.OVER_MEMORY` if the next try may have more memory; else the first that is not among
    those after which the pool tries no more; else the first. On a pool the ads of job and slot,
    which HTCondor puts beside the job, tell both.
    """
    if ExitCode.OVER_MEMORY in codes and _may_grow(environment):
        return ExitCode.OVER_MEMORY
    found = _FINAL_CODES.search(read_ad(environment, "_CONDOR_JOB_AD") or "")
    final = {int(ExitCode.OVER_MEMORY), *map(int, found[1].split() if found else ())}
    return next((code for code in codes if code not in final), codes[0])


def _may_grow(environment: Mapping[str, str]) -> bool:
    most = _MEMORY_MAX.search(read_ad(environment, "_CONDOR_JOB_AD") or "")
    slot = GRANTED.findall(read_ad(environment, "_CONDOR_MACHINE_AD") or "")
    granted = [int(value) for name, value in slot if name.lower() == "memory"]
    return most is None or not granted or granted[0] < int(most[1])
