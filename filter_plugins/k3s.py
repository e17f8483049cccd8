"""Pure filters for K3s: which version may follow which."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-rc(\d+))?(?:-[a-z][a-z-]*)?(?:\+k3s(\d+))?\Z")
COMPLAINT = re.compile(r'level=(?:error|fatal) msg="(.*)"')
# Minor releases that a kubelet, and an API server, may be behind (kubernetes.io/releases/version-skew-policy)
MOST_BEHIND = {"agent": 3, "server": 1}
NAMES = {"agent": ("an agent", "its server"), "server": ("a server", "the master")}
SERVERS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class Version(NamedTuple):
    """A release of K3s in its parts; they compare in the order in which releases follow each other."""

    major: int
    minor: int
    patch: int
    candidate: float
    build: int


def version(text: str) -> Version | None:
    """The parts of a version such as v1.34.4+k3s1 or v1.35.0-rc1+k3s1; None for what is no version."""
    found = RELEASE.match(text)
    if found is None:
        return None
    major, minor, patch, candidate, build = found.groups()
    return Version(
        int(major), int(minor), int(patch), float(candidate or "inf"), int(build or 0)
    )  # a candidate comes before its release


def version_in(output: str) -> str:
    """The version in the output of `k3s --version`, '' when there is none."""
    found = re.search(r"^k3s version (\S+)", output, flags=re.MULTILINE)
    return found[1] if found else ""


def version_obstacle(wanted: str, installed: str, server: str = "", part: str = "agent") -> str:
    """Why a host may not get the version that is wanted, '' when it may.

    installed: what it has, '' for none. server: what the server that it joins has by then, '' for the first one.
    part: what joins there, an agent or a server.
    """
    new = version(wanted)
    if new is None:
        return f"k3s_binary_version is '{wanted}', which is no release such as v1.34.4+k3s1."
    return _step(new, wanted, installed) or _skew(new, wanted, server, part)


def _step(new: Version, wanted: str, installed: str) -> str:
    old = version(installed)
    if old is None:
        return ""
    if new < old:
        return f"K3s {installed} is installed and cannot be downgraded to {wanted}."
    if new.major != old.major:
        return f"K3s {installed} is installed, and no upgrade leads from it to {wanted}."
    if new.minor > old.minor + 1:
        return (
            f"K3s {installed} is installed and may not skip a minor release on its way to {wanted}: "
            f"upgrade to v{old.major}.{old.minor + 1} first."
        )
    return ""


def _skew(new: Version, wanted: str, server: str, part: str) -> str:
    of_server = version(server)
    if of_server is None:
        return ""
    who, whom = NAMES[part]
    if (new.major, new.minor) > (of_server.major, of_server.minor):
        return (
            f"{who} of K3s {wanted} would be newer than {whom}, which has {server}: upgrade the master first."
        )
    if _is_too_old(new, of_server, part):
        return (
            f"{who} of K3s {wanted} is more than {MOST_BEHIND[part]} minor release{'s' * (part == 'agent')} "
            f"behind {whom}, which has {server}."
        )
    return ""


def _is_too_old(old: Version, new: Version, part: str) -> bool:
    if old.major != new.major:
        return old.major < new.major
    return new.minor - old.minor > MOST_BEHIND[part]


def left_behind(nodes: str, wanted: str, address: str) -> str:
    """Why the master, which is at this address, may not get the version that is wanted for the other nodes' sake.

    nodes: what `kubectl get nodes --output json` printed, '' when there is no cluster yet.
    """
    new = version(wanted)
    if new is None:
        return ""
    late = [
        f"{node['metadata']['name']} ({_release(node)})"
        for node in _items(nodes)
        if address not in _addresses(node)
        and (old := version(_release(node)))
        and _is_too_old(old, new, _part(node))
    ]
    if not late:
        return ""
    return (
        f"K3s {wanted} on the master would leave nodes too far behind: {', '.join(late)}. An agent may be "
        f"{MOST_BEHIND['agent']} minor releases older and a server {MOST_BEHIND['server']}: "
        "upgrade them first, or delete nodes that are gone."
    )


def _release(node: Mapping[str, Any]) -> str:
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or "")


def _part(node: Mapping[str, Any]) -> str:
    return "server" if {*SERVERS} & {*(node["metadata"].get("labels") or {})} else "agent"


def _addresses(node: Mapping[str, Any]) -> list[str]:
    listed = (node.get("status") or {}).get("addresses") or []
    return [each["address"] for each in listed if each.get("type") == "InternalIP"]


def outdated(files: Iterable[str], keep: Iterable[str]) -> list[str]:
    """Which of the binaries `k3s-<version>` may go: all but those that are named, by file name."""
    kept = {name.rsplit("/", 1)[-1] for name in keep}
    return sorted(file for file in files if file.rsplit("/", 1)[-1] not in kept)


def checksum_of(file: str) -> str:
    """The SHA-256 of a file on the controller."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def file_obstacles(given: Iterable[Mapping[str, str]]) -> list[str]:
    """What is wrong with files on the controller. In: the `name` of an input, its `file` or '', its `sha256` or ''."""
    found = ((each, _obstacle_of(each["name"], each["file"], each["sha256"])) for each in given)
    return [obstacle for each, obstacle in found if each["file"] and obstacle]


def _obstacle_of(name: str, file: str, sha256: str) -> str:
    if not Path(file).is_file():
        return f"{name}_file is {file}, which is not there."
    if sha256 and checksum_of(file) != sha256:
        return f"{file} is not the file whose SHA-256 is {sha256}, which {name}_sha256 asks for."
    return ""


def is_file(seen: Mapping[str, str], given: Mapping[str, str], mode: str) -> bool:
    """Whether a host has the file that is given, as root's and with this mode.

    In: what the module `look` shows of it, {} for nothing, and what `file_obstacles` takes: without `file` and
    `sha256`, any content will do. A copy that was killed may have the content only.
    """
    if not seen or (seen["kind"], seen["owner"], seen["mode"]) != ("file", "root", mode):
        return False
    wanted = given["sha256"] or (checksum_of(given["file"]) if given["file"] else "")
    return not wanted or seen["sha256"] == wanted


def name_obstacle(nodes: str, name: str, address: str) -> str:
    """Why a machine at this address may not be the node of this name, '' when it may.

    nodes: what `kubectl get nodes --output json` printed, '' when there is no cluster yet. Only a node that is Ready
    holds its name: one that is not may be this machine's own before it was reinstalled or moved.
    """
    for node in _items(nodes):
        other, addresses = node["metadata"]["name"], _addresses(node)
        ready = "Ready" in _true_conditions(node)
        if other == name and ready and addresses and address not in addresses:
            return f"the host name '{name}' is taken by the node at {addresses[0]}: give this machine another one."
        if other != name and ready and address in addresses:
            return (
                f"it runs as the node '{other}', and its host name is '{name}' now: `hostnamectl hostname {other}` "
                "sets it back; with the new one it would be another node."
            )
    return ""


def _items(listed: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(listed or "{}").get("items", [])
    return found


def datastore_obstacle(traces: Iterable[str], wanted: str, first: str = "") -> str:
    """Why a server may not have the datastore that is wanted, '' when it may.

    traces: those files of a cluster that are on its disk. first: the server that it joins, '' for none.
    """
    found = {file.rsplit("/", 1)[-1] for file in traces}
    if "etcd" in found:
        present = "etcd"
    elif "state.db" in found:
        present = "sqlite"
    else:
        present = "postgresql" if {"token", "k3s.service.env"} <= found else ""
    if first and present not in {"", "etcd"}:
        return (
            f"it has a cluster of its own in {present}, and cannot join the one at {first}: "
            "`k3s-uninstall.sh --yes` deletes it."
        )
    if present in {"", wanted} or (present, wanted) == ("sqlite", "etcd"):  # K3s takes that along by itself
        return ""
    return (
        f"the cluster's datastore is {present}, not {wanted}, which k3s_server_datastore asks for, and K3s moves data "
        "from sqlite to etcd only: with another datastore the cluster would begin anew, without a node."
    )


def servers_obstacle(groups: Mapping[str, list[str]], datastore: str) -> str:
    """Why an inventory may not have these servers, '' when it may. In: its groups, and the datastore of its master."""
    more = groups.get("servers") or []
    for other in ("masters", "workers"):
        both = sorted({*more} & {*(groups.get(other) or [])})
        if both:
            return f"{', '.join(both)} cannot be in the groups 'servers' and '{other}' at once: a host has one part."
    if more and datastore != "etcd":
        return (
            "the group 'servers' needs cluster_k3s_datastore: etcd, since only etcd has its data on several servers; "
            f"the datastore is {datastore}."
        )
    if len(more) % 2:
        return (
            f"the inventory has {len(more) + 1} servers of K3s, the master included, and etcd needs an odd number: "
            "one more than 1, 3 or 5 bears the loss of no more servers, and is one more to lose."
        )
    return ""


def last_words(lines: Sequence[str]) -> str:
    """The newest complaint in the journal of K3s, or else its newest line."""
    complaints = [found[1] for line in lines if (found := COMPLAINT.search(line))]
    return (complaints or [*lines] or ["nothing"])[-1].replace('\\"', '"').strip()[:500]


def votes(node: str) -> bool:
    """Whether a node is Ready and a full member of etcd. In: what `kubectl get node --output json` printed."""
    return {"Ready", "EtcdIsVoter"} <= _true_conditions(json.loads(node or "{}"))


def restart_obstacle(members: str, name: str) -> str:
    """Why the server of this name may not be stopped for a moment, '' when it may.

    members: what kubectl printed of the nodes that are in etcd, '' when it did not answer.
    """
    nodes = {node["metadata"]["name"]: _true_conditions(node) for node in _items(members)}
    down = sorted(other for other, true in nodes.items() if other != name and "Ready" not in true)
    others = len(nodes) - 1 - len(down)
    if not down or 2 * others > len(nodes):
        return ""
    return (
        f"K3s is not restarted, because etcd would be without a majority: {', '.join(down)} is not Ready. "
        "Bring it back, or delete its node, and run the playbook again."
    )


def _true_conditions(node: Mapping[str, Any]) -> set[str]:
    conditions = (node.get("status") or {}).get("conditions") or []
    return {condition["type"] for condition in conditions if condition.get("status") == "True"}


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "k3s_datastore_obstacle": datastore_obstacle,
            "k3s_file_obstacles": file_obstacles,
            "k3s_is_file": is_file,
            "k3s_last_words": last_words,
            "k3s_left_behind": left_behind,
            "k3s_name_obstacle": name_obstacle,
            "k3s_restart_obstacle": restart_obstacle,
            "k3s_servers_obstacle": servers_obstacle,
            "k3s_votes": votes,
            "k3s_version": version_in,
            "k3s_version_obstacle": version_obstacle,
            "k3s_outdated": outdated,
        }
