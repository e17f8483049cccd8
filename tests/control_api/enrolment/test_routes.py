"""The enrolment tokens over HTTP: made, shown once, listed, revoked, by administrators only."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from control_api.enrolment import tokens
from control_api.enrolment.models import EnrolmentToken
from control_api.events.models import AuditEntry
from control_api.identity.roles import Role
from tests.control_api.world import INVENTORY_KEY, TOKEN, Api, Clock, bearer

PATH = "/api/enrolment-tokens"


async def test_a_token_is_shown_once_and_stored_as_a_hash(api: Api) -> None:
    made = await api.token()
    secret = made.pop("token")
    assert (tokens.id_of(secret), secret[:4]) == (UUID(made["id"]), "met_")
    assert await api.get(f"{PATH}/{made['id']}") == made
    assert await api.get(PATH) == {"enrolmentTokens": [made], "total": 1, "limit": 100, "offset": 0}
    with api.service.database.reading() as session:
        row = session.scalars(select(EnrolmentToken)).one()
    assert row.digest == tokens.digest(secret)
    assert secret.rsplit("_", 1)[1] not in str(vars(row))


async def test_a_token_has_every_field_of_the_contract(api: Api) -> None:
    made = await api.token(
        "rack-7",
        description="the new rack",
        ttlSeconds=3600,
        maxUses=10,
        cidrs=["192.0.2.0/24", "2001:DB8::/32"],
        labels={"zone": "a", "example.org/tier": ""},
        approvalRequired=True,
        mayReplace=True,
    )
    del made["id"], made["token"]
    assert made == {
        "name": "rack-7",
        "description": "the new rack",
        "status": "ACTIVE",
        "uses": 0,
        "maxUses": 10,
        "cidrs": ["192.0.2.0/24", "2001:db8::/32"],
        "labels": {"zone": "a", "example.org/tier": ""},
        "approvalRequired": True,
        "mayReplace": True,
        "createdBy": "user:some-admin",
        "createdAt": "2026-11-24T12:00:00Z",
        "expiresAt": "2026-11-24T13:00:00Z",
        "lastUsedAt": None,
        "revokedAt": None,
    }


async def test_a_token_lives_for_a_day_unless_told_otherwise(api: Api) -> None:
    assert (await api.token("day"))["expiresAt"] == "2026-11-25T12:00:00Z"
    assert (await api.token("for-ever", ttlSeconds=None))["expiresAt"] is None


async def test_the_list_says_what_became_of_each_token(api: Api, clock: Clock) -> None:
    names = ["fine", "expired", "revoked", "used-up"]
    wanted: dict[str, dict[str, Any]] = {"expired": {"ttlSeconds": 60}, "used-up": {"maxUses": 1}}
    made = {name: await api.token(name, **wanted.get(name, {})) for name in names}
    await api.register(registrationToken=made["used-up"]["token"])
    await api.client.delete(f"{PATH}/{made['revoked']['id']}", headers=api.admin())
    clock.advance(60)
    listed = (await api.get(PATH))["enrolmentTokens"]
    assert {row["name"]: (row["status"], row["uses"], row["lastUsedAt"]) for row in listed} == {
        "fine": ("ACTIVE", 0, None),
        "expired": ("EXPIRED", 0, None),
        "revoked": ("REVOKED", 0, None),
        "used-up": ("USED_UP", 1, "2026-11-24T12:00:00Z"),
    }


async def test_the_newest_token_is_listed_first_and_pages_follow_each_other(api: Api, clock: Clock) -> None:
    for number in range(5):
        await api.token(f"t{number}")
        clock.advance(1)
    pages = [await api.get(f"{PATH}?limit=2&offset={offset}") for offset in (0, 2, 4, 6)]
    assert [[row["name"] for row in page["enrolmentTokens"]] for page in pages] == [
        ["t4", "t3"],
        ["t2", "t1"],
        ["t0"],
        [],
    ]
    assert {page["total"] for page in pages} == {5}


async def test_revoking_twice_changes_nothing_the_second_time(api: Api, clock: Clock) -> None:
    token = await api.token()
    answers = []
    for _ in range(2):
        clock.advance(1)
        answers.append(await api.client.delete(f"{PATH}/{token['id']}", headers=api.admin()))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["data"] == answers[1].json()["data"]
    assert answers[1].json()["data"]["revokedAt"] == "2026-11-24T12:00:01Z"


async def test_a_name_is_free_again_when_its_token_is_revoked(api: Api) -> None:
    token = await api.token("rack-7")
    again = await api.client.post(PATH, json={"name": "rack-7"}, headers=api.admin())
    assert (again.status_code, again.json()["error"]["code"]) == (409, "ENROLMENT_TOKEN_NAME_TAKEN")
    await api.client.delete(f"{PATH}/{token['id']}", headers=api.admin())
    assert (await api.token("rack-7"))["id"] != token["id"]


async def test_of_simultaneous_tokens_with_one_name_one_is_made(api: Api) -> None:
    requests = (api.client.post(PATH, json={"name": "rack-7"}, headers=api.admin()) for _ in range(10))
    statuses = [answer.status_code for answer in await asyncio.gather(*requests)]
    assert sorted(statuses) == [201] + [409] * 9


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_token_that_does_not_exist_is_a_404(api: Api, method: str) -> None:
    answer = await api.client.request(method, f"{PATH}/{uuid4()}", headers=api.admin())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ENROLMENT_TOKEN_NOT_FOUND")


async def test_only_administrators_touch_the_tokens(sqlite_api: Api) -> None:
    worker, token = await sqlite_api.register(), await sqlite_api.token()
    calls = [("POST", PATH, {"name": "x"}), ("GET", PATH, None)]
    calls += [(method, f"{PATH}/{token['id']}", None) for method in ("GET", "DELETE")]
    nobodies = [{}, *map(bearer, ("x", TOKEN, worker["credential"], token["token"]))]
    for method, path, body in calls:
        for headers in nobodies:
            answer = await sqlite_api.client.request(method, path, json=body, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
        others = [sqlite_api.as_role(role) for role in (Role.VIEWER, Role.OPERATOR)]
        for headers in (*others, bearer(INVENTORY_KEY)):
            answer = await sqlite_api.client.request(method, path, json=body, headers=headers)
            assert answer.status_code == 403, (method, path, headers)
    assert (await sqlite_api.get(PATH))["enrolmentTokens"][0]["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "bootstrap"}, "name"),
        ({"name": None}, "name"),
        ({"description": "\x00"}, "description"),
        ({"description": "x" * 201}, "description"),
        ({"ttlSeconds": 59}, "ttlSeconds"),
        ({"ttlSeconds": 365 * 86400 + 1}, "ttlSeconds"),
        ({"ttlSeconds": 1e30}, "ttlSeconds"),
        ({"ttlSeconds": 10**400}, "ttlSeconds"),
        ({"ttlSeconds": True}, "ttlSeconds"),
        ({"ttlSeconds": "3600"}, "ttlSeconds"),
        ({"maxUses": 0}, "maxUses"),
        ({"maxUses": 2**63}, "maxUses"),
        ({"cidrs": ["192.0.2.1/24"]}, "cidrs.0"),
        ({"cidrs": ["192.0.2.1"]}, "cidrs.0"),
        ({"cidrs": ["fe80::%eth0/64"]}, "cidrs.0"),
        ({"cidrs": ["192.0.2.0/33"]}, "cidrs.0"),
        ({"cidrs": ["x"]}, "cidrs.0"),
        ({"cidrs": [7]}, "cidrs.0"),
        ({"cidrs": ["10.0.0.0/8"] * 33}, "cidrs"),
        ({"cidrs": None}, "cidrs"),
        ({"labels": {"a b": "c"}}, "labels.a b.[key]"),
        ({"labels": {"a": "x" * 64}}, "labels.a"),
        ({"labels": {"a": "\x00"}}, "labels.a"),
        ({"labels": {"": ""}}, "labels..[key]"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {f"k{number}": "" for number in range(65)}}, "labels"),
        ({"approvalRequired": "yes"}, "approvalRequired"),
        ({"mayReplace": 1}, "mayReplace"),
        ({"uses": 3}, "uses"),
        ({"token": "chosen"}, "token"),
    ],
)
async def test_a_bad_token_names_its_field_and_stores_nothing(
    sqlite_api: Api, wanted: dict[str, Any], field: str
) -> None:
    body = json.dumps({"name": "fine", **wanted}).encode()  # ASCII: lone surrogates travel as escapes
    headers = {**sqlite_api.admin(), "Content-Type": "application/json"}
    answer = await sqlite_api.client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    with sqlite_api.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(EnrolmentToken)) == 0


async def test_a_network_with_host_bits_is_refused_with_the_one_that_was_meant(sqlite_api: Api) -> None:
    body = {"name": "x", "cidrs": ["192.0.2.7/24"]}
    answer = await sqlite_api.client.post(PATH, json=body, headers=sqlite_api.admin())
    detail = answer.json()["error"]["details"][0]
    assert detail["message"] == "has bits set to the right of its prefix; write 192.0.2.0/24"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "offset=-1", "offset=99999999999999999"]
)
async def test_a_bad_page_names_its_parameter(sqlite_api: Api, query: str) -> None:
    answer = await sqlite_api.client.get(f"{PATH}?{query}", headers=sqlite_api.admin())
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [
        query.split("=", maxsplit=1)[0]
    ]


async def test_making_and_revoking_are_in_the_audit_log_without_the_secret(api: Api) -> None:
    token = await api.token("rack-7", maxUses=3)
    for _ in range(2):
        await api.client.delete(f"{PATH}/{token['id']}", headers=api.admin())
    with api.service.database.reading() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [(e.actor, e.action, e.subject, e.outcome, e.details["id"]) for e in entries] == [
        ("user:some-admin", "enrolment_token.create", "token:rack-7", "done", token["id"]),
        ("user:some-admin", "enrolment_token.revoke", "token:rack-7", "done", token["id"]),
    ]
    assert entries[0].details["maxUses"] == 3
    assert token["token"].rsplit("_", 1)[1] not in str([e.details for e in entries])
