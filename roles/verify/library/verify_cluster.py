#!/usr/bin/python
"""Whether the cluster is well, as its master sees it: the database, every worker, every node, and whether they agree.

Standard library only, Python 3.8 or newer: it runs on the master, as root, and only looks.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

DOCUMENTATION = r"""
module: verify_cluster
short_description: Compares the database, the worker table and the nodes of K3s, and changes nothing
options:
  database_command:
    description: Command that fails with a sentence when the database or its schema is not as it must be.
    type: list
    elements: str
    required: true
  secrets_dir:
    description: Directory of the secrets that this command reads.
    type: path
    required: true
  kubectl:
    description: How kubectl is called.
    type: list
    elements: str
    required: true
  url:
    description: URL of the inventory of the control API.
    type: str
    required: true
  key_file:
    description: File with a key that reads the inventory.
    type: path
    required: true
author: Muster
"""
EXAMPLES = r"""
- name: Look at the cluster
  verify_cluster:
    database_command: [/usr/local/bin/muster, db, check]
    secrets_dir: /etc/muster/secrets
    kubectl: [/usr/local/bin/k3s, kubectl]
    url: http://127.0.0.1:3000/api/inventory
    key_file: /etc/muster/secrets/MUSTER_INVENTORY_KEY
"""
RETURN = r"""
rows:
  description: A row for each thing that was looked at, as C({check, host, state, says}); no C(host) is the master.
  type: list
  returned: success
"""

SECONDS = 30
SERVERS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
Row = Dict[str, str]
Object = Dict[str, Any]


class Silent(Exception):  # noqa: N818 - reads as a word in `except`
    """Something that was asked does not answer."""


def row(check: str, fault: str, well: str, host: str = "") -> Row:
    return {"check": check, "host": host, "state": "fault" if fault else "ok", "says": fault or well}


def database(command: List[str], secrets: str) -> Row:
    try:
        said = run(command, {**os.environ, "CREDENTIALS_DIRECTORY": secrets})
    except Silent as exc:
        return row("database", str(exc), "")
    return row("database", "", said)


def run(command: List[str], environment: Dict[str, str]) -> str:
    """What a command prints. Raises Silent with the last line that it said when it fails."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Silent(f"`{' '.join(command)}` does not end well: {exc}") from exc
    if done.returncode:
        raise Silent((done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1])
    return done.stdout.decode(errors="replace").strip()


def members(kubectl: List[str], url: str, key_file: str) -> Iterator[Row]:
    """The rows about workers and nodes."""
    try:
        nodes = json.loads(run([*kubectl, "get", "nodes", "--output", "json"], dict(os.environ)))["items"]
    except Silent as exc:
        nodes = None
        yield row("nodes", f"K3s does not name its nodes: {exc}", "")
    try:
        workers = ask(url, Path(key_file).read_text().strip())["data"]["workers"]
    except (Silent, OSError) as exc:
        workers = None
        yield row("workers", f"the control API does not name its workers: {exc}", "")
    yield from map(worker_row, workers or [])
    yield from map(node_row, nodes or [])
    if nodes is not None and workers is not None:
        yield from comparison(workers, nodes)


def ask(url: str, key: str) -> Object:
    """What the control API answers. Raises Silent."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            found: Object = json.load(answer)
            return found
    except (urllib.error.URLError, OSError, ValueError) as exc:
        raise Silent(str(exc)) from exc


def worker_row(worker: Object) -> Row:
    """ACTIVE is well, and so is a healthy worker that an operator has put into maintenance."""
    status, node = worker["status"], worker["nodeState"] or "not known"
    if status == "ACTIVE":
        return row("workers", "", "ACTIVE", worker["hostname"])
    if status == "MAINTENANCE" and worker["isReady"]:
        return row("workers", "", "healthy, in MAINTENANCE as an operator wants it", worker["hostname"])
    waits = "" if worker["approved"] else " and waits for an operator's approval"
    return row("workers", f"it is {status}{waits}; its node is {node}", "", worker["hostname"])


def node_row(node: Object) -> Row:
    conditions = node.get("status", {}).get("conditions") or []
    ready: Object = next((each for each in conditions if each["type"] == "Ready"), {})
    release = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")
    why = ready.get("message") or "K3s says nothing of it"
    fault = "" if ready.get("status") == "True" else f"its node is not Ready: {why}"
    return row("nodes", fault, f"Ready, {release}", node["metadata"]["name"])


def comparison(workers: List[Object], nodes: List[Object]) -> List[Row]:
    """The worker table against K3s' own list, by the name that a node has of its machine, and by machine-id."""
    agents = {name: machine for name, machine, is_server in map(identity, nodes) if not is_server}
    table = {worker["hostname"].lower(): worker.get("machineId") for worker in workers}
    faults = {
        **dict.fromkeys(
            set(agents) - set(table), "K3s has a node of this name, and the worker table no worker"
        ),
        **dict.fromkeys(
            set(table) - set(agents), "the worker table has it, and K3s has no node of this name"
        ),
        **{
            name: f"worker and node are two machines: {table[name]} and {agents[name]}"
            for name in set(table) & set(agents)
            if table[name] and agents[name] and table[name] != agents[name]
        },
    }
    rows = [row("lists", says, "", name) for name, says in sorted(faults.items())]
    return rows or [row("lists", "", f"the worker table and K3s have the same {len(table)} machines")]


def identity(node: Object) -> Tuple[str, str, bool]:
    """A node's name, its machine-id, and whether it is a server."""
    labels = node["metadata"].get("labels") or {}
    info = node.get("status", {}).get("nodeInfo") or {}
    return node["metadata"]["name"], str(info.get("machineID") or ""), any(name in labels for name in SERVERS)


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "database_command": {"type": "list", "elements": "str", "required": True},
            "secrets_dir": {"type": "path", "required": True},
            "kubectl": {"type": "list", "elements": "str", "required": True},
            "url": {"type": "str", "required": True},
            "key_file": {"type": "path", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    rows = [
        database(given["database_command"], given["secrets_dir"]),
        *members(given["kubectl"], given["url"], given["key_file"]),
    ]
    module.exit_json(changed=False, rows=rows)


if __name__ == "__main__":
    main()
