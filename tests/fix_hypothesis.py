# SPDX-License-Identifier: BSD-3-Clause
"""Settings of Hypothesis: no deadline, since tests share their machine; the same cases in CI."""

import os

from hypothesis import settings

settings.register_profile("tests", deadline=None, database=None, derandomize="CI" in os.environ)
settings.load_profile("tests")
