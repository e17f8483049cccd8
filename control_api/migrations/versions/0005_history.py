"""The history holds removals (to no status) and notes of the monitor (of no worker)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATUSES = "('PENDING', 'ACTIVE', 'INACTIVE', 'MAINTENANCE', 'NOT_READY')"


def upgrade() -> None:
    """Let both columns be empty."""
    _set_nullable(nullable=True)


def downgrade() -> None:
    """Forget what cannot be told without it."""
    op.execute("DELETE FROM transitions WHERE worker_id IS NULL OR to_status IS NULL")
    _set_nullable(nullable=False)


def _set_nullable(*, nullable: bool) -> None:
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(f"{'' if nullable else 'NOT '}NULL")
        return
    op.alter_column("transitions", "worker_id", existing_type=sa.Uuid(), nullable=nullable)
    op.alter_column("transitions", "to_status", existing_type=sa.String(16), nullable=nullable)


def _rebuild(null: str) -> None:
    """SQLite cannot change a column: make the table anew; nothing refers to it."""
    op.execute("ALTER TABLE transitions RENAME TO transitions_old")
    op.execute("DROP INDEX ix_transitions_worker_id_id")
    op.execute(
        f"""
        CREATE TABLE transitions (
            id INTEGER NOT NULL,
            worker_id CHAR(32) {null},
            from_status VARCHAR(16),
            to_status VARCHAR(16) {null},
            reason VARCHAR(300) NOT NULL,
            actor VARCHAR(80) NOT NULL,
            evidence JSON NOT NULL,
            at DATETIME NOT NULL,
            CONSTRAINT pk_transitions PRIMARY KEY (id),
            CONSTRAINT fk_transitions_worker_id FOREIGN KEY (worker_id) REFERENCES workers (id) ON DELETE CASCADE,
            CONSTRAINT ck_transitions_from_status CHECK (from_status IN {STATUSES}),
            CONSTRAINT ck_transitions_to_status CHECK (to_status IN {STATUSES})
        )
        """
    )
    op.execute("INSERT INTO transitions SELECT * FROM transitions_old")
    op.execute("DROP TABLE transitions_old")
    op.create_index("ix_transitions_worker_id_id", "transitions", ["worker_id", "id"])
