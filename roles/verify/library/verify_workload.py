#!/usr/bin/python
"""Whether pods run on every node and reach each other: a small web server on each, asked by its neighbour.

Standard library only, Python 3.8 or newer: it runs on the master, as root. What it makes it removes, however it ends.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, Tuple

DOCUMENTATION = r"""
module: verify_workload
short_description: Runs a pod on every node that is Ready, lets each ask the next one, and removes them
description:
  - The manifest has a namespace and a DaemonSet in it, whose pods answer HTTP with the name of their node.
  - A cluster that knows no DaemonSets cannot show this; the row then is C(impossible), and says why.
options:
  kubectl:
    description: How kubectl is called.
    type: list
    elements: str
    required: true
  manifest:
    description: What is applied.
    type: str
    required: true
  namespace:
    description: The namespace in it. It is removed before and after.
    type: str
    required: true
  port:
    description: Port that the pods answer on.
    type: int
    required: true
  seconds:
    description: How long the pods may take to run.
    type: int
    required: true
author: Muster
"""
EXAMPLES = r"""
- name: Run a workload
  verify_workload:
    kubectl: [/usr/local/bin/k3s, kubectl]
    manifest: "{{ lookup('ansible.builtin.template', 'workload.yaml.j2') }}"
    namespace: muster-verify
    port: 8080
    seconds: 180
"""
RETURN = r"""
rows:
  description: A row for each node, as C({check, host, state, says}).
  type: list
  returned: success
"""

POLL_SECONDS = 2
ATTEMPTS = 5  # a pod that has just become ready may not be known on all nodes yet
PATIENCE_SECONDS = 60  # for one call of kubectl
UNKNOWN_KIND = 'no matches for kind "DaemonSet"'
Object = Dict[str, Any]
Row = Dict[str, str]
Kubectl = Callable[..., Tuple[bool, str]]


class Unable(Exception):  # noqa: N818 - reads as a word in `except`
    """The workload could not be run at all."""


def caller(command: List[str]) -> Kubectl:
    """kubectl(*arguments, stdin='') -> whether it ended well, and what it said."""

    def call(*arguments: str, stdin: str = "") -> Tuple[bool, str]:
        try:
            done = subprocess.run(
                [*command, *arguments],
                input=stdin.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return False, str(exc)
        said = done.stderr if done.returncode else done.stdout
        return done.returncode == 0, said.decode(errors="replace").strip()

    return call


def row(host: str, state: str, says: str) -> Row:
    return {"check": "workload", "host": host, "state": state, "says": says}


def verify(kubectl: Kubectl, given: Object) -> List[Row]:
    """Run the workload and say what became of it; nothing of it is left."""
    remove(kubectl, given["namespace"])
    try:
        well, said = kubectl("apply", "--filename", "-", stdin=given["manifest"])
        if not well:
            return [refusal(last_line(said))]
        nodes = ready_nodes(kubectl)
        pods = wait_for_pods(kubectl, given["namespace"], nodes, given["seconds"])
        return [*absences(nodes, pods), *answers(kubectl, running(pods), given)]
    except Unable as exc:
        return [row("", "fault", str(exc))]
    finally:
        remove(kubectl, given["namespace"])


def refusal(said: str) -> Row:
    """What it means that the manifest was not taken."""
    if UNKNOWN_KIND in said:
        return row("", "impossible", f"this cluster runs no such workload: {said}")
    return row("", "fault", f"the workload is refused: {said}")


def remove(kubectl: Kubectl, namespace: str) -> None:
    kubectl("delete", "namespace", namespace, "--ignore-not-found=true", "--wait=true", "--timeout=50s")


def last_line(said: str) -> str:
    return (said.splitlines() or ["it says nothing"])[-1]


def listed(kubectl: Kubectl, *what: str) -> List[Object]:
    well, said = kubectl("get", *what, "--output", "json")
    if not well:
        raise Unable(f"K3s does not answer: {last_line(said)}")
    items: List[Object] = json.loads(said)["items"]
    return items


def ready_nodes(kubectl: Kubectl) -> List[str]:
    """The nodes that pods can run on; of the others, another check speaks."""
    return sorted(node["metadata"]["name"] for node in listed(kubectl, "nodes") if is_ready(node))


def is_ready(thing: Object) -> bool:
    conditions = thing.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def wait_for_pods(kubectl: Kubectl, namespace: str, nodes: List[str], seconds: float) -> List[Object]:
    """The pods once one runs on every node, or when the time is over."""
    end = time.monotonic() + seconds
    while True:
        pods = listed(kubectl, "pods", "--namespace", namespace)
        if {node_of(pod) for pod in running(pods)} >= set(nodes) or time.monotonic() > end:
            return pods
        time.sleep(POLL_SECONDS)


def running(pods: List[Object]) -> List[Object]:
    """The pods that are ready, in order of their nodes."""
    return sorted((pod for pod in pods if is_ready(pod)), key=node_of)


def node_of(pod: Object) -> str:
    return str(pod.get("spec", {}).get("nodeName") or "")


def absences(nodes: List[str], pods: List[Object]) -> List[Row]:
    """A row for each node that no pod runs on."""
    well = {node_of(pod) for pod in running(pods)}
    why = {node_of(pod): trouble(pod) for pod in pods}
    return [
        row(name, "fault", f"no pod runs there: {why.get(name, 'none was scheduled')}")
        for name in nodes
        if name not in well
    ]


def trouble(pod: Object) -> str:
    """Why a pod does not run, in the kubelet's words."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or []:
        for state in (container.get("state") or {}).values():
            if state.get("reason"):
                return f"{state['reason']}: {state.get('message', '')}".rstrip(": ")
    return f"it is {status.get('phase', 'unknown')}"


def answers(kubectl: Kubectl, pods: List[Object], given: Object) -> List[Row]:
    """A row for each pod: it asks the one on the next node, the last one asks the first."""
    return [answer(kubectl, pod, pods[(number + 1) % len(pods)], given) for number, pod in enumerate(pods)]


def answer(kubectl: Kubectl, asker: Object, asked: Object, given: Object) -> Row:
    here, there = node_of(asker), node_of(asked)
    url = f"http://{asked['status']['podIP']}:{given['port']}/"
    command = [
        "exec",
        "--namespace",
        given["namespace"],
        asker["metadata"]["name"],
        "--",
        "wget",
        "-q",
        "-T",
        "5",
        "-O",
        "-",
        url,
    ]
    said = ""
    for attempt in range(ATTEMPTS):
        time.sleep(POLL_SECONDS if attempt else 0)
        well, said = kubectl(*command)
        if well and said == there:
            return row(here, "ok", f"a pod runs there and reaches the one on {there}")
    return row(
        here, "fault", f"a pod runs there and does not reach the one on {there} ({url}): {last_line(said)}"
    )


def stop(_number: int, _frame: object) -> None:
    """End as an error does, so that what was made is removed."""
    raise SystemExit(1)


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "kubectl": {"type": "list", "elements": "str", "required": True},
            "manifest": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "seconds": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, rows=[row("", "impossible", "nothing is run in check mode")])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    module.exit_json(changed=False, rows=verify(caller(module.params["kubectl"]), module.params))


if __name__ == "__main__":
    main()
