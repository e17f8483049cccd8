"""What the pages are made of: a worker as everyone sees it, people who log in, a browser."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx2

from control_api.identity import passwords, store
from control_api.identity.roles import Role
from control_api.workers.lifecycle import Intent, Node, Status
from control_api.workers.wire import WorkerView
from tests.control_api.world import PASSWORD, START, Api

ID = UUID("5a1c8a52-0000-4000-8000-000000000001")
FORM = {"Sec-Fetch-Site": "same-origin"}  # what a browser says of a form of our own page
LINK = {"Sec-Fetch-Site": "cross-site"}


def seen(**changes: Any) -> WorkerView:
    """Return an ACTIVE worker that was heard just now."""
    worker = {
        "id": ID,
        "name": "w1",
        "hostname": "w1",
        "ip_address": "192.0.2.11",
        "status": Status.ACTIVE,
        "intent": Intent.ACTIVE,
        "maintenance": None,
        "max_pods": None,
        "notes": None,
        "machine_id": None,
        "observed_address": None,
        "approved": True,
        "is_ready": True,
        "is_schedulable": True,
        "last_heartbeat": START,
        "heartbeat_age_seconds": 0.0,
        "node_state": Node.READY,
        "join_error": None,
        "cpu_cores": 8,
        "cpu_model": None,
        "architecture": "amd64",
        "total_memory_bytes": 16 * 2**30,
        "total_storage_bytes": None,
        "operating_system": None,
        "kernel_version": None,
        "agent_version": None,
        "ssh_host_keys": [],
        "labels": {},
        "ansible_host": None,
        "ansible_port": None,
        "ansible_user": None,
        "cpu_usage": 12.4,
        "memory_usage": 91.0,
        "disk_usage": None,
        "current_pods": 3,
        "load_average": 0.5,
        "created_at": START,
        "registered_at": START,
        "updated_at": START,
    }
    return WorkerView.model_construct(**{**worker, **changes})  # what other rooms add is not shown


async def log_in(api: Api, role: Role = Role.ADMIN) -> httpx2.AsyncClient:
    """Add somebody with this role, log in as a browser does, and return the browser."""
    with api.service.database.transaction() as session:
        store.add_once(session, role.value, passwords.hash_password(PASSWORD), role, api.clock())
    form = {"username": role.value, "password": PASSWORD}
    answer = await api.client.post("/login", data=form, headers=FORM)
    assert answer.status_code == 303, answer.text
    return api.client
