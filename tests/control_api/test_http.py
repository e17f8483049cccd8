"""The edge: every error has a status, every answer has the envelope and an id."""

from __future__ import annotations

import re

import pytest

from control_api import errors, http
from control_api.errors import MusterError
from control_api.identity.roles import Role
from tests.control_api.world import Api, bearer, registration

STARTUP = {
    "BadSettings",
    "AlreadyRunning",
    "SchemaInUse",
    "ApiRefused",
}  # these end a program and are no answers


def everything(kind: type[MusterError]) -> list[type[MusterError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in everything(child))]


@pytest.mark.parametrize("kind", everything(MusterError)[1:])
def test_every_error_is_a_sentence_and_has_a_status(kind: type[MusterError]) -> None:
    status, body, _ = http.failure(kind())
    assert re.fullmatch(r"[A-Z].*[.)]", str(kind())), kind.__doc__
    assert (
        status == 500
        if kind.__name__ in {*STARTUP, "InternalError"}
        else status in {401, 403, 404, 409, 410, 413, 422, 429, 503}
    )
    assert errors.code(kind).encode() in body


def test_every_error_is_drawn_in_the_tree() -> None:
    drawn = re.findall(r"\b([A-Z]\w+)$", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(kind.__name__ for kind in everything(MusterError))


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (errors.InvalidRegistrationToken, 401, "INVALID_REGISTRATION_TOKEN"),
        (errors.HostnameTaken, 409, "HOSTNAME_TAKEN"),
        (errors.HeartbeatOutOfOrder, 409, "HEARTBEAT_OUT_OF_ORDER"),
        (errors.WorkerRemoved, 410, "WORKER_REMOVED"),
        (errors.DatabaseUnavailable, 503, "DATABASE_UNAVAILABLE"),
    ],
)
def test_codes_and_statuses_that_clients_rely_on(kind: type[MusterError], status: int, code: str) -> None:
    assert (http.failure(kind())[0], errors.code(kind)) == (status, code)


def test_those_who_should_come_again_are_told_when() -> None:
    for kind in (errors.DatabaseUnavailable, errors.Overloaded, errors.TooManyAttempts):
        assert dict(http.failure(kind())[2])[b"retry-after"].isdigit()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/api/workers/7034f966-b7f4-4394-b22d-0c8180282204/nowhere", 404, "NOT_FOUND"),
        ("PUT", "/api/workers/stats", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/workers/register", 401, "UNAUTHORIZED"),
    ],
)
async def test_what_does_not_exist_is_answered_in_the_envelope(
    sqlite_api: Api, method: str, path: str, status: int, code: str
) -> None:
    answer = await sqlite_api.client.request(method, path)
    assert (answer.status_code, answer.json()["success"], answer.json()["error"]["code"]) == (
        status,
        False,
        code,
    )


async def test_a_body_over_64_kib_is_refused(sqlite_api: Api) -> None:
    body = registration(operatingSystem="x" * 70_000)
    answer = await sqlite_api.client.post("/api/workers/register", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/enrolment-tokens", {"GET", "POST"}),
        ("/api/enrolment-tokens/7034f966-b7f4-4394-b22d-0c8180282204", {"GET", "DELETE"}),
        ("/api/workers/stats", {"GET"}),
        ("/healthz", {"GET"}),
    ],
)
async def test_a_path_that_does_not_know_a_method_names_all_that_it_knows(
    sqlite_api: Api, path: str, methods: set[str]
) -> None:
    answer = await sqlite_api.client.put(path)
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, methods)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "INVALID_REQUEST"),
        (b"{", 422, "INVALID_REQUEST"),
        (b"[]", 422, "INVALID_REQUEST"),
        (b"null", 422, "INVALID_REQUEST"),
        (b'"x"', 422, "INVALID_REQUEST"),
        (b"\xff", 400, "BAD_REQUEST"),
        (b"[" * 60_000, 400, "BAD_REQUEST"),
        (b'{"cpuCores": ' + b"9" * 5000 + b"}", 400, "BAD_REQUEST"),
    ],
)
async def test_a_body_that_is_no_object_is_refused(
    sqlite_api: Api, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await sqlite_api.client.post("/api/workers/register", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_every_answer_carries_a_request_id(sqlite_api: Api) -> None:
    own = await sqlite_api.client.get("/healthz", headers={"X-Request-Id": "abc-123"})
    assert own.headers["x-request-id"] == "abc-123"
    for headers in ({}, {"X-Request-Id": "evil value\t"}, {"X-Request-Id": "x" * 65}):
        made = await sqlite_api.client.get("/nowhere", headers=headers)
        assert re.fullmatch(r"[0-9a-f]{32}", made.headers["x-request-id"])


async def test_a_fault_of_ours_is_a_500_that_gives_nothing_away(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("control_api.workers.store.tallies", broken)
    answer = await sqlite_api.client.get("/api/workers/stats", headers=sqlite_api.admin())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.text


def test_a_role_covers_those_before_it() -> None:
    assert [(have, need) for have in Role for need in Role if have.covers(need)] == [
        (Role.VIEWER, Role.VIEWER),
        (Role.OPERATOR, Role.VIEWER),
        (Role.OPERATOR, Role.OPERATOR),
        (Role.ADMIN, Role.VIEWER),
        (Role.ADMIN, Role.OPERATOR),
        (Role.ADMIN, Role.ADMIN),
    ]


async def test_the_documentation_is_there(sqlite_api: Api) -> None:
    schema = (await sqlite_api.client.get("/api/openapi.json")).json()
    assert "/api/workers/register" in schema["paths"]
    assert "patch" in schema["paths"]["/api/workers/{worker_id}/heartbeat"]
    assert (await sqlite_api.client.get("/api/docs")).status_code == 200


async def test_probes_say_how_the_service_is(sqlite_api: Api) -> None:
    assert (await sqlite_api.client.get("/healthz")).json() == {"ok": True}
    before = await sqlite_api.client.get("/readyz")
    assert (before.status_code, before.json()["monitor"]) == (503, False)  # nobody has looked yet
    sqlite_api.service.monitor._look()
    after = await sqlite_api.client.get("/readyz", headers=bearer("anything"))
    assert (after.status_code, after.json()) == (
        200,
        {"ready": True, "database": True, "monitor": True, "degraded": []},
    )
    sqlite_api.service.monitor.stop()
