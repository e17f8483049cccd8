"""The workers with their heartbeats and transitions, the monitor's watch, the users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
STANDING = sa.text("removed_at IS NULL")


def _words(name: str, *words: str) -> sa.Enum:
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=16)


def _status(name: str) -> sa.Enum:
    return _words(name, "PENDING", "ACTIVE", "INACTIVE", "MAINTENANCE", "NOT_READY")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("username", sa.String(63), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("role", _words("role", "viewer", "operator", "admin"), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
    )
    op.create_table(
        "watch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ticked_at", MOMENT, nullable=False),
        sa.Column("grace_until", MOMENT, nullable=False),
        sa.Column("nodes_seen_at", MOMENT, nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_watch_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watch")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("hostname", sa.String(253), nullable=False),
        sa.Column("machine_id", sa.String(32), nullable=True),
        sa.Column("ip_address", sa.String(45), nullable=False),
        sa.Column("observed_address", sa.String(45), nullable=True),
        sa.Column("status", _status("status"), nullable=False),
        sa.Column("intent", _words("intent", "active", "maintenance"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("cpu_cores", sa.Integer(), nullable=False),
        sa.Column("cpu_model", sa.String(200), nullable=True),
        sa.Column("architecture", sa.String(32), nullable=True),
        sa.Column("total_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("total_storage_bytes", sa.BigInteger(), nullable=True),
        sa.Column("operating_system", sa.String(200), nullable=True),
        sa.Column("kernel_version", sa.String(200), nullable=True),
        sa.Column("agent_version", sa.String(64), nullable=True),
        sa.Column("ssh_host_keys", JSON, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("ansible_host", sa.String(253), nullable=True),
        sa.Column("ansible_port", sa.Integer(), nullable=True),
        sa.Column("ansible_user", sa.String(32), nullable=True),
        sa.Column("node_state", sa.String(8), nullable=True),
        sa.Column("join_token_id", sa.String(6), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("registered_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("removed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    for column in ("hostname", "machine_id"):
        op.create_index(
            f"uq_workers_{column}",
            "workers",
            [column],
            unique=True,
            postgresql_where=STANDING,
            sqlite_where=STANDING,
        )
    op.create_table(
        "heartbeats",
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=True),
        sa.Column("boot_id", sa.Uuid(), nullable=True),
        sa.Column("previous_boot_id", sa.Uuid(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("node_ready", sa.Boolean(), nullable=False),
        sa.Column("joined_at", MOMENT, nullable=True),
        sa.Column("left_at", MOMENT, nullable=True),
        sa.Column("left_reason", sa.String(200), nullable=True),
        sa.Column("cpu_usage", sa.Double(), nullable=True),
        sa.Column("memory_usage", sa.Double(), nullable=True),
        sa.Column("disk_usage", sa.Double(), nullable=True),
        sa.Column("current_pods", sa.Integer(), nullable=True),
        sa.Column("load_average", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_heartbeats_worker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_heartbeats")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "transitions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            nullable=False,
        ),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("from_status", _status("from_status"), nullable=True),
        sa.Column("to_status", _status("to_status"), nullable=False),
        sa.Column("reason", sa.String(300), nullable=False),
        sa.Column("actor", sa.String(80), nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_transitions_worker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transitions")),
    )
    op.create_index("ix_transitions_worker_id_id", "transitions", ["worker_id", "id"])


def downgrade() -> None:
    """Drop the tables, in the reverse order."""
    for table in ("transitions", "heartbeats", "workers", "watch", "users"):
        op.drop_table(table)
