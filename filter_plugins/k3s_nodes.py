"""Pure filters for the labels and taints of nodes: what the inventory declares, and Kubernetes' rules for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

# kubernetes.io/docs/concepts/overview/working-with-objects/labels: syntax and character set
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LONGEST_PREFIX = 253
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
# What a kubelet or a K3s server writes again and again by itself.
LABELS_OF_K3S = {
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/etcd",
    "node-role.kubernetes.io/master",
}
TAINTS_OF_K3S = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
A_LABEL = "a label's value has at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end"
A_KEY = (
    "a key has at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end, and before it "
    "perhaps a domain in lower case and '/'"
)


def declared_nodes(hosts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The labels and taints of nodes, by name; the inputs must be without obstacles.

    In: the variables of hosts, with facts. Taken are `cluster_k3s_labels` and `cluster_k3s_taints`.
    """
    return {
        host["ansible_facts"]["nodename"].lower(): {
            "labels": {key: text(value) for key, value in (host.get("cluster_k3s_labels") or {}).items()},
            "taints": [taint(entry) for entry in host.get("cluster_k3s_taints") or []],
        }
        for host in hosts
    }


def obstacles(labels: Any, taints: Any = ()) -> list[str]:
    """What Kubernetes would refuse, or undo, a sentence each; [] when nothing is wrong."""
    return [*_label_obstacles(labels or {}), *_taint_obstacles(taints or [])]


def text(value: Any) -> str:
    """A label's value as Kubernetes keeps it: YAML reads true and 1 as something else."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def taint(entry: str) -> dict[str, str]:
    """key=value:Effect or key:Effect, taken apart."""
    pair, _, effect = str(entry).rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _label_obstacles(labels: Any) -> Iterator[str]:
    if not isinstance(labels, Mapping):
        yield "cluster_k3s_labels must be a dictionary of keys and values."
        return
    for key, value in labels.items():
        if not is_key(key):
            yield f"cluster_k3s_labels has the key '{key}': {A_KEY}."
        elif key in LABELS_OF_K3S:
            yield f"cluster_k3s_labels has the key '{key}', which K3s itself sets."
        if not isinstance(value, str | bool | int):
            yield f"cluster_k3s_labels has under '{key}' what is no text: write it in quotes."
        elif not is_value(text(value)):
            yield f"cluster_k3s_labels has under '{key}' the value '{value}': {A_LABEL}."


def _taint_obstacles(taints: Any) -> Iterator[str]:
    if isinstance(taints, str | Mapping) or not isinstance(taints, Iterable):
        yield "cluster_k3s_taints must be a list of key=value:Effect."
        return
    seen = set()
    for entry in taints:
        found = taint(entry)
        identity = (found["key"], found["effect"])
        if found["effect"] not in EFFECTS:
            yield f"cluster_k3s_taints has '{entry}': key=value:Effect is needed, Effect one of {', '.join(EFFECTS)}."
        elif not is_key(found["key"]):
            yield f"cluster_k3s_taints has '{entry}': {A_KEY}."
        elif not is_value(found.get("value", "")):
            yield f"cluster_k3s_taints has '{entry}': {A_LABEL}."
        elif found["key"].startswith(TAINTS_OF_K3S):
            yield f"cluster_k3s_taints has '{entry}', which K3s itself sets and removes."
        elif identity in seen:
            yield f"cluster_k3s_taints has '{found['key']}' twice with the effect {found['effect']}."
        seen.add(identity)


def is_key(key: Any) -> bool:
    prefix, slash, name = str(key).rpartition("/")
    fits = not slash or (len(prefix) <= LONGEST_PREFIX and bool(PREFIX.fullmatch(prefix)))
    return isinstance(key, str) and fits and bool(NAME.fullmatch(name))


def is_value(value: str) -> bool:
    return value == "" or bool(NAME.fullmatch(value))


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"k3s_declared_nodes": declared_nodes, "k3s_node_obstacles": obstacles}
