# SPDX-License-Identifier: BSD-3-Clause
"""Only lists the fixture modules, one per service."""

pytest_plugins = [
    "tests.fix_bundle",
    "tests.fix_chain",
    "tests.fix_environment",
    "tests.fix_hypothesis",
    "tests.fix_https",
    "tests.fix_merge",
    "tests.fix_own_postgres",
    "tests.fix_pgbouncer",
    "tests.fix_pool",
    "tests.fix_postgres",
    "tests.fix_proxy",
    "tests.fix_s3",
    "tests.fix_survey",
]
