# SPDX-License-Identifier: BSD-3-Clause
"""Run by Alembic, on the connection and in the transaction that `merger.schema` opened."""

from alembic import context

from registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
)
context.run_migrations()
