"""The lab's workers as the control API tells them, asked for over HTTPS with the certificate of the lab."""

from __future__ import annotations

import ssl as tls
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx2
from rich.table import Table

from lab import ssh
from lab.errors import LabError
from lab.layout import MASTER, Layout

ADMIN = "admin"
PASSWORD_FILE = "/etc/muster/secrets/MUSTER_ADMIN_PASSWORD"  # noqa: S105 - where it is, not what it is

Row = dict[str, Any]


@dataclass(frozen=True)
class Api:
    """The control API of a lab, and how its admin logs in."""

    url: str
    password: str
    client: httpx2.Client

    def workers(self) -> list[Row]:
        """The rows of the worker table, by name. Raises httpx2.HTTPError."""
        rows = self._data("GET", "/api/workers", headers=self._bearer)["workers"]
        return sorted(rows, key=lambda row: str(row["name"]))

    @cached_property
    def _bearer(self) -> dict[str, str]:
        """Logged in once: logins are limited, and this asks every second."""
        login = self._data("POST", "/api/auth/login", json={"username": ADMIN, "password": self.password})
        return {"Authorization": f"Bearer {login['accessToken']}"}

    def _data(self, method: str, path: str, **options: Any) -> Row:
        answer = self.client.request(method, self.url + path, **options)
        answer.raise_for_status()
        return dict(answer.json()["data"])


def connect(layout: Layout, certificate: str) -> Api:
    """The API with this certificate (PEM); the admin's password is fetched from the master."""
    password = ssh.read(layout, MASTER, PASSWORD_FILE).strip()
    context = tls.create_default_context(cadata=certificate)
    return Api(layout.api_url, password, httpx2.Client(verify=context, timeout=10, trust_env=False))


def wait_until_active(api: Api, expected: Collection[str], seconds: float) -> list[Row]:
    """The rows once every expected worker is ACTIVE and its K3s node known to be ready; LabError after `seconds`.

    What K3s says of a node may lag behind; alone it fails nothing.
    """
    deadline = time.monotonic() + seconds
    rows, trouble = _ask(api)
    while (absent(rows, expected) or not settled(rows)) and time.monotonic() < deadline:
        time.sleep(1)
        rows, trouble = _ask(api)
    if missing := absent(rows, expected):
        reason = f" ({trouble})" if trouble else ""
        raise LabError(
            f"After {seconds:.0f} s not ACTIVE{reason}: {', '.join(missing)}. "
            f"`muster lab ssh {missing[0]} journalctl -u muster-agent` tells why."
        )
    return rows


def _ask(api: Api) -> tuple[list[Row], str]:
    try:
        return api.workers(), ""
    except (httpx2.HTTPError, KeyError, ValueError) as exc:  # it may be about to start
        return [], f"the control API does not answer as it should: {exc}"


def absent(rows: list[Row], expected: Collection[str]) -> list[str]:
    """The expected workers that are not ACTIVE."""
    active = {row["name"] for row in rows if row["status"] == "ACTIVE"}
    return sorted(set(expected) - active)


def settled(rows: list[Row]) -> bool:
    return all(row["nodeState"] == "Ready" for row in rows if row["status"] == "ACTIVE")


def table(rows: list[Row]) -> Table:
    table = Table("worker", "address", "status", "last heartbeat", "K3s node")
    for row in rows:
        age = row["heartbeatAgeSeconds"]
        heard = "never" if age is None else f"{age:.0f} s ago"
        table.add_row(row["name"], row["ipAddress"], row["status"], heard, row["nodeState"] or "not known")
    return table
