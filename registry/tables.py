# SPDX-License-Identifier: BSD-3-Clause
"""The tables, defined once for the private (SQLite) and the central (PostgreSQL) registry.

Names are lower case, keys are UUIDs or names, data IDs are JSONB (text in SQLite, canonical
JSON), there are no views. No column holds the time or the order of a merge, so that the central
registry is the same, row for row, however the deltas reached it.

Private are the tables that a task may see and write; the central registry has these and the ones
that only the merger fills.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

UUID_TYPE: TypeEngine[str] = Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql")
JSON_TYPE: TypeEngine[str] = Text().with_variant(postgresql.JSONB(), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

run = Table(
    "run",
    metadata,
    Column("run", Text, primary_key=True, comment="name of a RUN collection"),
)

dataset_type = Table(
    "dataset_type",
    metadata,
    Column("dataset_type", Text, primary_key=True),
    Column("dimensions", JSON_TYPE, nullable=False, comment="list of dimension names"),
    Column("storage_class", Text, nullable=False),
)

dimension_record = Table(
    "dimension_record",
    metadata,
    Column("dimension", Text, nullable=False),
    Column("data_id", JSON_TYPE, nullable=False),
    Column("record", JSON_TYPE, nullable=False, comment="facts, by name"),
    PrimaryKeyConstraint("dimension", "data_id"),
)

dataset = Table(
    "dataset",
    metadata,
    Column("dataset_id", UUID_TYPE, primary_key=True),
    Column("run", Text, ForeignKey(run.c.run), nullable=False),
    Column("dataset_type", Text, ForeignKey(dataset_type.c.dataset_type), nullable=False),
    Column("data_id", JSON_TYPE, nullable=False),
    Column("quantum_id", UUID_TYPE, comment="quantum that made it; null for an input from outside"),
    Column("attempt_id", UUID_TYPE, comment="attempt that counts"),
    UniqueConstraint("run", "dataset_type", "data_id"),
)

datastore_record = Table(
    "datastore_record",
    metadata,
    Column(
        "dataset_id",
        UUID_TYPE,
        ForeignKey(dataset.c.dataset_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("object_key", Text, nullable=False, comment="relative to the root of the datastore"),
    Column("size_bytes", BigInteger, comment="null if not known"),
    Column("checksum", Text, comment="sha256:<hex>; null if not known"),
    Column("storage_class", Text, nullable=False),
)

metric = Table(
    "metric",
    metadata,
    Column("attempt_id", UUID_TYPE, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Double, nullable=False),
    PrimaryKeyConstraint("attempt_id", "name"),
)

PRIVATE_TABLES = (run, dataset_type, dimension_record, dataset, datastore_record, metric)

quantum = Table(
    "quantum",
    metadata,
    Column("quantum_id", UUID_TYPE, primary_key=True),
    Column("run", Text, ForeignKey(run.c.run), nullable=False),
    Column("graph_id", UUID_TYPE, nullable=False),
    Column("task_label", Text, nullable=False),
    Column("data_id", JSON_TYPE, nullable=False),
    Column("status", Text, nullable=False, comment="of the attempt that counts"),
    Column("attempt_id", UUID_TYPE, nullable=False, comment="attempt that counts"),
    CheckConstraint("status IN ('successful', 'failed', 'aborted')", name="status"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("attempt_id", UUID_TYPE, primary_key=True),
    # The index keeps the foreign key cheap when quanta are taken out.
    Column("quantum_id", UUID_TYPE, ForeignKey(quantum.c.quantum_id), nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("superseded", Boolean, nullable=False, comment="a newer attempt succeeded"),
    Column("no_work", Boolean, nullable=False),
    Column("started", DateTime(timezone=True), nullable=False),
    Column("finished", DateTime(timezone=True), nullable=False),
    Column("host", Text, nullable=False),
    Column("wall_s", Double, nullable=False),
    Column("cpu_user_s", Double, nullable=False),
    Column("cpu_system_s", Double, nullable=False),
    Column("max_rss_bytes", BigInteger, nullable=False),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("error", Text),
    Column("log_key", Text),
    Column("read_bytes", BigInteger, comment="null if not measured"),
    Column("write_bytes", BigInteger, comment="null if not measured"),
    Column("scratch_bytes", BigInteger, comment="null if not measured"),
    Column("requested", JSON_TYPE, comment="what was asked for; null before delta format 2"),
    Column("versions", JSON_TYPE, comment="of what ran, by name; null if none was told"),
)

quantum_input = Table(
    "quantum_input",
    metadata,
    Column("attempt_id", UUID_TYPE, nullable=False, comment="attempt that read it"),
    # No foreign key: deltas arrive in any order, and inputs may lie in a RUN not merged yet.
    Column("dataset_id", UUID_TYPE, nullable=False),
    Column("input_attempt_id", UUID_TYPE, comment="attempt that made it, if known"),
    Column("object_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("checksum", Text, nullable=False),
    PrimaryKeyConstraint("attempt_id", "dataset_id"),
)

merged_attempt = Table(
    "merged_attempt",
    metadata,
    Column("attempt_id", UUID_TYPE, primary_key=True),
    Column("run", Text, nullable=False),
    Column("quantum_id", UUID_TYPE, nullable=False),
    Column("delta_checksum", Text, nullable=False),
    Column(
        "forgotten",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="its rows were taken out, and no merge brings them back",
    ),
    # What a listing of a RUN is compared with, whatever else the ledger has.
    Index("ix_merged_attempt_run_attempt_id", "run", "attempt_id"),
)

# Leases only save work: two mergers that hold one would merge the same deltas, once.
merge_lease = Table(
    "merge_lease",
    metadata,
    Column("lease_id", UUID_TYPE, primary_key=True),
    Column("run", Text, nullable=False),
    Column("first_attempt", UUID_TYPE, nullable=False, comment="lowest attempt id of the range"),
    Column("last_attempt", UUID_TYPE, nullable=False, comment="highest attempt id of the range"),
    Column("expires", DateTime(timezone=True), nullable=False, comment="by the database's clock"),
)

# Attempts may agree on a dimension record, so the record itself cannot tell who brought it.
dimension_source = Table(
    "dimension_source",
    metadata,
    Column("dimension", Text, nullable=False),
    Column("data_id", JSON_TYPE, nullable=False),
    Column(
        "attempt_id",
        UUID_TYPE,
        nullable=False,
        comment="successful attempt, or graph, that brought it",
    ),
    Column("record", JSON_TYPE, nullable=False, comment="facts as this attempt gave them"),
    PrimaryKeyConstraint("dimension", "data_id", "attempt_id"),
)

merge_conflict = Table(
    "merge_conflict",
    metadata,
    Column("table_name", Text, nullable=False),
    Column("conflict_key", Text, nullable=False, comment="canonical JSON of the key both claim"),
    # An index entry is limited to 2704 bytes, so the content cannot be part of the key itself.
    Column("content_checksum", Text, nullable=False, comment="sha256:<hex> of the content's text"),
    Column("content", JSON_TYPE, nullable=False, comment="one side, whole"),
    Column("attempt_id", UUID_TYPE, comment="lowest attempt that brought this side; or null"),
    Column("kept", Boolean, nullable=False, comment="this side is in the table"),
    PrimaryKeyConstraint("table_name", "conflict_key", "content_checksum"),
    # A merge asks of every batch what the sides of recorded conflicts claim, other keys too.
    Index(
        "ix_merge_conflict_dataset_id",
        text("(content->>'dataset_id')"),
        postgresql_where=text("table_name = 'dataset'"),
    ),
    Index(
        "ix_merge_conflict_data_id",
        text("(content->>'run')"),
        text("(content->>'dataset_type')"),
        text("(content->'data_id')"),
        postgresql_where=text("table_name = 'dataset'"),
    ),
    Index(
        "ix_merge_conflict_dimension",
        text("(content->>'dimension')"),
        text("(content->'data_id')"),
        postgresql_where=text("table_name = 'dimension_record'"),
    ),
)

# What a person or a policy decided about a key that several sides claim.
conflict_decision = Table(
    "conflict_decision",
    metadata,
    Column("table_name", Text, nullable=False),
    Column("conflict_key", Text, nullable=False),
    Column("decision", Text, nullable=False, comment="which side stays"),
    Column("content_checksum", Text, comment="of the side that was chosen; else null"),
    Column("by_policy", Boolean, nullable=False, comment="goes with its conflict; else a person's"),
    PrimaryKeyConstraint("table_name", "conflict_key"),
    CheckConstraint("decision IN ('keep', 'replace', 'chosen')", name="decision"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("delta_key", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("reason", Text, nullable=False, comment="machine-readable"),
    Column("message", Text, nullable=False),
    Column(
        "dropped",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="given up by a person: not looked at again",
    ),
)

# A CHAINED collection is what its members are, in this order; members are RUNs or chains.
collection_chain = Table(
    "collection_chain",
    metadata,
    Column("chain", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("child", Text, nullable=False),
    PrimaryKeyConstraint("chain", "position"),
    UniqueConstraint("chain", "child"),
)


def private_registry_ddl() -> str:
    """Return the DDL of a private registry, as kept in ``private_registry.sql``."""
    dialect = sqlite.dialect()
    statements = [str(CreateTable(t).compile(dialect=dialect)).strip() for t in PRIVATE_TABLES]
    statements += [
        str(CreateIndex(index).compile(dialect=dialect)).strip()
        for table in PRIVATE_TABLES
        for index in sorted(table.indexes, key=lambda i: str(i.name))
    ]
    head = "-- Generated by python -m registry.tables; do not change by hand.\n"
    lines = "".join(f"{statement};\n" for statement in statements).splitlines()
    return head + "".join(line.rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    print(private_registry_ddl(), end="")
