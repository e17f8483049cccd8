"""The tables of the workers: one class a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from control_api.db import Base, Json, UtcDateTime, words
from control_api.workers.lifecycle import Intent, Node, Status

BigKey = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER counts up by itself there
NODE = Enum(
    Node,
    name="node_state",
    native_enum=False,
    length=8,
    values_callable=lambda nodes: [n.value for n in nodes],
)
STANDING = text("removed_at IS NULL")  # a removed worker frees its name, its hostname and its machine id
RESTING = text("removed_at IS NULL AND intent = 'maintenance'")


def _standing(name: str, *columns: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, postgresql_where=STANDING, sqlite_where=STANDING)


class Worker(Base):
    """A machine of the fleet: what it said of itself, what the operator wants of it, its recorded status.

    Pages are half empty and nothing that changes with a status has an index, so that recording a status is a HOT
    update: it writes no index at all, however many there are (docs/adr/0005).
    """

    __tablename__ = "workers"
    __table_args__ = (
        _standing("uq_workers_hostname", "hostname", unique=True),
        _standing("uq_workers_name", "name", unique=True),
        _standing("uq_workers_machine_id", "machine_id", unique=True),
        _standing("ix_workers_created_at", "created_at", "id"),
        _standing("ix_workers_cpu_cores", "cpu_cores", "id"),
        _standing("ix_workers_total_memory_bytes", "total_memory_bytes", "id"),
        _standing("ix_workers_total_storage_bytes", "total_storage_bytes", "id"),
        _standing("ix_workers_architecture", "architecture", "hostname"),
        Index("ix_workers_maintenance", "hostname", postgresql_where=RESTING, sqlite_where=RESTING),
        {"postgresql_with": {"fillfactor": 50}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(253))
    hostname: Mapped[str] = mapped_column(String(253))
    machine_id: Mapped[str | None] = mapped_column(String(32))
    ip_address: Mapped[str] = mapped_column(String(45))
    observed_address: Mapped[str | None] = mapped_column(String(45))
    status: Mapped[Status] = mapped_column(words(Status, "status"))
    intent: Mapped[Intent] = mapped_column(words(Intent, "intent"))
    approved: Mapped[bool] = mapped_column(default=True, server_default=true())
    enrolment_token_id: Mapped[UUID | None]  # the token that let it in; None is the settings' own
    epoch: Mapped[int]
    cpu_cores: Mapped[int]
    cpu_model: Mapped[str | None] = mapped_column(String(200))
    architecture: Mapped[str | None] = mapped_column(String(32))
    total_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    total_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    operating_system: Mapped[str | None] = mapped_column(String(200))
    kernel_version: Mapped[str | None] = mapped_column(String(200))
    agent_version: Mapped[str | None] = mapped_column(String(64))
    ssh_host_keys: Mapped[list[str]] = mapped_column(Json)
    labels: Mapped[dict[str, str]] = mapped_column(Json)
    ansible_host: Mapped[str | None] = mapped_column(String(253))
    ansible_port: Mapped[int | None]
    ansible_user: Mapped[str | None] = mapped_column(String(32))
    max_pods: Mapped[int | None]
    notes: Mapped[str | None] = mapped_column(String(2000))
    maintenance_reason: Mapped[str | None] = mapped_column(String(200))
    maintenance_by: Mapped[str | None] = mapped_column(String(80))
    maintenance_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    maintenance_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    maintenance_drain: Mapped[bool | None]
    node_state: Mapped[Node | None] = mapped_column(NODE)
    node_pods: Mapped[int | None]
    node_pod_capacity: Mapped[int | None]
    join_error: Mapped[str | None] = mapped_column(String(500))
    join_token_id: Mapped[str | None] = mapped_column(
        String(6)
    )  # of the version before; join_tokens has them
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    registered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    heartbeat: Mapped[Heartbeat] = relationship(lazy="raise", innerjoin=True)


class Heartbeat(Base):
    """The last heartbeat: narrow, pages half empty, no index on what changes, so that updates stay HOT.

    Half of a page is what 30 % of it become: registered, a row has 80 bytes, and heard, 136.
    """

    __tablename__ = "heartbeats"
    __table_args__ = ({"postgresql_with": {"fillfactor": 30}},)

    worker_id: Mapped[UUID] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True)
    received_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    boot_id: Mapped[UUID | None]
    previous_boot_id: Mapped[UUID | None]
    seq: Mapped[int] = mapped_column(BigInteger)
    node_ready: Mapped[bool]
    joined_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    left_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    left_reason: Mapped[str | None] = mapped_column(String(200))
    cpu_usage: Mapped[float | None] = mapped_column(Double)
    memory_usage: Mapped[float | None] = mapped_column(Double)
    disk_usage: Mapped[float | None] = mapped_column(Double)
    current_pods: Mapped[int | None]
    load_average: Mapped[float | None] = mapped_column(Double)


class StatusIndex(Base):
    """The standing workers by recorded status: an index that is kept by hand, in a narrow table of its own.

    An index on workers.status would make every change of a status write every index of that wide table.
    """

    __tablename__ = "status_index"
    __table_args__ = (Index("ix_status_index_status", "status", "hostname"),)

    worker_id: Mapped[UUID] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True)
    hostname: Mapped[str] = mapped_column(String(253))
    status: Mapped[Status] = mapped_column(words(Status, "status"))


class Transition(Base):
    """A recorded change of status: from none when a worker becomes known, to none when it is removed.

    A row without a worker is a note of the monitor on the whole fleet. The ids are positions in the stream of events.
    No foreign key: rows of workers are never deleted, and to look for each of 100,000 of them takes half a second.
    """

    __tablename__ = "transitions"
    __table_args__ = (Index("ix_transitions_worker_id_id", "worker_id", "id"),)

    id: Mapped[int] = mapped_column(BigKey, Identity(always=True), primary_key=True)
    worker_id: Mapped[UUID | None]
    from_status: Mapped[Status | None] = mapped_column(words(Status, "from_status"))
    to_status: Mapped[Status | None] = mapped_column(words(Status, "to_status"))
    reason: Mapped[str] = mapped_column(String(300))
    actor: Mapped[str] = mapped_column(String(80))
    evidence: Mapped[dict[str, Any]] = mapped_column(Json)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Watch(Base):
    """What the monitor knows of itself, for every process that reads: a single row."""

    __tablename__ = "watch"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ticked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    grace_until: Mapped[datetime] = mapped_column(UtcDateTime)
    nodes_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
