"""The inventory's queries: every worker as a plain row, and one number that changes whenever any of them does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Numeric, String, cast, func, null, select
from sqlalchemy.orm import Session

from control_api import db
from control_api.workers.lifecycle import Moment
from control_api.workers.models import STANDING, Heartbeat, Worker
from control_api.workers.store import derived_health, derived_status

BATCH = 1000  # rows in memory at a time
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


def rows(session: Session, at: Moment) -> Iterator[dict[str, Any]]:
    """Yield every standing worker by hostname: its columns, and `status`, `health`, `node_state` at this moment."""
    query = select(*COLUMNS, *_derived(at)).join(Heartbeat).where(STANDING).order_by(Worker.hostname)
    found = session.execute(query.execution_options(yield_per=BATCH))
    return (dict(row) for row in found.mappings())


def fingerprint(session: Session, at: Moment) -> str:
    """Return a text that differs whenever `rows` would; the database computes it, and sends nothing else."""
    of_row = db.row_hash(session, *COLUMNS, *_derived(at))
    query = select(func.count(), func.sum(cast(of_row, Numeric(40, 0)))).select_from(Worker).join(Heartbeat)
    count, total = session.execute(query.where(STANDING)).one()
    return f"{count}-{int(total or 0) & (2**64 - 1):x}"


def _derived(at: Moment) -> tuple[Any, ...]:
    node_state = Worker.node_state if at.knows_nodes else cast(null(), String)
    return (
        derived_status(at).label("status"),
        derived_health(at).label("health"),
        node_state.label("node_state"),
    )
