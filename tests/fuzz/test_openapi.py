"""A schema fuzzer over every operation of OpenAPI, against the real service on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.control_api.cli.test_serve import Service
from tests.control_api.world import PASSWORD, SETTINGS

# How many cases an operation gets, and from which seed: the same each time; `make fuzz` asks for many new ones.
EXAMPLES = os.environ.get("MUSTER_FUZZ_EXAMPLES", "15")
SEED = os.environ.get("MUSTER_FUZZ_SEED", "83")


@pytest.fixture
def service(postgresql_url: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, **{**SETTINGS, "DATABASE_URL": postgresql_url})
    assert service.run("db", "upgrade").returncode == 0
    yield service.start()
    service.stop()


def fuzz(service: Service, *options: str) -> str:
    """Run the fuzzer to its end; what it said. Fails with that when it found anything."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            *("--config-file", str(Path(__file__).with_name("schemathesis.toml"))),
            *(
                "run",
                f"{service.url}/api/openapi.json",
                "--max-examples",
                EXAMPLES,
                "--seed",
                SEED,
                "--no-color",
            ),
            *("--phases", "examples,coverage,fuzzing,stateful"),
            *("--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", *options),
        ],
        cwd=service.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    summary = done.stdout.split("SUMMARY")[-1]
    print(summary)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "Traceback" not in (service.directory / "output").read_text()
    return summary


def test_nobody_gets_an_answer_that_is_not_documented(service: Service) -> None:
    fuzz(service)


def test_an_admin_gets_an_answer_that_is_not_documented(service: Service) -> None:
    login = httpx2.post(f"{service.url}/api/auth/login", json={"username": "admin", "password": PASSWORD})
    token = login.json()["data"]["accessToken"]
    fuzz(
        service,
        "--header",
        f"Authorization: Bearer {token}",
        "--exclude-path-regex",
        "^/api/(auth/logout|events)$",
    )
