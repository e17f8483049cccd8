"""Lists by index, maintenance with its reason, notes and limits of a worker."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
STANDING = sa.text("removed_at IS NULL")
RESTING = sa.text("removed_at IS NULL AND intent = 'maintenance'")
COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "max_pods": sa.Integer(),
    "notes": sa.String(2000),
    "maintenance_reason": sa.String(200),
    "maintenance_by": sa.String(80),
    "maintenance_since": MOMENT,
    "maintenance_until": MOMENT,
    "maintenance_drain": sa.Boolean(),
}
INDEXES = {
    "ix_workers_created_at": ["created_at", "id"],
    "ix_workers_cpu_cores": ["cpu_cores", "id"],
    "ix_workers_total_memory_bytes": ["total_memory_bytes", "id"],
    "ix_workers_total_storage_bytes": ["total_storage_bytes", "id"],
    "ix_workers_architecture": ["architecture", "hostname"],
}

# Debian and Ubuntu ship it with the server; it is trusted, so the database's owner may switch it on.
TRIGRAMS_AT_HAND = """
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') OR EXISTS (
  SELECT FROM pg_available_extension_versions
  WHERE name = 'pg_trgm' AND trusted AND has_database_privilege(current_database(), 'CREATE')
)
"""


def upgrade() -> None:
    """Add columns and indexes; old processes neither see nor hurt them."""
    for name, kind in COLUMNS.items():
        op.add_column("workers", sa.Column(name, kind, nullable=True))
    # Nobody could choose a name so far; hostnames are unique, and so are the names from now on.
    op.execute("UPDATE workers SET name = hostname WHERE removed_at IS NULL AND name <> hostname")
    _index("uq_workers_name", ["name"], STANDING, unique=True)
    if op.get_bind().dialect.name == "sqlite":
        # SQLite names the youngest index that refuses a row: whose hostname is taken shall hear of the hostname.
        op.drop_index("uq_workers_hostname", "workers")
        _index("uq_workers_hostname", ["hostname"], STANDING, unique=True)
    for name, columns in INDEXES.items():
        _index(name, columns, STANDING)
    _index("ix_workers_maintenance", ["hostname"], RESTING)
    _add_status_index()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE workers SET (fillfactor = 50)")
        op.create_index("ix_workers_labels", "workers", ["labels"], postgresql_using="gin")
        _add_trigrams()


def downgrade() -> None:
    """Take everything back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX IF EXISTS ix_workers_trigrams")
        op.execute("DROP INDEX ix_workers_labels")
        op.execute("ALTER TABLE workers RESET (fillfactor)")
    op.drop_table("status_index")
    for name in ("ix_workers_maintenance", *INDEXES, "uq_workers_name"):
        op.drop_index(name, "workers")
    for name in COLUMNS:
        op.drop_column("workers", name)


def _index(name: str, columns: list[str], where: sa.TextClause, *, unique: bool = False) -> None:
    op.create_index(name, "workers", columns, unique=unique, postgresql_where=where, sqlite_where=where)


def _add_status_index() -> None:
    statuses = ("PENDING", "ACTIVE", "INACTIVE", "MAINTENANCE", "NOT_READY")
    status = sa.Enum(*statuses, name="status", native_enum=False, create_constraint=True, length=16)
    op.create_table(
        "status_index",
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("hostname", sa.String(253), nullable=False),
        sa.Column("status", status, nullable=False),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_status_index_worker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_status_index")),
    )
    op.create_index("ix_status_index_status", "status_index", ["status", "hostname", "worker_id"])
    op.execute("INSERT INTO status_index SELECT id, hostname, status FROM workers WHERE removed_at IS NULL")


def _add_trigrams() -> None:
    """Index the search where pg_trgm is at hand; without it a search reads the table."""
    if op.get_bind().scalar(sa.text(TRIGRAMS_AT_HAND)):
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        columns = ", ".join(f"{column} gin_trgm_ops" for column in ("hostname", "name", "ip_address"))
        op.execute(f"CREATE INDEX ix_workers_trigrams ON workers USING gin ({columns})")
