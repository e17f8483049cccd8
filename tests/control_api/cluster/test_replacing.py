"""A machine that takes the name of another one finds no old node in its way, and no living node is ever deleted."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from control_api.cluster.models import StaleNode
from control_api.cluster.nodes import NodeReport
from control_api.events.models import AuditEntry
from control_api.workers.lifecycle import Node
from tests.control_api.cluster.fakes import FakeCluster, watching
from tests.control_api.world import Api, Clock, bearer, registration

MACHINE, OTHER = "a" * 32, "b" * 32
BOOTS = [str(uuid4()), str(uuid4())]


def in_doubt(api: Api) -> list[str]:
    with api.service.database.reading() as session:
        return list(session.scalars(select(StaleNode.name)))


def deletions(api: Api) -> list[tuple[str, str]]:
    with api.service.database.reading() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "node.delete"))
        return [(entry.actor, entry.subject) for entry in entries]


async def remove(api: Api, worker: dict[str, Any]) -> None:
    answer = await api.client.delete(f"/api/workers/{worker['workerId']}", headers=api.admin())
    assert answer.status_code == 200


async def a_member(api: Api, cluster: FakeCluster, **facts: Any) -> dict[str, Any]:
    """Register a machine that joins: its node is there, and it says so."""
    worker = await api.register(machineId=MACHINE, **facts)
    api.clock.advance(10)
    cluster.has("w1", age=-10)
    await api.beat(worker, nodeReady=True)
    watching(api, cluster).tick()
    assert in_doubt(api) == []
    api.clock.advance(5)
    return worker


async def test_a_machine_with_the_name_of_a_dead_one_finds_its_node_deleted(
    api: Api, cluster: FakeCluster
) -> None:
    cluster.has("w1", Node.NOT_READY)
    worker = await api.register()
    assert cluster.listed == {}
    assert len(cluster.minted) == 1
    assert deletions(api) == [(f"worker:{worker['workerId']}", "node:w1")]
    assert in_doubt(api) == []


async def test_a_node_that_somebody_runs_is_left_alone_until_it_is_dead(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    """As K3s wants it: the new machine is refused until the old one is off, and then gets in by itself."""
    cluster.has("w1")
    worker = await api.register()
    assert list(cluster.listed) == in_doubt(api) == ["w1"]
    clock.advance(5)
    await api.beat(worker, nodeReady=False)
    watching(api, cluster).tick()
    assert list(cluster.listed) == ["w1"]
    cluster.has("w1", Node.NOT_READY)
    clock.advance(40)
    watching(api, cluster).tick()
    assert (cluster.listed, in_doubt(api)) == ({}, [])
    assert deletions(api) == [("monitor", "node:w1")]


async def test_a_machine_that_had_joined_before_it_registered_keeps_its_node(
    api: Api, cluster: FakeCluster
) -> None:
    cluster.has("w1")
    worker = await api.register()
    await api.beat(worker, nodeReady=True)
    watching(api, cluster).tick()
    cluster.has("w1", Node.NOT_READY)
    watching(api, cluster).tick()
    assert (list(cluster.listed), in_doubt(api)) == (["w1"], [])


async def test_a_restart_with_the_credential_keeps_the_node(api: Api, cluster: FakeCluster) -> None:
    worker = await a_member(api, cluster)
    cluster.has("w1", Node.NOT_READY, age=-10)
    api.clock.advance(3600)
    body = registration(machineId=MACHINE, registrationToken=None)
    answer = await api.client.post("/api/workers/register", json=body, headers=bearer(worker["credential"]))
    assert answer.status_code == 200
    watching(api, cluster).tick()
    assert (list(cluster.listed), in_doubt(api)) == (["w1"], [])


@pytest.mark.parametrize(
    ("first_boot", "second_boot", "pause", "goodbye", "goes"),
    [
        (0, 0, 85, False, False),  # heard in this very boot: its node is sick, not old
        (0, None, 85, False, False),
        (None, None, 85, False, False),
        (0, 0, 95, False, True),  # silent
        (0, 1, 85, False, True),  # another boot: what was heard was another life
        (0, 0, 85, True, True),  # it said goodbye
    ],
)
async def test_a_known_machine_that_comes_with_a_token_keeps_its_node_only_while_it_is_heard(
    api: Api,
    cluster: FakeCluster,
    clock: Clock,
    first_boot: int | None,
    second_boot: int | None,
    pause: int,
    goodbye: bool,
    goes: bool,
) -> None:
    boots: list[str | None] = [None if boot is None else BOOTS[boot] for boot in (first_boot, second_boot)]
    worker = await a_member(api, cluster, bootId=boots[0])
    if goodbye:
        headers = bearer(worker["credential"])
        await api.client.post(f"/api/workers/{worker['workerId']}/leave", json={}, headers=headers)
    clock.advance(pause)
    cluster.has("w1", Node.NOT_READY, age=-10)
    again = await api.register(machineId=MACHINE, bootId=boots[1])
    assert again["workerId"] == worker["workerId"]
    assert (cluster.listed == {}) is goes


async def test_a_removed_workers_node_goes_when_its_machine_is_off(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await a_member(api, cluster)
    await remove(api, worker)
    watching(api, cluster).tick()
    assert list(cluster.listed) == ["w1"]  # its kubelet still runs, and would only register it again
    cluster.has("w1", Node.NOT_READY, age=-10)
    clock.advance(40)
    watching(api, cluster).tick()
    assert (cluster.listed, in_doubt(api)) == ({}, [])
    assert deletions(api) == [("monitor", "node:w1")]


async def test_a_removed_workers_name_in_other_hands_is_not_touched_any_more(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    worker = await a_member(api, cluster)
    await remove(api, worker)
    cluster.listed = {}
    clock.advance(60)
    successor = await api.register(machineId=OTHER)
    clock.advance(10)
    cluster.has("w1", age=-80)
    await api.beat(successor, nodeReady=True)
    watching(api, cluster).tick()
    cluster.has("w1", Node.NOT_READY, age=-80)
    clock.advance(60)
    watching(api, cluster).tick()
    assert (list(cluster.listed), in_doubt(api), deletions(api)) == (["w1"], [], [])


async def test_a_node_that_comes_back_at_the_last_moment_is_left_alone(
    api: Api, cluster: FakeCluster, clock: Clock
) -> None:
    cluster.has("w1")
    await api.register()
    cluster.has("w1", Node.NOT_READY)
    really = cluster.nodes

    def late() -> list[NodeReport]:
        reports = really()
        cluster.has("w1")
        return reports

    cluster.nodes = late  # type: ignore[method-assign]
    clock.advance(5)
    watching(api, cluster).tick()
    assert (list(cluster.listed), in_doubt(api), deletions(api)) == (["w1"], ["w1"], [])


async def test_a_cluster_that_is_away_is_asked_again(api: Api, cluster: FakeCluster, clock: Clock) -> None:
    cluster.has("w1", Node.NOT_READY)
    cluster.answers = False
    await api.register()
    assert list(cluster.listed) == in_doubt(api) == ["w1"]
    cluster.answers = True
    clock.advance(5)
    watching(api, cluster).tick()
    assert (cluster.listed, in_doubt(api)) == ({}, [])
