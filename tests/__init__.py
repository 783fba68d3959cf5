# SPDX-License-Identifier: BSD-3-Clause
"""Tests by what must be running: nothing (unit), servers (integration), faults, a pool (pool)."""
