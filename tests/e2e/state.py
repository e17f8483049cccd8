"""What a run of site.yml has made of a host, to compare two hosts that came to it on different ways."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

PROGRAM = Path(__file__).with_name("read_state.py")
OF_THE_MACHINE = {"id", "ipAddress", "observedAddress", "machineId", "sshHostKeys"}
OF_THE_MOMENT = {
    *("createdAt", "registeredAt", "updatedAt", "lastHeartbeat", "heartbeatAgeSeconds"),
    *("cpuUsage", "memoryUsage", "diskUsage", "loadAverage"),
}


def of(lab: Lab, host: str) -> dict[str, str]:
    """What is there -> how it is. Names of the lab and its addresses are left out."""
    program = base64.b64encode(PROGRAM.read_bytes()).decode()
    return dict(json.loads(lab.on(host, f"echo {program} | base64 -d | python3 -")))


def of_built(lab: Lab, host: str) -> dict[str, str]:
    """The same, and the row of a worker in the worker table."""
    row = lab.workers().get(host, {})
    return of(lab, host) | {
        f"its row's {column}": str(row[column]) for column in row.keys() - OF_THE_MACHINE - OF_THE_MOMENT
    }


def differences(one: dict[str, str], other: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    names = sorted(one.keys() | other.keys())
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}
