"""An example for every body and every answer of OpenAPI, put together from the examples of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ID = "7034f966-b7f4-4394-b22d-0c8180282204"
TIME = "2030-01-31T18:00:00Z"
# What a field of this name holds, whoever says it; a model or a field that has examples of its own keeps them.
FIELDS: dict[str, Any] = {
    "accessToken": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3MDM0Zjk2NiJ9.c2lnbmF0dXJl",
    "action": "worker.maintenance",
    "actor": "user:ann",
    "addresses": ["192.0.2.11", "192.0.2.12"],
    "agentVersion": "1.0.0",
    "ansibleHost": None,
    "ansiblePort": None,
    "ansibleUser": None,
    "answer": "HTTP 204",
    "approvalRequired": False,
    "architecture": "amd64",
    "attempts": 1,
    "bootId": "3b2d1f0a-52c4-4d0e-9f4e-8a2f6f0c1d7e",
    "by": "user:ann",
    "byStatus": {"PENDING": 0, "ACTIVE": 9, "INACTIVE": 1, "MAINTENANCE": 0, "NOT_READY": 0},
    "capacity": 1100,
    "cidrs": ["192.0.2.0/24"],
    "cpuCores": 8,
    "cpuModel": "AMD EPYC 7302P",
    "cpuUsage": 12.5,
    "createdBy": "user:ann",
    "credential": f"{ID}.1.{'0f' * 32}",
    "current": 230,
    "currentPassword": "correct-horse-battery",
    "currentPods": 23,
    "cursor": 57,
    "degraded": [],
    "description": "the machines of rack 7",
    "disabled": False,
    "disabledReason": None,
    "diskUsage": 40.5,
    "expiresAt": "2030-12-31T18:00:00Z",
    "expiresIn": 900,
    "failingSince": None,
    "from": "ACTIVE",
    "heartbeatAgeSeconds": 12.5,
    "hostname": "w1",
    "intervalSeconds": 30,
    "ipAddress": "192.0.2.11",
    "isRestart": False,
    "joinToken": "K10aa55::abcdef.0123456789abcdef",
    "kernelVersion": "6.1.0-18-amd64",
    "key": "muster_x1S8nB3mQz7kT5rV9wY2aC4dF6gH0jLpN1oI3uE5yXk",
    "kinds": ["worker.transition"],
    "labels": {"zone": "a"},
    "lastUsedAt": None,
    "limit": 100,
    "loadAverage": 1.25,
    "joinError": None,
    "machineId": "9f0c6e1d2b3a4958877665544332211f",
    "maintenance": None,
    "masterUrl": "https://192.0.2.1:6443",
    "maxPods": None,
    "maxUses": 40,
    "mayReplace": False,
    "memoryUsage": 35.5,
    "name": "w1",
    "newPassword": "battery-staple-horse",
    "nextAt": None,
    "nextCursor": None,
    "nextInSeconds": 30,
    "nodeReady": True,
    "nodeState": "Ready",
    "notes": None,
    "observedAddress": "192.0.2.11",
    "offset": 0,
    "operatingSystem": "Debian GNU/Linux 12 (bookworm)",
    "password": "correct-horse-battery",
    "peer": "192.0.2.50",
    "podCapacity": 110,
    "previousSecretUntil": None,
    "refreshToken": "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiI3MDM0Zjk2NiJ9.c2lnbmF0dXJl",
    "registrationToken": f"met_{'7034f966' * 4}_{'0f' * 24}",
    "replay": None,
    "requestId": "0f8fad5bd9cb469fa165708677289501",
    "resumeAt": None,
    "revokedAt": None,
    "role": "operator",
    "scopes": ["enrolment"],
    "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "seq": 41,
    "sshHostKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDx0bWV0aGluZyB0aGF0IGlzIG5vIGtleQ"],
    "state": "delivered",
    "status": "ACTIVE",
    "statuses": ["INACTIVE", "ACTIVE"],
    "subject": f"worker:{ID}",
    "to": "INACTIVE",
    "token": f"met_{'7034f966' * 4}_{'0f' * 24}",
    "totalMemoryBytes": 34359738368,
    "totalStorageBytes": 468000000000,
    "upto": 57,
    "url": "https://hooks.paas.example/muster",
    "username": "ann",
}
OF_TYPE: dict[str, Any] = {"boolean": True, "integer": 1, "number": 1.0, "string": "text", "null": None}
OF_FORMAT: dict[str, Any] = {"uuid": ID, "date-time": TIME}

Schema = dict[str, Any]


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Give an example to every field of that name, and to every body and answer that has none; return the document."""
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        for name, field in schema.get("properties", {}).items():
            if name in FIELDS and not _own(field, schemas):
                field["examples"] = [FIELDS[name]]
    for content in _contents(document):
        if not content.keys() & {"example", "examples"}:
            content["example"] = example(content["schema"], schemas)
    return document


def example(schema: Schema, schemas: dict[str, Schema]) -> Any:
    """Return what fits the schema. schemas: those that it may refer to, by name."""
    if found := _own(schema, schemas):
        return found[0]
    if "$ref" in schema:
        return example(_named(schema, schemas), schemas)
    if schema.get("default") is not None:
        return schema["default"]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    return _of_type(schema, schemas)


def _of_type(schema: Schema, schemas: dict[str, Schema]) -> Any:
    if schema.get("type") == "array":
        return [example(schema["items"], schemas)]
    if schema.get("type") == "object":
        return {name: example(field, schemas) for name, field in _shown(schema, schemas)}
    return OF_FORMAT.get(schema.get("format", ""), OF_TYPE[schema["type"]])


def _shown(schema: Schema, schemas: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Yield the fields that must be there, or of which it is known what they hold."""
    for name, field in schema.get("properties", {}).items():
        if name in schema.get("required", []) or field.get("default") is not None or _own(field, schemas):
            yield name, field


def _own(schema: Schema, schemas: dict[str, Schema]) -> list[Any]:
    found: list[Any] = schema.get("examples", [])
    if "$ref" in schema and not found:
        return _own(_named(schema, schemas), schemas)
    return found


def _named(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    return schemas[schema["$ref"].rpartition("/")[2]]


def _contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
                yield from holder.get("content", {}).values()
