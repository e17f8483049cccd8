"""Enrolment tokens, and which workers were approved and let in by which token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
STANDING = sa.text("revoked_at IS NULL")


def upgrade() -> None:
    """Create the table; every worker that is there counts as approved."""
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("description", sa.String(200), nullable=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("cidrs", JSON, nullable=False),
        sa.Column("approval_required", sa.Boolean(), nullable=False),
        sa.Column("may_replace", sa.Boolean(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(300), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_tokens")),
    )
    op.create_index(
        "uq_enrolment_tokens_name",
        "enrolment_tokens",
        ["name"],
        unique=True,
        postgresql_where=STANDING,
        sqlite_where=STANDING,
    )
    op.add_column("workers", sa.Column("approved", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("workers", sa.Column("enrolment_token_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("workers", "enrolment_token_id")
    op.drop_column("workers", "approved")
    op.drop_table("enrolment_tokens")
