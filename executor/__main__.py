# SPDX-License-Identifier: BSD-3-Clause
"""``python -m executor`` is ``quantum-exec``."""

from executor.cli import main

main()
