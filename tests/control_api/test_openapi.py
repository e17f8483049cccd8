"""The OpenAPI document: every answer has its status, and whatever is said or answered has an example that is true."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest

from control_api import errors, examples, http
from control_api.app import create_app
from control_api.errors import MusterError
from tests.control_api.test_http import everything
from tests.control_api.world import Api, bearer, make_settings, registration

JSON = "application/json"
Document = dict[str, Any]
KNOWN = {(status, code) for status, (code, _) in http.PLAIN.items()} | {
    (http.failure(kind())[0], errors.code(kind)) for kind in everything(MusterError)
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    file = tmp_path_factory.mktemp("openapi") / "muster.db"
    described: Document = create_app(make_settings(f"sqlite:///{file}")).app.openapi()  # type: ignore[attr-defined]
    return described


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def bodies(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and content of everything that has a body."""
    for method, path, operation in operations(document):
        if "requestBody" in operation:
            yield method, path, operation["requestBody"]["content"][JSON]


def answers(document: Document) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield operation, status, media type and content of everything that is answered with a body."""
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            for kind, content in answer.get("content", {}).items():
                yield f"{method} {path}", status, kind, content


def shown(content: dict[str, Any]) -> list[Any]:
    """Return the examples of a content."""
    named = [example["value"] for example in content.get("examples", {}).values()]
    return named + ([content["example"]] if "example" in content else [])


def leaves(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        yield value
    for one in inner or ():
        yield from leaves(one)


def test_no_operation_documents_a_range_of_statuses(document: Document) -> None:
    found = {status for _, _, operation in operations(document) for status in operation["responses"]}
    assert {status for status in found if not status.isdigit()} == set()


def test_every_body_and_every_answer_has_an_example(document: Document) -> None:
    bare = [f"{method} {path}" for method, path, content in bodies(document) if not shown(content)]
    bare += [
        f"{operation} {status} {kind}"
        for operation, status, kind, content in answers(document)
        if not shown(content)
    ]
    assert bare == []


def test_every_example_fits_its_schema(document: Document) -> None:
    contents = [content for _, _, content in bodies(document)] + [
        content for *_, content in answers(document)
    ]
    for content in contents:
        validator = jsonschema_rs.validator_for({**content["schema"], "components": document["components"]})
        for example in shown(content):
            validator.validate(example)


def test_what_a_field_holds_is_known_wherever_the_type_alone_does_not_say_it(document: Document) -> None:
    contents = [content for _, _, content in bodies(document)] + [
        content for *_, content in answers(document)
    ]
    assert examples.OF_TYPE["string"] not in [
        leaf for content in contents for example in shown(content) for leaf in leaves(example)
    ]
    used = {
        name for schema in document["components"]["schemas"].values() for name in schema.get("properties", {})
    }
    assert set(examples.FIELDS) - used == set()


def test_every_example_of_a_failure_is_one_that_the_service_has(document: Document) -> None:
    documented = {
        (int(status), example["error"]["code"])
        for _, status, _, content in answers(document)
        for example in shown(content)
        if isinstance(example, dict) and example.get("success") is False
    }
    assert documented - KNOWN == set()
    assert len(documented) > 25


@pytest.mark.parametrize(
    ("operation", "status", "codes"),
    [
        ("post /api/workers", "409", {"HOSTNAME_TAKEN", "NAME_TAKEN"}),
        ("patch /api/workers/{worker_id}", "409", {"NAME_TAKEN"}),
        ("post /api/workers/register", "409", {"HOSTNAME_TAKEN", "NAME_TAKEN", "MACHINE_ID_TAKEN"}),
        ("post /api/workers/register", "401", {"INVALID_REGISTRATION_TOKEN", "INVALID_CREDENTIAL"}),
        ("post /api/auth/login", "401", {"INVALID_LOGIN"}),
        ("post /api/users", "409", {"USERNAME_TAKEN"}),
        ("delete /api/users/{user_id}", "409", {"LAST_ADMIN"}),
        ("post /api/api-keys", "409", {"KEY_NAME_TAKEN"}),
        ("get /api/events", "503", {"DATABASE_UNAVAILABLE", "OVERLOADED"}),
    ],
)
def test_an_operation_documents_the_failures_that_it_answers(
    document: Document, operation: str, status: str, codes: set[str]
) -> None:
    (content,) = (
        content
        for named, answered, _, content in answers(document)
        if (named, answered) == (operation, status)
    )
    assert set(content["examples"]) == codes


async def test_the_service_accepts_every_example_of_a_body(sqlite_api: Api, document: Document) -> None:
    sqlite_api.clock.now = datetime.fromisoformat(examples.TIME) - timedelta(days=1)
    worker = await sqlite_api.register()
    for method, path, content in bodies(document):
        if path == "/api/auth/password":
            continue  # the current one is known to its owner alone
        url = path.replace("{worker_id}", worker["workerId"])
        for name in ("user_id", "webhook_id"):
            url = url.replace(f"{{{name}}}", str(uuid4()))
        headers = bearer(worker["credential"]) if path.endswith("/heartbeat") else sqlite_api.admin()
        answer = await sqlite_api.client.request(
            method.upper(), url, json=content["example"], headers=headers
        )
        assert answer.status_code not in {400, 422}, (method, path, answer.text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostname", "w1"),
        ("hostname", "w1.rack-7.example"),
        ("hostname", "a" * 63),
        ("hostname", "a" * 64),
        ("hostname", ".".join(["a" * 63] * 4)[:253]),
        ("hostname", ".".join(["a" * 63] * 4)[:254]),
        ("hostname", "W1"),
        ("hostname", "-w1"),
        ("hostname", "w1\n"),
        ("hostname", ""),
        ("ipAddress", "192.0.2.11"),
        ("ipAddress", "2001:db8::1"),
        ("ipAddress", "192.0.2.256"),
        ("ipAddress", "w1"),
    ],
)
async def test_the_form_of_a_name_and_of_an_address_is_documented_as_it_is_checked(
    sqlite_api: Api, document: Document, field: str, value: str
) -> None:
    body = registration(**{field: value})
    answer = await sqlite_api.client.post("/api/workers/register", json=body)
    reference = {"$ref": "#/components/schemas/Registration", "components": document["components"]}
    assert answer.status_code == (
        201 if jsonschema_rs.is_valid(reference, body, validate_formats=True) else 422
    )


async def test_a_heartbeat_may_come_without_a_body_and_is_documented_so(
    sqlite_api: Api, document: Document
) -> None:
    worker = await sqlite_api.register()
    headers = bearer(worker["credential"])
    answer = await sqlite_api.client.patch(worker["heartbeat"]["url"], headers=headers)
    body = document["paths"]["/api/workers/{worker_id}/heartbeat"]["patch"]["requestBody"]
    assert (answer.status_code, body.get("required", False)) == (200, False)
