"""Reading Kubernetes' JSON, and the fate of a node that may belong to an earlier life of its machine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_api.cluster import nodes
from control_api.cluster.nodes import Fate, NodeReport
from control_api.workers.lifecycle import Node
from tests.control_api.world import START


def node(*, ready: str | None = "True", **status: Any) -> dict[str, Any]:
    pressure = {"type": "MemoryPressure", "status": "True"}
    conditions = [pressure] if ready is None else [pressure, {"type": "Ready", "status": ready}]
    return {
        "metadata": {
            "name": "w1",
            "uid": "u1",
            "resourceVersion": "17",
            "creationTimestamp": "2026-11-24T12:00:00Z",
        },
        "status": {"conditions": conditions, "allocatable": {"pods": "110"}, **status},
    }


def test_a_node_is_read() -> None:
    assert nodes.report(node()) == NodeReport("w1", Node.READY, 110, START, "u1", "17")


@pytest.mark.parametrize("ready", ["False", "Unknown", None])
def test_a_node_is_ready_only_if_its_condition_is_true(ready: str | None) -> None:
    assert nodes.report(node(ready=ready)).state is Node.NOT_READY


@pytest.mark.parametrize("allocatable", [None, {}, {"pods": None}, {"pods": "1k"}, {"pods": "-1"}])
def test_a_node_that_says_nothing_usable_of_its_pods_has_no_capacity(allocatable: Any) -> None:
    assert nodes.report(node(allocatable=allocatable)).pod_capacity is None


def test_a_node_that_has_just_been_made_has_no_status() -> None:
    fresh = node()
    del fresh["status"]
    assert nodes.report(fresh)[1:3] == (Node.NOT_READY, None)


def test_pods_are_counted_by_the_node_column_wherever_it_is() -> None:
    columns = [{"name": name} for name in ("Name", "Status", "Node", "Age")]
    rows = [{"cells": [f"p{number}", "Running", name, "1d"]} for number, name in enumerate("aab")]
    table = {"columnDefinitions": columns, "rows": rows}
    assert nodes.pods_by_node(table) == {"a": 2, "b": 1}
    assert nodes.pods_by_node({**table, "rows": None}) == {}


# fmt: off
FATES = [
    # age at the doubt, state,    joined, fate
    (None, Node.READY,     False, Fate.KEEP),    # no such node
    (None, Node.READY,     True,  Fate.KEEP),
    (60,   Node.READY,     False, Fate.WAIT),    # somebody runs it
    (60,   Node.NOT_READY, False, Fate.REMOVE),  # nobody does, and it stands in the way
    (60,   Node.READY,     True,  Fate.KEEP),    # the worker itself runs it
    (60,   Node.NOT_READY, True,  Fate.KEEP),
    (0,    Node.READY,     False, Fate.KEEP),    # made since: the new machine's own
    (0,    Node.NOT_READY, False, Fate.KEEP),
    (-1,   Node.NOT_READY, False, Fate.KEEP),
]
# fmt: on


@pytest.mark.parametrize(("age", "state", "joined", "fate"), FATES)
def test_only_an_old_node_that_nobody_runs_is_removed(
    age: int | None, state: Node, joined: bool, fate: Fate
) -> None:
    seen = None if age is None else NodeReport("w1", state, 110, START - timedelta(seconds=age), "u", "1")
    assert nodes.fate(seen, before=START, joined=joined) is fate
    assert nodes.fate(seen, before=START + timedelta(milliseconds=999), joined=joined) is fate
