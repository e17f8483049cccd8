"""What K3s says is read once a look for all nodes, and decides with the workers' own word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from control_api.cluster.watching import NodeWatch
from control_api.errors import ClusterUnavailable
from control_api.workers.lifecycle import Node
from control_api.workers.models import Watch
from tests.control_api.cluster.fakes import FakeCluster, watching
from tests.control_api.world import Api, Clock, make_settings, running_api


async def shown(api: Api, worker: dict[str, Any], *fields: str) -> Any:
    found = await api.get(f"/api/workers/{worker['workerId']}")
    values = tuple(found[field] for field in fields)
    return values if len(values) > 1 else values[0]


async def history(api: Api, worker: dict[str, Any]) -> list[tuple[str, str]]:
    found = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    return [(row["to"], row["reason"]) for row in reversed(found)]


async def status_after_beat(api: Api, worker: dict[str, Any], *, ready: bool = True) -> Any:
    return (await api.beat(worker, nodeReady=ready)).json()["data"]["status"]


async def test_what_k3s_says_is_shown_beside_the_status(api: Api, cluster: FakeCluster, clock: Clock) -> None:
    worker = await api.register()
    assert await shown(api, worker, "nodeState") is None
    for state in (Node.READY, Node.NOT_READY):
        cluster.has("w1", state)
        clock.advance(5)
        watching(api, cluster).tick()
        assert await shown(api, worker, "nodeState") == state
    clock.advance(61)  # old news are no news
    assert await shown(api, worker, "nodeState") is None
    cluster.listed = {}
    watching(api, cluster).tick()
    assert await shown(api, worker, "nodeState") == "Missing"


async def test_a_worker_is_active_once_both_it_and_k3s_say_ready(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    watching(api, cluster).tick()
    worker = await api.register()
    assert await status_after_beat(api, worker) == "PENDING"
    cluster.has("w1")
    clock.advance(5)
    watching(api, cluster).tick()
    assert await history(api, worker) == [
        ("PENDING", "registered"),
        ("ACTIVE", "heard, its node is ready, as K3s says too"),
    ]
    assert await status_after_beat(api, worker) == "ACTIVE"


async def test_either_word_is_enough_to_be_not_ready(api: Api, cluster: FakeCluster, clock: Clock) -> None:
    worker = await api.register()
    await api.beat(worker, nodeReady=True)
    for state in (Node.READY, Node.NOT_READY, None, Node.READY):
        cluster.listed = {}
        if state is not None:
            cluster.has("w1", state)
        clock.advance(5)
        watching(api, cluster).tick()
        await api.beat(worker, nodeReady=True)
    await api.beat(worker, nodeReady=False)
    assert await history(api, worker) == [
        ("PENDING", "registered"),
        ("ACTIVE", "heard, its node is ready"),
        ("NOT_READY", "heard, but K3s says that its node is not ready"),
        ("ACTIVE", "heard, its node is ready, as K3s says too"),
        ("NOT_READY", "heard, but it says that its node is not ready"),
    ]


async def test_a_node_that_vanishes_makes_its_worker_not_ready(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await api.register()
    await api.beat(worker, nodeReady=True)
    cluster.has("w1")
    watching(api, cluster).tick()
    cluster.listed = {}
    clock.advance(5)
    watching(api, cluster).tick()
    assert (await history(api, worker))[-1] == ("NOT_READY", "heard, but K3s has no node of its name")
    last = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"][0]
    assert last["evidence"]["nodeState"] == "Missing"
    assert last["evidence"]["nodeReady"] is True
    assert last["evidence"]["nodesSeenAt"] == clock().isoformat()


async def test_a_worker_that_never_joined_stays_pending_without_a_node(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await api.register()
    for _ in range(3):
        clock.advance(5)
        watching(api, cluster).tick()
        assert await status_after_beat(api, worker, ready=False) == "PENDING"
    assert await shown(api, worker, "status", "nodeState") == ("PENDING", "Missing")


async def test_without_news_from_k3s_a_workers_own_word_counts_and_the_stats_say_so(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await api.register()
    cluster.has("w1", Node.NOT_READY)
    looks = watching(api, cluster)
    looks.look()
    first = clock()
    assert await status_after_beat(api, worker) == "NOT_READY"
    cluster.answers = False
    clock.advance(60)
    looks.look()
    assert await status_after_beat(api, worker) == "NOT_READY"
    clock.advance(0.001)
    looks.look()
    assert await status_after_beat(api, worker) == "ACTIVE"
    stats = await api.get("/api/workers/stats")
    assert stats["cluster"] == {
        "isConfigured": True,
        "answers": False,
        "seenAt": first.isoformat().replace("+00:00", "Z"),
    }
    assert (await api.client.get("/readyz")).json()["degraded"] == ["cluster"]
    cluster.answers = True
    looks.look()
    assert await status_after_beat(api, worker) == "NOT_READY"
    assert [reason for _, reason in (await history(api, worker))[-3:]] == [
        "heard, but K3s says that its node is not ready",
        "heard, its node is ready by its own word; K3s does not answer",
        "heard, but K3s says that its node is not ready",
    ]
    assert (await api.get("/api/workers/stats"))["cluster"]["answers"] is True
    assert (await api.client.get("/readyz")).json()["degraded"] == []


async def test_a_cluster_that_never_answered_is_told_too(api: Api, cluster: FakeCluster) -> None:
    cluster.answers = False
    watching(api, cluster).look()
    worker = await api.register()
    assert await status_after_beat(api, worker) == "ACTIVE"
    said = (await api.get("/api/workers/stats"))["cluster"]
    assert said == {"isConfigured": True, "answers": False, "seenAt": None}
    assert (await api.client.get("/readyz")).json()["degraded"] == ["cluster"]


async def test_without_a_cluster_nothing_is_missing(sqlite_url: str, clock: Clock) -> None:
    async with running_api(make_settings(sqlite_url), clock) as api:
        said = (await api.get("/api/workers/stats"))["cluster"]
        assert said == {"isConfigured": False, "answers": False, "seenAt": None}
        assert "cluster" not in (await api.client.get("/readyz")).json()["degraded"]


async def test_pods_are_counted_by_k3s_and_by_the_worker_where_k3s_does_not(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    one, two = [await api.register(hostname=name) for name in ("one", "two")]
    for worker, pods in ((one, 3), (two, 5)):
        await api.beat(worker, currentPods=pods)
    assert (await api.get("/api/workers/stats"))["pods"] == {"current": 8, "capacity": 220}
    cluster.has("one", pods=110)
    cluster.has("two", pods=250)
    cluster.running = {"one": 17, "master": 9}
    watching(api, cluster).tick()
    assert await shown(api, one, "currentPods", "podCapacity") == (17, 110)
    assert await shown(api, two, "currentPods", "podCapacity") == (0, 250)
    assert (await api.get("/api/workers/stats"))["pods"] == {"current": 17, "capacity": 360}
    cluster.counts_pods = False
    clock.advance(5)
    watching(api, cluster).tick()
    assert await shown(api, one, "nodeState", "currentPods", "podCapacity") == ("Ready", 3, 110)
    clock.advance(61)
    assert await shown(api, two, "currentPods", "podCapacity") == (5, None)


async def test_a_look_asks_for_all_nodes_at_once(api: Api, cluster: FakeCluster) -> None:
    for number in range(20):
        worker = await api.register(hostname=f"w{number}")
        await api.beat(worker)
        cluster.has(f"w{number}")
    cluster.minted, cluster.asked = {}, 0
    with api.service.database.transaction() as session:
        session.execute(select(Watch))
    watching(api, cluster).tick()  # and deletes twenty join tokens
    assert cluster.asked == 2 + 20
    cluster.asked = 0
    watching(api, cluster).tick()
    assert cluster.asked == 2


async def test_news_that_are_older_than_what_is_stored_change_nothing(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    """A leader that was suspended in the middle of a look wakes up with an old list."""
    worker = await api.register()
    cluster.has("w1")

    def slow() -> Any:
        reports = list(cluster.listed.values())
        cluster.nodes = quick  # type: ignore[method-assign]
        clock.advance(300)
        cluster.has("w1", Node.NOT_READY)
        watching(api, cluster).tick()
        return reports

    quick, cluster.nodes = cluster.nodes, slow  # type: ignore[method-assign]
    watching(api, cluster).tick()
    assert await shown(api, worker, "nodeState") == "NotReady"


async def test_news_from_the_future_are_forgotten_when_the_clock_is_set_back(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await api.register()
    cluster.has("w1")
    watching(api, cluster).tick()
    clock.jump(-3600)
    api.service.monitor.tick()
    assert await shown(api, worker, "nodeState") is None
    watching(api, cluster).tick()
    assert await shown(api, worker, "nodeState") == "Ready"


async def eventually(happens: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happens():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happens")


async def test_the_watch_outlives_a_cluster_that_is_away(api: Api, cluster: FakeCluster) -> None:
    worker = await api.register()
    cluster.answers = False
    looks = NodeWatch(
        cluster,
        api.service.database,
        rules=api.service.settings.rules,
        leads=lambda: True,
        clock=api.clock,
        seconds=0.01,
    )
    looks.start()
    await eventually(lambda: cluster.asked >= 3)
    cluster.has("w1")
    cluster.answers = True
    for _ in range(500):
        if await shown(api, worker, "nodeState") == "Ready":
            break
        await asyncio.sleep(0.01)
    looks.stop()
    assert await shown(api, worker, "nodeState") == "Ready"


async def test_nobody_but_the_leader_asks_but_everybody_knows_whether_there_are_news(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    follower = watching(api, cluster, leads=False)
    follower.look()
    assert (cluster.asked, api.service.degraded.names()) == (0, ["cluster"])
    watching(api, cluster).tick()
    follower.look()
    assert (cluster.asked, api.service.degraded.names()) == (2, [])
    clock.advance(61)
    follower.look()
    assert (cluster.asked, api.service.degraded.names()) == (2, ["cluster"])


async def test_a_tick_that_is_not_answered_says_so(api: Api, cluster: FakeCluster) -> None:
    cluster.answers = False
    with pytest.raises(ClusterUnavailable):
        watching(api, cluster).tick()
