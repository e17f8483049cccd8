"""Pods per node, the join tokens that are out, and the nodes that may have to make way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
COUNTS = ("node_pods", "node_pod_capacity")


def upgrade() -> None:
    """Add columns and tables; old processes neither see nor hurt them.

    workers.join_token_id stays for those processes. The tokens that it names expire within ten minutes by themselves.
    """
    for name in COUNTS:
        op.add_column("workers", sa.Column(name, sa.Integer(), nullable=True))
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.String(6), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_join_tokens_worker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_tokens")),
    )
    op.create_table(
        "stale_nodes",
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("before", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_stale_nodes")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("stale_nodes")
    op.drop_table("join_tokens")
    for name in COUNTS:
        op.drop_column("workers", name)
