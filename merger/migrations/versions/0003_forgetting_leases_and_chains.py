# SPDX-License-Identifier: BSD-3-Clause
"""Forgotten attempts, leases, decisions about conflicts, dropped deltas, chains."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

UUID = postgresql.UUID(as_uuid=False)


def upgrade() -> None:
    """Add columns and tables; nothing that is there changes."""
    _add_columns()
    _create_leases_and_decisions()
    op.create_table(
        "collection_chain",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("child", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "position", name="pk_collection_chain"),
        sa.UniqueConstraint("chain", "child", name="uq_collection_chain_chain_child"),
    )


def _add_columns() -> None:
    for table, name, comment in (
        ("merged_attempt", "forgotten", "its rows were taken out, and no merge brings them back"),
        ("quarantine", "dropped", "given up by a person: not looked at again"),
    ):
        column: sa.Column[bool] = sa.Column(
            name, sa.Boolean(), nullable=False, server_default=sa.false(), comment=comment
        )
        op.add_column(table, column)
    op.alter_column(
        "dimension_source",
        "attempt_id",
        comment="successful attempt, or graph, that brought it",
        existing_comment="successful attempt that brought it",
    )
    op.create_index("ix_attempt_quantum_id", "attempt", ["quantum_id"])
    op.create_index("ix_merged_attempt_run_attempt_id", "merged_attempt", ["run", "attempt_id"])
    for name, table_name, parts in (
        ("dataset_id", "dataset", ["content->>'dataset_id'"]),
        (
            "data_id",
            "dataset",
            ["content->>'run'", "content->>'dataset_type'", "content->'data_id'"],
        ),
        ("dimension", "dimension_record", ["content->>'dimension'", "content->'data_id'"]),
    ):
        op.create_index(
            f"ix_merge_conflict_{name}",
            "merge_conflict",
            [sa.text(f"({part})") for part in parts],
            postgresql_where=sa.text(f"table_name = '{table_name}'"),
        )


def _create_leases_and_decisions() -> None:
    op.create_table(
        "merge_lease",
        sa.Column("lease_id", UUID, nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("first_attempt", UUID, nullable=False, comment="lowest attempt id of the range"),
        sa.Column("last_attempt", UUID, nullable=False, comment="highest attempt id of the range"),
        sa.Column(
            "expires",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="by the database's clock",
        ),
        sa.PrimaryKeyConstraint("lease_id", name="pk_merge_lease"),
    )
    op.create_table(
        "conflict_decision",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("conflict_key", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False, comment="which side stays"),
        sa.Column(
            "content_checksum",
            sa.Text(),
            nullable=True,
            comment="of the side that was chosen; else null",
        ),
        sa.Column(
            "by_policy",
            sa.Boolean(),
            nullable=False,
            comment="goes with its conflict; else a person's",
        ),
        sa.PrimaryKeyConstraint("table_name", "conflict_key", name="pk_conflict_decision"),
        sa.CheckConstraint(
            "decision IN ('keep', 'replace', 'chosen')",
            name=op.f("ck_conflict_decision_decision"),
        ),
    )
