"""Why a worker has not joined the cluster."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; old processes neither see nor hurt it."""
    op.add_column("workers", sa.Column("join_error", sa.String(500), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("workers", "join_error")
