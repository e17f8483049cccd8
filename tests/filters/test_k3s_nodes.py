"""Which labels and taints an inventory may declare, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from filter_plugins.k3s_nodes import FilterModule, declared_nodes, obstacles


@pytest.mark.parametrize(
    "labels",
    [
        {},
        None,
        {"disk": "ssd", "example.org/zone": "a", "node-role.kubernetes.io/edge": ""},
        {"A" * 63: "B" * 63, "a.b.c/x_y.z": "1.0"},
        {"rack": 7, "spot": True},
    ],
)
def test_labels_by_the_rules_of_kubernetes_are_taken(labels: Any) -> None:
    assert obstacles(labels) == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a=b"], "cluster_k3s_labels must be a dictionary"),
        ({"a b": "c"}, "cluster_k3s_labels has the key 'a b': a key has at most 63 letters"),
        ({"": "c"}, "cluster_k3s_labels has the key ''"),
        ({7: "c"}, "cluster_k3s_labels has the key '7'"),
        ({"A" * 64: "c"}, f"cluster_k3s_labels has the key '{'A' * 64}'"),
        ({"a\n": "c"}, "cluster_k3s_labels has the key 'a\n'"),
        ({"-a": "c"}, "cluster_k3s_labels has the key '-a'"),
        ({"Example.org/a": "c"}, "cluster_k3s_labels has the key 'Example.org/a'"),
        ({"/a": "c"}, "cluster_k3s_labels has the key '/a'"),
        ({"a/b/c": "c"}, "cluster_k3s_labels has the key 'a/b/c'"),
        ({"a.b/": "c"}, "cluster_k3s_labels has the key 'a.b/'"),
        ({f"{'a' * 254}/b": "c"}, "cluster_k3s_labels has the key 'aaa"),
        ({"a": "b c"}, "cluster_k3s_labels has under 'a' the value 'b c': a label's value has at most 63"),
        ({"a": "b" * 64}, "cluster_k3s_labels has under 'a' the value 'bbb"),
        ({"a": "b\n"}, "cluster_k3s_labels has under 'a' the value 'b\n'"),
        ({"a": 1.10}, "cluster_k3s_labels has under 'a' what is no text: write it in quotes."),
        ({"a": None}, "cluster_k3s_labels has under 'a' what is no text: write it in quotes."),
        ({"kubernetes.io/hostname": "x"}, "has the key 'kubernetes.io/hostname', which K3s itself sets."),
    ],
)
def test_a_bad_label_is_refused_in_one_sentence(labels: Any, said: str) -> None:
    (sentence,) = obstacles(labels)
    assert said in sentence


@pytest.mark.parametrize(
    ("taints", "said"),
    [
        ("a=b:NoSchedule", "cluster_k3s_taints must be a list of key=value:Effect."),
        ({"a": "b"}, "cluster_k3s_taints must be a list"),
        (7, "cluster_k3s_taints must be a list"),
        (
            ["a=b"],
            "cluster_k3s_taints has 'a=b': key=value:Effect is needed, Effect one of NoSchedule, Prefer",
        ),
        (["a=b:noschedule"], "cluster_k3s_taints has 'a=b:noschedule': key=value:Effect is needed"),
        ([{"key": "a"}], "key=value:Effect is needed"),
        (["=b:NoSchedule"], "cluster_k3s_taints has '=b:NoSchedule': a key has at most"),
        (["a=b c:NoSchedule"], "cluster_k3s_taints has 'a=b c:NoSchedule': a label's value"),
        (["node.kubernetes.io/unreachable:NoExecute"], "which K3s itself sets and removes."),
        (
            ["a=b:NoSchedule", "a=c:NoSchedule"],
            "cluster_k3s_taints has 'a' twice with the effect NoSchedule.",
        ),
    ],
)
def test_a_bad_taint_is_refused_in_one_sentence(taints: Any, said: str) -> None:
    (sentence,) = obstacles({}, taints)
    assert said in sentence


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert len(obstacles({"a b": "c d"}, ["a", "b"])) == 4


def test_two_effects_of_one_key_are_two_taints() -> None:
    assert obstacles({}, ["a:NoSchedule", "a:NoExecute"]) == []


def test_declarations_are_known_by_the_names_of_the_nodes_and_are_text() -> None:
    hosts: list[dict[str, Any]] = [
        {
            "ansible_facts": {"hostname": "W1", "nodename": "W1.example.org"},
            "cluster_k3s_labels": {"rack": 7, "spot": True, "edge": ""},
            "cluster_k3s_taints": ["gpu=yes:NoSchedule", "slow:NoExecute"],
        },
        {"ansible_facts": {"hostname": "w2", "nodename": "w2"}, "cluster_k3s_labels": None},
    ]
    assert declared_nodes(hosts) == {
        "w1.example.org": {
            "labels": {"rack": "7", "spot": "true", "edge": ""},
            "taints": [
                {"key": "gpu", "effect": "NoSchedule", "value": "yes"},
                {"key": "slow", "effect": "NoExecute"},
            ],
        },
        "w2": {"labels": {}, "taints": []},
    }


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {"k3s_declared_nodes", "k3s_node_obstacles"}
