"""The inventory's queries: every worker as JSON, and one number that changes whenever any of them does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import Numeric, String, cast, func, null, select
from sqlalchemy.orm import Session

from control_api import db, pace
from control_api.workers import lifecycle_store
from control_api.workers.lifecycle import Moment, Status
from control_api.workers.models import STANDING, Heartbeat, StatusIndex, Worker
from control_api.workers.wire import InventoryWorker

BATCH = 500  # rows in memory at a time
PART = 5000  # workers that are hashed at a time
COLUMNS = (
    Worker.id,
    Worker.name,
    Worker.hostname,
    Worker.machine_id,
    Worker.ip_address,
    Worker.intent,
    Worker.approved,
    Worker.cpu_cores,
    Worker.cpu_model,
    Worker.architecture,
    Worker.total_memory_bytes,
    Worker.total_storage_bytes,
    Worker.operating_system,
    Worker.kernel_version,
    Worker.agent_version,
    Worker.ssh_host_keys,
    Worker.labels,
    Worker.ansible_host,
    Worker.ansible_port,
    Worker.ansible_user,
    Worker.max_pods,
)


def rows(session: Session, at: Moment) -> Iterator[str]:
    """Yield what InventoryWorker says of every standing worker at this moment, as JSON, by hostname.

    The database writes it: a process that did it for 100,000 workers would keep heartbeats waiting for seconds.
    """
    status, health, node_state = _derived(at)
    shown = {
        **{column.key: column for column in COLUMNS},
        "status": status,
        "is_ready": health == Status.ACTIVE.value,
        "is_schedulable": status == Status.ACTIVE.value,
        "node_state": node_state,
    }
    columns = [shown[name].label(field.alias or name) for name, field in InventoryWorker.model_fields.items()]
    query = select(*columns).select_from(Worker).join(Heartbeat).where(STANDING)
    found = session.scalars(
        db.json_rows(session, query, order_by="hostname").execution_options(yield_per=BATCH)
    )
    for batch in pace.evenly(found.partitions()):
        yield from batch


def fingerprint(session: Session, at: Moment) -> str:
    """Return a text that differs whenever `rows` would; the database computes it, and sends nothing else.

    It looks at some thousand workers at a time. Each is looked at once, and none can go from one part to another.
    """
    counted = [_sum(session, at, part) for part in pace.evenly(_parts(session))]
    count, total = (sum(each) for each in zip(*counted, strict=True))
    return f"{count}-{total & (2**64 - 1):x}"


def _parts(session: Session) -> Sequence[tuple[UUID, UUID]]:
    """Return the first and the last id of the parts: ids are random, so that these are about as large."""
    number = 1 + (session.scalar(select(func.count()).select_from(StatusIndex)) or 0) // PART
    ends = [2**128 * place // number for place in range(number + 1)]
    return [(UUID(int=first), UUID(int=after - 1)) for first, after in pairwise(ends)]


def _sum(session: Session, at: Moment, part: tuple[UUID, UUID]) -> tuple[int, int]:
    of_row = db.row_hash(session, *COLUMNS, *_derived(at))
    query = select(func.count(), func.sum(cast(of_row, Numeric(40, 0)))).select_from(Worker).join(Heartbeat)
    # The second condition follows from the first, which PostgreSQL does not see.
    query = query.where(STANDING, Worker.id.between(*part), Heartbeat.worker_id.between(*part))
    count, total = session.execute(query).one()
    return count, int(total or 0)


def _derived(at: Moment) -> tuple[Any, ...]:
    node_state = Worker.node_state if at.knows_nodes else cast(null(), String)
    return lifecycle_store.status(at), lifecycle_store.health(at), node_state
