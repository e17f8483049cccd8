"""A schema fuzzer over every operation of OpenAPI, against the real service on PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.control_api.cli.test_serve import Service
from tests.control_api.world import SETTINGS, bearer

# How many cases an operation gets, and from which seed: the same each time; `make fuzz` asks for many new ones.
EXAMPLES = os.environ.get("MUSTER_FUZZ_EXAMPLES", "15")
SEED = os.environ.get("MUSTER_FUZZ_SEED", "83")
# What an admin's run must have done.
ADMIN_REACHED = {
    *(
        "POST /api/workers",
        "PATCH /api/workers/{}",
        "DELETE /api/workers/{}",
        "GET /api/workers/{}/transitions",
    ),
    *("POST /api/workers/{}/maintenance", "POST /api/workers/{}/approve", "POST /api/workers/{}/rotate"),
    *("POST /api/users", "PATCH /api/users/{}", "DELETE /api/users/{}"),
    *(
        "POST /api/webhooks",
        "PATCH /api/webhooks/{}",
        "DELETE /api/webhooks/{}",
        "POST /api/webhooks/{}/replay",
    ),
    *(
        "POST /api/enrolment-tokens",
        "DELETE /api/enrolment-tokens/{}",
        "POST /api/api-keys",
        "DELETE /api/api-keys/{}",
    ),
    *("GET /api/workers", "GET /api/inventory", "GET /api/audit/export", "GET /metrics"),
}
# What a worker's run must have come to: operations, and how often they were answered so.
WORKER_REACHED = {
    ("POST", "/api/workers/register"): {200: 1, 201: 2, 409: 1, 422: 1},
    ("POST", "/api/workers/{worker_id}/leave"): {200: 1, 401: 1, 422: 1},
    ("PUT", "/api/workers/{worker_id}/join-error"): {200: 1, 401: 1, 422: 1},
    ("POST", "/api/workers/{worker_id}/rotate"): {200: 2, 401: 1},  # the second with what the first gave
    ("GET", "/api/peers"): {200: 1, 401: 1, 422: 1},
}
RESULTS = os.environ.get("MUSTER_FUZZ_RESULTS")  # the file that is told of each run
HEARTBEAT = "/api/workers/{worker_id}/heartbeat"
ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REFUSED = ("HEARTBEAT_OUT_OF_ORDER", "INVALID_CREDENTIAL", "INVALID_REQUEST")


@pytest.fixture
def service(postgresql_url: str, tmp_path: Path) -> Iterator[Service]:
    # Not the password of the documented examples: the first that changes it would end the admin's login.
    own = {"DATABASE_URL": postgresql_url, "MUSTER_ADMIN_PASSWORD": "none-of-the-examples"}
    service = Service(tmp_path, **{**SETTINGS, **own})
    assert service.run("db", "upgrade").returncode == 0
    yield service.start()
    service.stop()


def fuzz(service: Service, who: str, *options: str, **environment: str) -> None:
    """Run the fuzzer to its end as `who`. Fails with what it found, if anything."""
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
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    log = (service.directory / "output").read_text()
    assert "Traceback" not in log
    answered = Counter(re.findall(r'"status": (\d+)', log))
    answers = ", ".join(f"{number:,} × {status}" for status, number in sorted(answered.items()))
    summary = done.stdout.partition(" SUMMARY ")[2].partition("\n")[2].strip()
    told = f"## As {who}\n\n```\n{summary}\n```\n\nAnswers but to heartbeats: {answers}.\n"
    print(told)
    if RESULTS:
        with Path(RESULTS).open("a") as results:
            results.write(f"\n{told}")


def test_nobody_gets_an_answer_that_is_not_documented(service: Service) -> None:
    fuzz(service, "nobody")


def test_an_admin_gets_an_answer_that_is_not_documented(service: Service) -> None:
    worker = service.register(hostname="fuzzed")
    credentials = {"username": "admin", "password": service.secret("MUSTER_ADMIN_PASSWORD")}
    login = httpx2.post(f"{service.url}/api/auth/login", json=credentials).json()["data"]
    me = httpx2.get(f"{service.url}/api/auth/me", headers=bearer(login["accessToken"])).json()["data"]
    fuzz(
        service,
        "an admin",
        "--exclude-path-regex",
        "^/api/(auth/logout|events)$",
        PYTHONPATH=str(Path(__file__).parent),
        SCHEMATHESIS_HOOKS="admin_hooks",
        MUSTER_FUZZ_URL=service.url,
        MUSTER_FUZZ_ADMIN=me["id"],
        MUSTER_FUZZ_WORKER=worker["workerId"],
        MUSTER_FUZZ_REFRESH_TOKEN=login["refreshToken"],
    )
    assert done_by(service, "user:admin") >= ADMIN_REACHED


def test_a_worker_gets_an_answer_that_is_not_documented(service: Service) -> None:
    worker = service.register(hostname="fuzzed")
    paths = (HEARTBEAT, *(path for _, path in WORKER_REACHED))
    fuzz(
        service,
        "a worker",
        *(option for path in paths for option in ("--include-path", path)),
        PYTHONPATH=str(Path(__file__).parent),
        SCHEMATHESIS_HOOKS="worker_hooks",
        MUSTER_FUZZ_WORKER=worker["workerId"],
        MUSTER_FUZZ_CREDENTIAL=worker["credential"],
        MUSTER_FUZZ_TOKEN=service.secret("WORKER_REGISTRATION_TOKEN"),
    )
    told = metrics(service)
    for (method, path), answered in WORKER_REACHED.items():
        counted = {
            status: told.get(f"muster_http_requests_total {method} {path} {status}", 0) for status in answered
        }
        assert all(counted[status] >= least for status, least in answered.items()), (method, path, counted)
    assert told["muster_heartbeats_accepted_total"] > 0
    assert [reason for reason in REFUSED if not told[f"muster_heartbeats_refused_total {reason}"]] == []


def done_by(service: Service, actor: str) -> set[str]:
    """Return what the actor has asked for and got, without the ids."""
    lines = (service.directory / "output").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        f"{event['method']} {ID.sub('{}', event['path'])}"
        for event in events
        if event["event"] == "request"
        and event["actor"] == actor
        and event["status"] < HTTPStatus.BAD_REQUEST
    }


def metrics(service: Service) -> dict[str, float]:
    """Return what the service has counted, by the name of the metric and the values of its labels."""
    text = httpx2.get(f"{service.url}/metrics", headers=service.admin()).text
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
