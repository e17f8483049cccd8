"""Approving a worker, rotating and revoking its credential, over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from control_api.events.models import AuditEntry
from control_api.identity.roles import Role
from control_api.workers.models import Worker
from tests.control_api.cluster.fakes import FakeCluster
from tests.control_api.world import TOKEN, Api, Clock, bearer, make_settings, registration, running_api

MACHINE = "0123456789abcdef0123456789abcdef"
K3S_TOKEN = "K10-agent-token-of-the-tests"


async def register(api: Api, token: str, **facts: Any) -> tuple[int, dict[str, Any], str]:
    body = registration(registrationToken=None, machineId=MACHINE, **facts)
    answer = await api.client.post("/api/workers/register", json=body, headers=bearer(token))
    assert answer.status_code in {200, 201}, answer.text
    return answer.status_code, answer.json()["data"], answer.json()["message"]


async def approve(api: Api, worker_id: str, role: Role = Role.OPERATOR) -> tuple[int, dict[str, Any]]:
    answer = await api.client.post(f"/api/workers/{worker_id}/approve", headers=api.as_role(role))
    return answer.status_code, answer.json()


async def rotate(api: Api, worker_id: object, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    answer = await api.client.post(f"/api/workers/{worker_id}/rotate", headers=headers)
    return answer.status_code, answer.json()


async def status(api: Api, worker: dict[str, Any]) -> tuple[str, bool, bool]:
    seen = await api.get(f"/api/workers/{worker['workerId']}")
    return seen["status"], seen["approved"], seen["isSchedulable"]


async def audited(api: Api, action: str) -> list[tuple[str, str, str]]:
    with api.service.database.reading() as session:
        query = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
        return [(entry.actor, entry.subject, entry.outcome.value) for entry in session.scalars(query)]


# ---- approval


async def test_a_worker_that_must_be_approved_gets_no_join_token_before(
    database_url: str, clock: Clock
) -> None:
    cluster = FakeCluster()
    settings = make_settings(database_url, K3S_CLUSTER_TOKEN=K3S_TOKEN)
    async with running_api(settings, clock, cluster) as api:
        token = (await api.token(approvalRequired=True))["token"]
        code, worker, message = await register(api, token)
        assert (code, worker["joinToken"], cluster.minted) == (201, None, {})
        assert message == (
            "Worker registered successfully; an operator must approve it before it gets a join token."
        )
        _, again, _ = await register(api, worker["credential"])
        assert (again["joinToken"], cluster.minted) == (None, {})
        await approve(api, worker["workerId"])
        _, joined, message = await register(api, worker["credential"])
        assert joined["joinToken"].startswith("K10")
        assert message == "Worker registered again"
        assert list(cluster.minted.values()) == [UUID(worker["workerId"])]


async def test_a_worker_that_nobody_approved_stays_pending_whatever_it_does(api: Api, clock: Clock) -> None:
    token = (await api.token(approvalRequired=True))["token"]
    _, worker, _ = await register(api, token)
    for report in ({}, {"nodeReady": True}, {"nodeReady": False}):
        answer = await api.beat(worker, **report)
        assert (answer.status_code, answer.json()["data"]["status"]) == (200, "PENDING")
    await api.client.post(f"/api/workers/{worker['workerId']}/leave", headers=bearer(worker["credential"]))
    assert await status(api, worker) == ("PENDING", False, False)
    clock.advance(86400)  # silence, then a heartbeat: no way around the approval
    api.service.monitor.tick()
    await api.beat(worker)
    api.service.monitor.tick()
    assert await status(api, worker) == ("PENDING", False, False)
    changes = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    assert [(change["to"], change["reason"]) for change in changes] == [
        ("PENDING", "registered, waits for approval")
    ]


async def test_an_approved_worker_becomes_active_as_every_other(api: Api, clock: Clock) -> None:
    _, worker, _ = await register(api, (await api.token(approvalRequired=True))["token"])
    code, answer = await approve(api, worker["workerId"])
    assert (code, answer["message"], answer["data"]["approved"]) == (200, "Worker approved", True)
    assert await status(api, worker) == ("PENDING", True, False)
    await register(api, worker["credential"])
    await api.beat(worker)
    assert await status(api, worker) == ("ACTIVE", True, True)
    assert await audited(api, "worker.approve") == [
        ("user:some-operator", f"worker:{worker['workerId']}", "done")
    ]


async def test_the_operator_who_approves_is_the_actor_of_the_change(api: Api) -> None:
    """A machine without K3s beats while it waits, so the approval itself makes it ACTIVE."""
    _, worker, _ = await register(api, (await api.token(approvalRequired=True))["token"])
    await api.beat(worker)
    await approve(api, worker["workerId"])
    newest = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"][0]
    assert (newest["from"], newest["to"], newest["actor"]) == ("PENDING", "ACTIVE", "user:some-operator")


async def test_approving_twice_changes_nothing_the_second_time(api: Api) -> None:
    worker = await api.register()
    code, answer = await approve(api, worker["workerId"])
    assert (code, answer["message"]) == (200, "This worker was approved already")
    assert await audited(api, "worker.approve") == []


async def test_a_token_that_needs_approval_is_no_way_into_an_approved_worker(api: Api) -> None:
    """The machine id is only what the machine says of itself, so the token's holder is not believed."""
    worker = await api.register(machineId=MACHINE)
    await api.beat(worker)
    _, taken, _ = await register(api, (await api.token(approvalRequired=True))["token"])
    assert (taken["workerId"], taken["joinToken"]) == (worker["workerId"], None)
    assert await status(api, worker) == ("PENDING", False, False)


async def test_a_token_without_that_condition_approves(api: Api) -> None:
    _, worker, _ = await register(api, (await api.token(approvalRequired=True))["token"])
    await register(api, TOKEN)
    assert (await status(api, worker))[1] is True


async def test_only_operators_approve(sqlite_api: Api) -> None:
    _, worker, _ = await register(sqlite_api, (await sqlite_api.token(approvalRequired=True))["token"])
    assert (await approve(sqlite_api, worker["workerId"], Role.VIEWER))[0] == 403
    for headers in ({}, bearer(worker["credential"]), bearer(TOKEN)):
        path = f"/api/workers/{worker['workerId']}/approve"
        assert (await sqlite_api.client.post(path, headers=headers)).status_code == 401
    assert (await status(sqlite_api, worker))[1] is False


async def test_a_worker_that_is_not_there_cannot_be_approved_or_rotated(api: Api) -> None:
    gone = await api.register()
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=api.clock()))
    for worker_id in (str(uuid4()), gone["workerId"]):
        for code, answer in (
            await approve(api, worker_id),
            await rotate(api, worker_id, api.as_role(Role.OPERATOR)),
        ):
            assert (code, answer["error"]["code"]) == (404, "WORKER_NOT_FOUND")


# ---- rotation


async def test_a_worker_rotates_its_own_credential(api: Api) -> None:
    worker = await api.register()
    code, answer = await rotate(api, worker["workerId"], bearer(worker["credential"]))
    assert code == 200
    new = {**worker, "credential": answer["data"]["credential"]}
    assert (await api.beat(worker)).status_code == 401  # the old one is dead
    assert (await api.beat(new)).status_code == 200
    assert await audited(api, "worker.rotate") == [(f"worker:{worker['workerId']}",) * 2 + ("done",)]


async def test_a_rotation_keeps_the_workers_status(api: Api) -> None:
    worker = await api.register()
    await api.beat(worker)
    await rotate(api, worker["workerId"], bearer(worker["credential"]))
    assert (await status(api, worker))[0] == "ACTIVE"


async def test_an_operator_kills_a_credential_and_gets_none(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    code, answer = await rotate(api, worker["workerId"], api.as_role(Role.OPERATOR))
    assert (code, answer["data"]) == (200, {"credential": None})
    assert (await api.beat(worker)).status_code == 401
    body = registration(registrationToken=None, machineId=MACHINE)
    path, headers = "/api/workers/register", bearer(worker["credential"])
    assert (await api.client.post(path, json=body, headers=headers)).status_code == 401
    _, again, _ = await register(api, TOKEN)  # only an enrolment token brings the machine back
    assert again["workerId"] == worker["workerId"]
    assert (await api.beat(again)).status_code == 200
    assert await audited(api, "worker.rotate") == [
        ("user:some-operator", f"worker:{worker['workerId']}", "done")
    ]


async def test_a_worker_that_is_only_expected_has_no_credential_to_lose(api: Api) -> None:
    body = {"hostname": "w1", "ipAddress": "192.0.2.11"}
    expected = (await api.client.post("/api/workers", json=body, headers=api.admin())).json()["data"]
    assert (await rotate(api, expected["id"], api.as_role(Role.OPERATOR)))[0] == 200
    code, worker, _ = await register(api, TOKEN)
    assert (code, worker["workerId"]) == (201, expected["id"])


async def test_a_dead_credential_rotates_nothing(api: Api) -> None:
    worker = await api.register()
    _, answer = await rotate(api, worker["workerId"], bearer(worker["credential"]))
    code, refused = await rotate(api, worker["workerId"], bearer(worker["credential"]))
    assert (code, refused["error"]["code"]) == (401, "INVALID_CREDENTIAL")
    assert (await api.beat({**worker, "credential": answer["data"]["credential"]})).status_code == 200
    assert (await audited(api, "worker.rotate"))[-1][2] == "refused"


async def test_nobody_else_rotates_a_credential(api: Api) -> None:
    one, two = [await api.register(hostname=name) for name in ("one", "two")]
    for headers in ({}, bearer("x"), bearer(TOKEN), bearer(two["credential"])):
        assert (await rotate(api, one["workerId"], headers))[0] == 401
    assert (await rotate(api, one["workerId"], api.as_role(Role.VIEWER)))[0] == 403
    assert (await api.beat(one)).status_code == 200


async def test_the_credential_of_a_removed_worker_is_gone_everywhere(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=api.clock()))
    credential = bearer(worker["credential"])
    leave = await api.client.post(f"/api/workers/{worker['workerId']}/leave", headers=credential)
    body = registration(registrationToken=None, machineId=MACHINE)
    again = await api.client.post("/api/workers/register", json=body, headers=credential)
    codes = [(await api.beat(worker)).status_code, leave.status_code, again.status_code]
    codes.append((await rotate(api, worker["workerId"], credential))[0])
    assert codes == [410, 410, 401, 410]


@pytest.mark.parametrize("verb", ["approve", "rotate"])
async def test_an_id_that_is_none_is_refused_by_its_name(sqlite_api: Api, verb: str) -> None:
    answer = await sqlite_api.client.post(f"/api/workers/x/{verb}", headers=sqlite_api.admin())
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (422, "worker_id")


# ---- why a join has failed

WHY = "K3s refused the join token."


async def tell(api: Api, worker: dict[str, Any], why: object, token: str = "") -> tuple[int, dict[str, Any]]:
    path = f"/api/workers/{worker['workerId']}/join-error"
    headers = bearer(token or worker["credential"])
    answer = await api.client.put(path, json={"joinError": why}, headers=headers)
    return answer.status_code, answer.json()


async def join_error(api: Api, worker: dict[str, Any]) -> str | None:
    why: str | None = (await api.get(f"/api/workers/{worker['workerId']}"))["joinError"]
    return why


async def test_why_a_join_has_failed_stands_beside_the_worker_until_it_registers_again(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    assert await join_error(api, worker) is None
    assert await tell(api, worker, WHY) == (
        200,
        {"success": True, "message": "Noted", "data": {"joinError": WHY}},
    )
    assert await join_error(api, worker) == WHY
    actor = f"worker:{worker['workerId']}"
    assert await audited(api, "worker.join_error") == [(actor, actor, "done")]
    again = await api.register(machineId=MACHINE)
    assert await join_error(api, again) is None


async def test_the_audit_log_tells_why_a_join_has_failed_when_that_changes(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    for why in (WHY, WHY, WHY, "The node's name is taken.", WHY):
        assert (await tell(api, worker, why))[0] == 200
    entries = (await api.get("/api/audit?action=worker.join_error"))["entries"]
    said = [entry["details"]["joinError"] for entry in reversed(entries)]
    assert said == [WHY, "The node's name is taken.", WHY]


async def test_a_worker_that_is_active_has_no_join_error(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    await tell(api, worker, WHY)
    await api.beat(worker, nodeReady=False)
    assert await join_error(api, worker) == WHY
    await api.beat(worker, nodeReady=True)
    assert await join_error(api, worker) is None


async def test_only_the_worker_itself_says_why_it_has_not_joined(api: Api) -> None:
    one = await api.register(machineId=MACHINE)
    other = await api.register(hostname="other", machineId=MACHINE[::-1])
    for token in (other["credential"], one["credential"] + "0", TOKEN):
        assert (await tell(api, one, WHY, token))[0] == 401
    assert await join_error(api, one) is None
    await api.client.delete(f"/api/workers/{one['workerId']}", headers=api.admin())
    assert (await tell(api, one, WHY))[0] == 410


@pytest.mark.parametrize("why", ["", "x" * 501, "two\nlines", "nul\0", 7, None])
async def test_a_join_error_that_is_no_sentence_is_refused(api: Api, why: object) -> None:
    worker = await api.register(machineId=MACHINE)
    code, answer = await tell(api, worker, why)
    assert (code, answer["error"]["details"][0]["field"]) == (422, "joinError")
    assert await join_error(api, worker) is None
