"""Handing join tokens out with a registration, and taking them back."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from control_api.cluster.models import JoinToken
from control_api.cluster.tokens import BootstrapToken
from control_api.errors import ClusterUnavailable
from control_api.events.models import AuditEntry
from control_api.workers.lifecycle import Node
from control_api.workers.models import Worker
from tests.control_api.cluster.fakes import FakeCluster, watching
from tests.control_api.world import Api, Clock, make_settings, registration, running_api

STATIC = "K10aaaa::node:the-agent-token"


def out(api: Api) -> dict[str, str]:
    """Return the join tokens that the database knows of, with their workers."""
    with api.service.database.reading() as session:
        rows = session.execute(select(JoinToken.id, JoinToken.worker_id))
        return {token_id: str(worker_id) for token_id, worker_id in rows}


def audited(api: Api) -> list[tuple[str, str, str, str | None]]:
    with api.service.database.reading() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        return [(entry.actor, entry.action, entry.subject, entry.details.get("worker")) for entry in entries]


async def test_a_registration_carries_a_token_of_its_own(api: Api, cluster: FakeCluster) -> None:
    one, two = [await api.register(hostname=name) for name in ("one", "two")]
    assert re.fullmatch(r"K10ffff::[a-z0-9]{6}\.[a-z0-9]{16}", one["joinToken"])
    assert one["joinToken"] != two["joinToken"]
    assert one["masterUrl"] == "https://192.0.2.1:6443"
    minted = {token_id: str(worker) for token_id, worker in cluster.minted.items()}
    assert sorted(minted.values()) == sorted([one["workerId"], two["workerId"]])
    assert out(api) == minted


async def test_what_is_minted_and_deleted_is_in_the_audit_log(api: Api, cluster: FakeCluster) -> None:
    worker = await api.register()
    (token_id,) = cluster.minted
    await api.beat(worker, nodeReady=True)
    cluster.has("w1")
    watching(api, cluster).tick()
    of = f"worker:{worker['workerId']}"
    ours = [entry for entry in audited(api) if entry[1].startswith("join_token")]
    assert ours == [
        (of, "join_token.create", f"join-token:{token_id}", worker["workerId"]),
        ("monitor", "join_token.delete", f"join-token:{token_id}", worker["workerId"]),
    ]


async def test_the_token_itself_is_never_stored(api: Api) -> None:
    secret = (await api.register())["joinToken"].partition(".")[2]
    with api.service.database.reading() as session:
        rows = [*session.scalars(select(Worker)), *session.scalars(select(JoinToken))]
        rows += session.scalars(select(AuditEntry))
        values = [str(getattr(row, column.key)) for row in rows for column in type(row).__table__.columns]
    assert len(values) > 30
    assert not any(secret in value for value in values)


async def test_a_ready_node_gives_its_token_back(api: Api, cluster: FakeCluster) -> None:
    worker = await api.register()
    cluster.has("w1")
    watching(api, cluster).tick()
    assert len(cluster.minted) == 1  # an old Node object says nothing about this registration
    await api.beat(worker, nodeReady=True)
    cluster.has("w1", Node.NOT_READY)
    watching(api, cluster).tick()
    assert len(cluster.minted) == 1
    cluster.has("w1")
    watching(api, cluster).tick()
    assert (cluster.minted, out(api)) == ({}, {})


async def test_every_token_of_a_worker_that_registered_often_is_deleted(
    api: Api, cluster: FakeCluster
) -> None:
    for _ in range(3):
        worker = await api.register(machineId="0" * 32)
    assert len(cluster.minted) == 3
    await api.beat(worker, nodeReady=True)
    cluster.has("w1")
    watching(api, cluster).tick()
    assert (cluster.minted, out(api)) == ({}, {})


async def test_an_expired_token_is_deleted(api: Api, cluster: FakeCluster, clock: Clock) -> None:
    await api.register()
    clock.advance(599)
    watching(api, cluster).tick()
    assert len(cluster.minted) == 1
    clock.advance(1)
    watching(api, cluster).tick()
    assert (cluster.minted, out(api)) == ({}, {})


async def test_a_removed_workers_token_is_deleted(api: Api, cluster: FakeCluster) -> None:
    worker = await api.register()
    await api.client.delete(f"/api/workers/{worker['workerId']}", headers=api.admin())
    watching(api, cluster).tick()
    assert (cluster.minted, out(api)) == ({}, {})


async def test_a_token_that_was_not_made_after_all_is_forgotten(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    """The id is written down before the Secret is made: a crash or a lost answer leaves nothing behind."""
    made: dict[str, UUID] = {}

    def lost_answer(token: BootstrapToken, worker_id: UUID, now: object) -> str:
        made[token.id] = worker_id
        raise ClusterUnavailable

    cluster.mint = lost_answer  # type: ignore[method-assign]
    await api.client.post("/api/workers/register", json=registration())
    assert list(out(api)) == list(made)
    cluster.minted = made
    clock.advance(timedelta(minutes=10).total_seconds())
    watching(api, cluster).tick()
    assert (made, out(api)) == ({}, {})


async def test_tokens_stay_on_the_list_until_the_cluster_has_deleted_them(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    await api.register()
    clock.advance(600)
    delete = cluster.delete

    def refuse(token_id: str) -> None:
        raise ClusterUnavailable

    cluster.delete = refuse  # type: ignore[method-assign]
    with pytest.raises(ClusterUnavailable):
        watching(api, cluster).tick()
    assert len(out(api)) == 1
    cluster.delete = delete  # type: ignore[method-assign]
    watching(api, cluster).tick()
    assert out(api) == {}


async def test_a_cluster_that_is_away_does_not_break_registration(api: Api, cluster: FakeCluster) -> None:
    cluster.answers = False
    answer = await api.client.post("/api/workers/register", json=registration())
    assert answer.status_code == 201
    assert answer.json()["data"]["joinToken"] is None
    assert "the cluster does not answer" in answer.json()["message"]


async def test_without_a_cluster_the_agent_token_is_handed_out(sqlite_url: str, clock: Clock) -> None:
    async with running_api(make_settings(sqlite_url, K3S_CLUSTER_TOKEN=STATIC), clock) as api:
        assert (await api.register())["joinToken"] == STATIC


async def test_with_a_cluster_that_is_away_the_agent_token_is_handed_out(
    sqlite_url: str, clock: Clock, cluster: FakeCluster
) -> None:
    cluster.answers = False
    async with running_api(make_settings(sqlite_url, K3S_CLUSTER_TOKEN=STATIC), clock, cluster) as api:
        assert (await api.register())["joinToken"] == STATIC
