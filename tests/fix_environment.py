# SPDX-License-Identifier: BSD-3-Clause
"""What the caller's terminal or CI system states must not decide what tests see."""

import os

# rich and click take widths and colours from these; an empty COLUMNS counts too.
for _name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(_name, None)
