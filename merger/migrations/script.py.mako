# SPDX-License-Identifier: BSD-3-Clause
"""${message}."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Upgrade to this revision."""
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    """Going back is not supported: restore a dump."""
    raise NotImplementedError("expected an upgrade; to go back, restore a dump")
