# SPDX-License-Identifier: BSD-3-Clause
"""What deltas of format 2 tell of an attempt: what it asked for, I/O, scratch space, versions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_MEASURED = "null if not measured"


def upgrade() -> None:
    """Add columns to table attempt; they are null in the rows that are there."""
    for name in ("read_bytes", "write_bytes", "scratch_bytes"):
        op.add_column("attempt", sa.Column(name, sa.BigInteger(), nullable=True, comment=_MEASURED))
    for name, comment in (
        ("requested", "what was asked for; null before delta format 2"),
        ("versions", "of what ran, by name; null if none was told"),
    ):
        column = sa.Column(name, postgresql.JSONB(), nullable=True, comment=comment)
        op.add_column("attempt", column)


def downgrade() -> None:
    """Going back is not supported."""
    raise NotImplementedError("expected an upgrade; to go back, restore a dump")
