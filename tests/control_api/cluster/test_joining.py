"""Handing join tokens out with a registration, and taking them back when the node is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from control_api.cluster.joining import NodeWatch
from control_api.cluster.kubernetes import JoinToken
from control_api.errors import ClusterUnavailable
from control_api.workers.models import Worker
from tests.control_api.world import Api, Clock, make_settings, running_api

STATIC = "K10aaaa::node:the-agent-token"


class FakeCluster:
    """What stands in for the cluster at the edge of the process."""

    def __init__(self) -> None:
        self.answers = True
        self.minted: dict[str, UUID] = {}
        self.ready: dict[str, bool] = {}

    def _ask(self) -> None:
        if not self.answers:
            raise ClusterUnavailable

    def mint(self, worker_id: UUID, now: datetime) -> JoinToken:
        self._ask()
        token_id = f"tok{len(self.minted):03}"
        self.minted[token_id] = worker_id
        return JoinToken(token_id, f"K10ffff::{token_id}.secret")

    def delete(self, token_id: str) -> None:
        self._ask()
        self.minted.pop(token_id, None)

    def nodes(self) -> dict[str, bool]:
        self._ask()
        return self.ready

    def close(self) -> None:
        pass


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def api(database_url: str, clock: Clock, cluster: FakeCluster) -> AsyncIterator[Api]:
    async with running_api(make_settings(database_url), clock, cluster) as api:
        api.service.monitor.tick()
        yield api
        api.service.monitor.stop()


def watch(api: Api, cluster: FakeCluster) -> NodeWatch:
    return NodeWatch(cluster, api.service.database, leads=lambda: True, clock=api.clock, seconds=5)


async def test_a_registration_carries_a_token_of_its_own(api: Api, cluster: FakeCluster) -> None:
    one, two = [await api.register(hostname=name) for name in ("one", "two")]
    assert (one["joinToken"], two["joinToken"]) == ("K10ffff::tok000.secret", "K10ffff::tok001.secret")
    assert one["masterUrl"] == "https://192.0.2.1:6443"
    assert {token: str(worker) for token, worker in cluster.minted.items()} == {
        "tok000": one["workerId"],
        "tok001": two["workerId"],
    }


async def test_the_token_itself_is_never_stored(api: Api) -> None:
    await api.register()
    with api.service.database.reading() as session:
        columns = {
            str(getattr(session.query(Worker).one(), column.key)) for column in Worker.__table__.columns
        }
    assert not any("secret" in value for value in columns)


async def test_a_ready_node_gives_its_token_back(api: Api, cluster: FakeCluster) -> None:
    worker = await api.register()
    cluster.ready = {"w1": True}
    watch(api, cluster).tick()
    assert list(cluster.minted) == ["tok000"]  # an old Node object says nothing about this registration
    await api.beat(worker, nodeReady=True)
    cluster.ready = {"w1": False}
    watch(api, cluster).tick()
    assert list(cluster.minted) == ["tok000"]
    cluster.ready = {"w1": True}
    watch(api, cluster).tick()
    assert list(cluster.minted) == []
    watch(api, cluster).tick()


async def test_what_k3s_says_is_shown_beside_the_status(api: Api, cluster: FakeCluster, clock: Clock) -> None:
    worker = await api.register()
    path = f"/api/workers/{worker['workerId']}"
    assert (await api.get(path))["nodeState"] is None
    for ready, shown in ((True, "Ready"), (False, "NotReady")):
        cluster.ready = {"w1": ready}
        watch(api, cluster).tick()
        assert (await api.get(path))["nodeState"] == shown
    clock.advance(61)  # old news are no news
    assert (await api.get(path))["nodeState"] is None
    cluster.ready = {}
    watch(api, cluster).tick()
    assert (await api.get(path))["nodeState"] == "Missing"


async def history(api: Api, worker: dict[str, Any]) -> list[tuple[str, str]]:
    found = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    return [(row["to"], row["reason"]) for row in reversed(found)]


async def test_a_worker_is_active_once_both_it_and_k3s_say_ready(api: Api, cluster: FakeCluster) -> None:
    watch(api, cluster).tick()
    worker = await api.register()
    assert (await api.beat(worker, nodeReady=True)).json()["data"]["status"] == "PENDING"
    cluster.ready = {"w1": True}
    watch(api, cluster).tick()
    assert (await api.beat(worker, nodeReady=True)).json()["data"]["status"] == "ACTIVE"
    assert await history(api, worker) == [
        ("PENDING", "registered"),
        ("ACTIVE", "heard, its node is ready, as K3s says too"),
    ]


async def test_either_word_is_enough_to_be_not_ready(api: Api, cluster: FakeCluster, clock: Clock) -> None:
    worker = await api.register()
    await api.beat(worker, nodeReady=True)
    for state in ({"w1": True}, {"w1": False}, {}, {"w1": True}):
        cluster.ready = state
        watch(api, cluster).tick()
        api.service.monitor.tick()
        clock.advance(5)
        await api.beat(worker, nodeReady=True)
    await api.beat(worker, nodeReady=False)
    assert await history(api, worker) == [
        ("PENDING", "registered"),
        ("ACTIVE", "heard, its node is ready"),
        ("NOT_READY", "heard, but K3s says that its node is not ready"),
        ("ACTIVE", "heard, its node is ready, as K3s says too"),
        ("NOT_READY", "heard, but it says that its node is not ready"),
    ]


async def test_without_news_from_k3s_a_workers_own_word_counts(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await api.register()
    cluster.ready = {"w1": False}
    watch(api, cluster).tick()
    assert (await api.beat(worker, nodeReady=True)).json()["data"]["status"] == "NOT_READY"
    clock.advance(60)
    assert (await api.beat(worker, nodeReady=True)).json()["data"]["status"] == "NOT_READY"
    clock.advance(0.001)
    assert (await api.beat(worker, nodeReady=True)).json()["data"]["status"] == "ACTIVE"
    watch(api, cluster).tick()
    assert (await api.beat(worker, nodeReady=True)).json()["data"]["status"] == "NOT_READY"
    assert [reason for _, reason in (await history(api, worker))[-3:]] == [
        "heard, but K3s says that its node is not ready",
        "heard, its node is ready by its own word; K3s does not answer",
        "heard, but K3s says that its node is not ready",
    ]


async def test_a_cluster_that_is_away_does_not_break_registration(api: Api, cluster: FakeCluster) -> None:
    cluster.answers = False
    answer = await api.client.post(
        "/api/workers/register",
        json={
            "hostname": "w1",
            "ipAddress": "192.0.2.1",
            "cpuCores": 1,
            "registrationToken": "registration-token-of-the-tests",
        },
    )
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


async def test_a_node_watch_outlives_a_cluster_that_is_away(api: Api, cluster: FakeCluster) -> None:
    cluster.answers = False
    looks = NodeWatch(cluster, api.service.database, leads=lambda: True, clock=api.clock, seconds=0.01)
    await api.register(hostname="w1")
    looks.start()
    cluster.answers, cluster.ready = True, {"w1": True}
    for _ in range(200):
        if (await api.get("/api/workers"))["workers"][0]["nodeState"] == "Ready":
            break
    looks.stop()
    assert (await api.get("/api/workers"))["workers"][0]["nodeState"] == "Ready"


async def test_nobody_but_the_leader_asks_for_nodes(api: Api, cluster: FakeCluster) -> None:
    asked = []
    cluster.nodes = lambda: asked.append(1) or {}  # type: ignore[func-returns-value,method-assign]
    looks = NodeWatch(cluster, api.service.database, leads=lambda: False, clock=api.clock, seconds=0.001)
    looks.start()
    looks._stop.wait(0.05)
    looks.stop()
    assert asked == []
