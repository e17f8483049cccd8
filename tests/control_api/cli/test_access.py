"""`muster users` and `muster api-keys` against a running service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.control_api.processes import MUSTER, Service
from tests.control_api.world import bearer

PASSWORD = "a-long-enough-password"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("service")
    service = Service(directory).start()
    yield service
    service.stop()


def muster(service: Service, *arguments: str, typed: str = "", **environment: str) -> tuple[int, str]:
    """Run a command as an administrator, who types this; the exit status and what it said."""
    known = {"MUSTER_URL": service.url, "MUSTER_PASSWORD": service.secret("MUSTER_ADMIN_PASSWORD")}
    done = subprocess.run(
        [*MUSTER, *arguments],
        env={**service.environment, **known, **environment},
        cwd=service.directory,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def login(service: Service, password: str) -> int:
    body = {"username": "ann", "password": password}
    return httpx2.post(f"{service.url}/api/auth/login", json=body).status_code


def test_a_user_is_made_changed_listed_and_removed(service: Service) -> None:
    assert muster(service, "users", "create", "ann", "--role", "operator", typed=f"{PASSWORD}\n") == (
        0,
        "ann may log in as operator.",
    )
    assert login(service, PASSWORD) == 200
    assert muster(service, "users", "set", "ann", "--disable") == (0, "ann is changed.")
    assert login(service, PASSWORD) == 401
    table = [line.split()[:3] for line in muster(service, "users", "list")[1].splitlines()]
    assert table == [
        ["USER", "ROLE", "STATE"],
        ["admin", "admin", "enabled"],
        ["ann", "operator", "disabled"],
    ]
    assert muster(service, "users", "remove", "ann") == (0, "ann is removed.")
    assert muster(service, "users", "remove", "ann") == (1, "There is no user ann.")


def test_ones_own_password_is_changed_and_the_old_one_is_dead(service: Service) -> None:
    muster(service, "users", "create", "ann", typed=f"{PASSWORD}\n")
    as_ann = {"MUSTER_USERNAME": "ann", "MUSTER_PASSWORD": PASSWORD}
    assert muster(service, "users", "password", typed="another-long-one\n", **as_ann) == (
        0,
        "Your password is changed.",
    )
    assert (login(service, PASSWORD), login(service, "another-long-one")) == (401, 200)


def test_a_weak_password_is_one_sentence(service: Service) -> None:
    status, said = muster(service, "users", "create", "bob", typed="short\n")
    assert status == 1
    assert "password" in said
    assert "12 characters" in said
    assert said.count("\n") == 0


def test_a_key_is_made_used_listed_and_revoked(service: Service) -> None:
    status, key = muster(service, "api-keys", "create", "grafana", "--scope", "viewer")
    assert status == 0
    listed = f"{service.url}/api/workers"
    assert httpx2.get(listed, headers=bearer(key)).status_code == 200
    (row,) = json.loads(muster(service, "api-keys", "list", "--json")[1])
    assert (row["name"], row["scopes"], row["revokedAt"]) == ("grafana", ["viewer"], None)
    assert muster(service, "api-keys", "revoke", "grafana") == (
        0,
        "The API key grafana opens nothing any more.",
    )
    assert httpx2.get(listed, headers=bearer(key)).status_code == 401
    assert muster(service, "api-keys", "revoke", "grafana") == (
        1,
        "There is no API key grafana that could be revoked.",
    )
