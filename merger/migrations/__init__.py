# SPDX-License-Identifier: BSD-3-Clause
"""Alembic migrations of the central registry, run by ``registry-merge init`` and ``migrate``.

A new revision: change `registry.tables`, then ``alembic`` is told where to look by
`merger.schema.alembic_config`; number revisions on (``0002``), raise
`merger.schema.SCHEMA_VERSION`, and the test that compares migrations and tables says if anything
is missing.
"""
