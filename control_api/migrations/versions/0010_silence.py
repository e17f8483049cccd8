"""Recording the silence of a whole fleet writes less: no foreign key is looked up, a narrower index grows."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATUSES = "('PENDING', 'ACTIVE', 'INACTIVE', 'MAINTENANCE', 'NOT_READY')"
REFERENCE = (
    "CONSTRAINT fk_transitions_worker_id FOREIGN KEY (worker_id) REFERENCES workers (id) ON DELETE CASCADE"
)


def upgrade() -> None:
    """Drop what no statement needs; old processes miss neither."""
    _index("status", "hostname")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild("")
    else:
        op.drop_constraint("fk_transitions_worker_id", "transitions", type_="foreignkey")


def downgrade() -> None:
    """Take both back."""
    _index("status", "hostname", "worker_id")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(f"{REFERENCE},")
    else:
        op.execute(f"ALTER TABLE transitions ADD {REFERENCE}")


def _index(*columns: str) -> None:
    op.drop_index("ix_status_index_status", "status_index")
    op.create_index("ix_status_index_status", "status_index", [*columns])


def _rebuild(reference: str) -> None:
    """SQLite cannot drop a constraint: make the table anew; nothing refers to it."""
    op.execute("ALTER TABLE transitions RENAME TO transitions_old")
    op.execute("DROP INDEX ix_transitions_worker_id_id")
    op.execute(
        f"""
        CREATE TABLE transitions (
            id INTEGER NOT NULL,
            worker_id CHAR(32),
            from_status VARCHAR(16),
            to_status VARCHAR(16),
            reason VARCHAR(300) NOT NULL,
            actor VARCHAR(80) NOT NULL,
            evidence JSON NOT NULL,
            at DATETIME NOT NULL,
            CONSTRAINT pk_transitions PRIMARY KEY (id),
            {reference}
            CONSTRAINT ck_transitions_from_status CHECK (from_status IN {STATUSES}),
            CONSTRAINT ck_transitions_to_status CHECK (to_status IN {STATUSES})
        )
        """
    )
    op.execute("INSERT INTO transitions SELECT * FROM transitions_old")
    op.execute("DROP TABLE transitions_old")
    op.create_index("ix_transitions_worker_id_id", "transitions", ["worker_id", "id"])
