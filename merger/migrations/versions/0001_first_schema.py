# SPDX-License-Identifier: BSD-3-Clause
"""The first schema: private tables of a registry, quanta and attempts, ledger and quarantine."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON = postgresql.JSONB()
UUID = postgresql.UUID(as_uuid=False)


def upgrade() -> None:
    """Create all tables."""
    _create_registry()
    _create_attempts()
    _create_ledger()


def downgrade() -> None:
    """Going back is not supported."""
    raise NotImplementedError("expected an upgrade; to go back, restore a dump")


def _create_registry() -> None:
    """The tables that private registries have, too."""
    op.create_table(
        "run",
        sa.Column("run", sa.Text(), nullable=False, comment="name of a RUN collection"),
        sa.PrimaryKeyConstraint("run", name="pk_run"),
    )
    op.create_table(
        "dataset_type",
        sa.Column("dataset_type", sa.Text(), nullable=False),
        sa.Column("dimensions", JSON, nullable=False, comment="list of dimension names"),
        sa.Column("storage_class", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_type", name="pk_dataset_type"),
    )
    op.create_table(
        "dimension_record",
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("data_id", JSON, nullable=False),
        sa.Column("record", JSON, nullable=False, comment="facts, by name"),
        sa.PrimaryKeyConstraint("dimension", "data_id", name="pk_dimension_record"),
    )
    op.create_table(
        "dataset",
        sa.Column("dataset_id", UUID, nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("dataset_type", sa.Text(), nullable=False),
        sa.Column("data_id", JSON, nullable=False),
        sa.Column(
            "quantum_id",
            UUID,
            nullable=True,
            comment="quantum that made it; null for an input from outside",
        ),
        sa.Column("attempt_id", UUID, nullable=True, comment="attempt that counts"),
        sa.ForeignKeyConstraint(
            ["dataset_type"], ["dataset_type.dataset_type"], name="fk_dataset_dataset_type"
        ),
        sa.ForeignKeyConstraint(["run"], ["run.run"], name="fk_dataset_run"),
        sa.PrimaryKeyConstraint("dataset_id", name="pk_dataset"),
        sa.UniqueConstraint(
            "run", "dataset_type", "data_id", name="uq_dataset_run_dataset_type_data_id"
        ),
    )
    op.create_table(
        "datastore_record",
        sa.Column("dataset_id", UUID, nullable=False),
        sa.Column(
            "object_key", sa.Text(), nullable=False, comment="relative to the root of the datastore"
        ),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True, comment="null if not known"),
        sa.Column("checksum", sa.Text(), nullable=True, comment="sha256:<hex>; null if not known"),
        sa.Column("storage_class", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["dataset.dataset_id"],
            name="fk_datastore_record_dataset_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", name="pk_datastore_record"),
    )
    op.create_table(
        "metric",
        sa.Column("attempt_id", UUID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "name", name="pk_metric"),
    )


def _create_attempts() -> None:
    """What was tried, and what it read and brought."""
    op.create_table(
        "quantum",
        sa.Column("quantum_id", UUID, nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("graph_id", UUID, nullable=False),
        sa.Column("task_label", sa.Text(), nullable=False),
        sa.Column("data_id", JSON, nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="of the attempt that counts"),
        sa.Column("attempt_id", UUID, nullable=False, comment="attempt that counts"),
        sa.CheckConstraint(
            "status IN ('successful', 'failed', 'aborted')", name=op.f("ck_quantum_status")
        ),
        sa.ForeignKeyConstraint(["run"], ["run.run"], name="fk_quantum_run"),
        sa.PrimaryKeyConstraint("quantum_id", name="pk_quantum"),
    )
    op.create_table(
        "attempt",
        sa.Column("attempt_id", UUID, nullable=False),
        sa.Column("quantum_id", UUID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False, comment="a newer attempt succeeded"),
        sa.Column("no_work", sa.Boolean(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.Column("cpu_user_s", sa.Double(), nullable=False),
        sa.Column("cpu_system_s", sa.Double(), nullable=False),
        sa.Column("max_rss_bytes", sa.BigInteger(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("log_key", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["quantum_id"], ["quantum.quantum_id"], name="fk_attempt_quantum_id"
        ),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_attempt"),
    )
    op.create_table(
        "quantum_input",
        sa.Column("attempt_id", UUID, nullable=False, comment="attempt that read it"),
        sa.Column("dataset_id", UUID, nullable=False),
        sa.Column(
            "input_attempt_id", UUID, nullable=True, comment="attempt that made it, if known"
        ),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "dataset_id", name="pk_quantum_input"),
    )
    op.create_table(
        "dimension_source",
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("data_id", JSON, nullable=False),
        sa.Column("attempt_id", UUID, nullable=False, comment="successful attempt that brought it"),
        sa.Column("record", JSON, nullable=False, comment="facts as this attempt gave them"),
        sa.PrimaryKeyConstraint("dimension", "data_id", "attempt_id", name="pk_dimension_source"),
    )


def _create_ledger() -> None:
    """What only the merger writes and reads."""
    op.create_table(
        "merged_attempt",
        sa.Column("attempt_id", UUID, nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("quantum_id", UUID, nullable=False),
        sa.Column("delta_checksum", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_merged_attempt"),
    )
    op.create_table(
        "merge_conflict",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column(
            "conflict_key",
            sa.Text(),
            nullable=False,
            comment="canonical JSON of the key both claim",
        ),
        sa.Column(
            "content_checksum",
            sa.Text(),
            nullable=False,
            comment="sha256:<hex> of the content's text",
        ),
        sa.Column("content", JSON, nullable=False, comment="one side, whole"),
        sa.Column(
            "attempt_id",
            UUID,
            nullable=True,
            comment="lowest attempt that brought this side; or null",
        ),
        sa.Column("kept", sa.Boolean(), nullable=False, comment="this side is in the table"),
        sa.PrimaryKeyConstraint(
            "table_name", "conflict_key", "content_checksum", name="pk_merge_conflict"
        ),
    )
    op.create_table(
        "quarantine",
        sa.Column("delta_key", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, comment="machine-readable"),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("delta_key", name="pk_quarantine"),
    )
