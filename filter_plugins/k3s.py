"""Pure filters for K3s: which version may follow which."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-rc(\d+))?(?:-[a-z][a-z-]*)?(?:\+k3s(\d+))?\Z")
OLDEST_AGENT = 3  # minor releases that a kubelet may be behind (kubernetes.io/releases/version-skew-policy)


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


def version_obstacle(wanted: str, installed: str, server: str = "") -> str:
    """Why a host may not get the version that is wanted, '' when it may.

    installed: what it has, '' for none. server: for an agent, what its server has by then; '' for a server.
    """
    new = version(wanted)
    if new is None:
        return f"k3s_binary_version is '{wanted}', which is no release such as v1.34.4+k3s1."
    return _step(new, wanted, installed) or _skew(new, wanted, server)


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


def _skew(new: Version, wanted: str, server: str) -> str:
    of_server = version(server)
    if of_server is None:
        return ""
    behind = (of_server.major, of_server.minor) > (new.major, new.minor)
    if (new.major, new.minor) > (of_server.major, of_server.minor):
        return f"an agent of K3s {wanted} would be newer than its server, which has {server}: upgrade the master first."
    if behind and (new.major != of_server.major or of_server.minor - new.minor > OLDEST_AGENT):
        return (
            f"an agent of K3s {wanted} is more than {OLDEST_AGENT} minor releases behind its server, "
            f"which has {server}."
        )
    return ""


def outdated(files: Iterable[str], keep: Iterable[str]) -> list[str]:
    """Which of the binaries `k3s-<version>` may go: all but those that are named, by file name."""
    kept = {name.rsplit("/", 1)[-1] for name in keep}
    return sorted(file for file in files if file.rsplit("/", 1)[-1] not in kept)


def checksum_of(file: str) -> str:
    """The SHA-256 of a file on the controller."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def name_obstacle(nodes: str, name: str, address: str) -> str:
    """Why a machine at this address may not be the node of this name, '' when it may.

    nodes: what `kubectl get nodes --output json` printed, '' when there is no cluster yet. Only a node that is Ready
    holds its name: one that is not may be this machine's own before it was reinstalled or moved.
    """
    for node in json.loads(nodes or "{}").get("items", []):
        status = node.get("status") or {}
        ready = {("Ready", "True")} <= {
            (c.get("type"), c.get("status")) for c in status.get("conditions") or []
        }
        addresses = [a.get("address") for a in status.get("addresses") or [] if a.get("type") == "InternalIP"]
        if node["metadata"]["name"] == name and ready and addresses and address not in addresses:
            return f"the host name '{name}' is taken by the node at {addresses[0]}: give this machine another one."
    return ""


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "checksum_of": checksum_of,
            "k3s_name_obstacle": name_obstacle,
            "k3s_version": version_in,
            "k3s_version_obstacle": version_obstacle,
            "k3s_outdated": outdated,
        }
