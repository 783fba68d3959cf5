# SPDX-License-Identifier: BSD-3-Clause
"""The release, as deltas and the distribution name it.

A constant, because asking the installed distribution costs a worker 20 ms.
"""

VERSION = "0.1.0"
