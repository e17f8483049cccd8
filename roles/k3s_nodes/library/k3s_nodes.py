#!/usr/bin/python
"""Labels and taints of Kubernetes' nodes: sets the declared ones, removes those that were declared before.

Standard library only, Python 3.8 or newer: it runs on a K3s server, without Ansible's library (docs/adr/0010).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set

DOCUMENTATION = r"""
module: k3s_nodes
short_description: Sets the declared labels and taints of nodes, and removes those that no longer are
description:
  - Reads all nodes once, and changes a node only where it differs, in one request that fails when somebody was faster.
  - What it has set on a node is remembered in the annotation C(muster-paas/declared). Labels and taints of others stay.
options:
  nodes:
    description: By the name of a node, its C(labels) and its C(taints). Other nodes are left alone.
    type: dict
    required: true
author: Muster
"""
EXAMPLES = r"""
- name: Label one node and taint another
  k3s_nodes:
    nodes:
      worker1: {labels: {disk: ssd}, taints: []}
      worker2: {labels: {}, taints: [{key: gpu, value: "yes", effect: NoSchedule}]}
"""
RETURN = r"""
nodes:
  description: The names of the nodes that were changed.
  type: list
  elements: str
  returned: always
"""

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
K3S = "/usr/local/bin/k3s"
REFUSED = "K3s did not do what was asked of its nodes"
ANNOTATION = "muster-paas/declared"
TRIES = 5  # K3s writes to its nodes too, so now and then somebody else is faster
Object = Dict[str, Any]


class Failed(Exception):  # noqa: N818 - reads as a word in `except`
    """What kubectl complained of."""


class Change(NamedTuple):
    """What is to be done to one node: a merge patch, and the lines that it changes, as they are and as they will be."""

    patch: Object
    before: List[str]
    after: List[str]


def change(node: Object, declared: Object) -> Optional[Change]:
    """How a node differs from what is declared for it; None when it does not."""
    ours = remembered(node)
    labels = label_changes(labels_of(node), set(ours.get("labels", [])), declared["labels"])
    present = taints_of(node)
    taints = wanted_taints(present, set(ours.get("taints", [])), declared["taints"])
    note, noted = memory(declared), annotations_of(node).get(ANNOTATION)
    if not labels and taints == present and note == noted:
        return None
    metadata: Object = {"resourceVersion": node.get("metadata", {}).get("resourceVersion")}
    if labels:
        metadata["labels"] = labels
    if note != noted:
        metadata["annotations"] = {ANNOTATION: note}
    patch: Object = {"metadata": metadata}
    if taints != present:
        patch["spec"] = {"taints": taints or None}
    before = label_lines({key: labels_of(node).get(key) for key in labels}) + taint_lines(present, taints)
    after = label_lines(labels) + taint_lines(taints, present)
    return Change(patch, before + note_lines(noted, note), after + note_lines(note, noted))


def label_changes(present: Object, ours: Set[str], declared: Object) -> Object:
    """The labels to set, and with None those to remove."""
    fresh = {key: value for key, value in declared.items() if present.get(key) != value}
    return {**fresh, **{key: None for key in sorted(ours) if key in present and key not in declared}}


def wanted_taints(present: List[Object], ours: Set[str], declared: List[Object]) -> List[Object]:
    """All taints that the node should have, in the order in which it has them."""
    wanted = {identity(taint): taint for taint in declared}
    kept = []
    for taint in present:
        mine = wanted.pop(identity(taint), None)
        if mine is not None:
            kept.append(taint if taint.get("value", "") == mine.get("value", "") else mine)
        elif identity(taint) not in ours:
            kept.append(taint)
    return kept + list(wanted.values())


def identity(taint: Object) -> str:
    """What makes two taints the same one: Kubernetes has one value for a key and an effect."""
    return f"{taint['key']}:{taint['effect']}"


def memory(declared: Object) -> Optional[str]:
    """What is remembered of a declaration; None of an empty one."""
    if not declared["labels"] and not declared["taints"]:
        return None
    kept = {"labels": sorted(declared["labels"]), "taints": sorted(map(identity, declared["taints"]))}
    return json.dumps(kept, separators=(",", ":"))


def remembered(node: Object) -> Object:
    """What was declared for the node before; nothing where its annotation cannot be read."""
    try:
        kept = json.loads(annotations_of(node).get(ANNOTATION) or "{}")
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


def labels_of(node: Object) -> Object:
    return node.get("metadata", {}).get("labels") or {}


def annotations_of(node: Object) -> Object:
    return node.get("metadata", {}).get("annotations") or {}


def taints_of(node: Object) -> List[Object]:
    return node.get("spec", {}).get("taints") or []


def label_lines(labels: Object) -> List[str]:
    return [f"label {key}={value}" for key, value in sorted(labels.items()) if value is not None]


def taint_lines(taints: List[Object], others: List[Object]) -> List[str]:
    """The taints that are not among the others."""
    return [f"taint {t['key']}={t.get('value', '')}:{t['effect']}" for t in taints if t not in others]


def note_lines(note: Optional[str], other: Optional[str]) -> List[str]:
    return [f"annotation {ANNOTATION}={note}"] if note and note != other else []


def missing(nodes: Object, declared: Object) -> str:
    """The sentence on nodes that something is declared for and that are not there, '' when all are."""
    absent = sorted(name for name in declared if name not in nodes and memory(declared[name]))
    if not absent:
        return ""
    names = ", ".join(absent)
    return f"K3s has no node {names}, whose labels or taints are declared: it has not joined, or is deleted."


# --- asking K3s -------------------------------------------------------------------------------------


def kubectl(*arguments: str) -> Object:
    """What kubectl printed, as an object."""
    command = [K3S, "kubectl", *arguments, "--output", "json", "--request-timeout", "20s"]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise Failed(f"{REFUSED}: {exc}") from exc
    if done.returncode != 0:
        raise Failed(f"{REFUSED}: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    found: Object = json.loads(done.stdout.decode("utf-8"))
    return found


def read_nodes() -> Object:
    return {node["metadata"]["name"]: node for node in kubectl("get", "nodes")["items"]}


def settle(name: str, node: Object, declared: Object) -> None:
    """Change one node; where somebody else was faster, look at it again."""
    for _ in range(TRIES - 1):
        needed = change(node, declared)
        if needed is None:
            return
        try:
            patch(name, needed)
        except Failed as exc:
            if "the object has been modified" not in str(exc):
                raise
            node = kubectl("get", "node", name)
        else:
            return
    needed = change(node, declared)
    if needed is not None:
        patch(name, needed)


def patch(name: str, needed: Change) -> None:
    kubectl("patch", "node", name, "--type", "merge", "--patch", json.dumps(needed.patch))


def main(arguments: str = ARGUMENTS) -> None:
    """Set what is declared, and tell."""
    given = json.loads(arguments)
    try:
        told = set_declared(declared_in(given), check=given["_ansible_check_mode"])
    except Failed as exc:
        told = {"failed": True, "msg": str(exc)}
    print(json.dumps(told))
    sys.exit("failed" in told)


def declared_in(given: Object) -> Object:
    """The nodes that the task names."""
    unknown = [name for name in given if name != "nodes" and not name.startswith("_ansible_")]
    if unknown or not isinstance(given.get("nodes"), dict):
        wrong = "nodes must be a dict" + "".join(f", there is no {name}" for name in unknown)
        raise Failed(f"The task is wrong: {wrong}.")
    nodes: Object = given["nodes"]
    return nodes


def set_declared(declared: Object, *, check: bool) -> Object:
    """Change the nodes that differ; what the module answers."""
    bare = check and not Path(K3S).exists()
    nodes = {} if bare else read_nodes()
    found = {name: nodes.get(name, {}) for name in declared if name in nodes or check}
    changes = {name: needed for name in found if (needed := change(found[name], declared[name]))}
    if not check:
        for name in changes:
            settle(name, found[name], declared[name])
    told: Object = {"changed": bool(changes), "nodes": sorted(changes)}
    why = missing(nodes, declared)
    if why and not check:
        return {**told, "failed": True, "msg": why}
    return {**told, "diff": differences(changes)}


def differences(changes: Dict[str, Change]) -> List[Object]:
    return [
        {
            "before_header": f"node {name}",
            "after_header": f"node {name}",
            "before": "".join(f"{line}\n" for line in needed.before),
            "after": "".join(f"{line}\n" for line in needed.after),
        }
        for name, needed in sorted(changes.items())
    ]


if __name__ == "__main__":
    main()
