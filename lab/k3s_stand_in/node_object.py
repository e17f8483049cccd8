"""The Node that a kubelet registers: real facts of this machine, and a plain word that it runs nothing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from .cluster import timestamp
from .errors import UsageError
from .kinds import Object
from .version import VERSION

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
EFFECTS = {"NoSchedule", "PreferNoSchedule", "NoExecute"}
CONDITIONS = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("True", "KubeletReady", "stand-in for K3s: heartbeats arrive, containers are not run"),
}
# What the kubelet accepts of kubernetes.io and k8s.io in --node-labels: its well_known_labels.go.
LABEL_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
LABELS = {
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os", "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region", "topology.kubernetes.io/zone",
}  # fmt: skip


def build(name: str, addresses: Sequence[str], labels: Sequence[str], taints: Sequence[str]) -> Object:
    """The Node at registration; labels as key=value, taints as key=value:Effect."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    own = {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/instance-type": "k3s",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "k3s",
    }
    given = dict(label.partition("=")[::2] for label in labels)
    spec: Object = {"providerID": f"k3s://{name}"}
    if taints:
        spec["taints"] = [taint(text) for text in taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": own | given},
        "spec": spec,
        "status": status(name, addresses, architecture),
    }


def status(name: str, addresses: Sequence[str], architecture: str) -> Object:
    size = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki",
        "ephemeral-storage": str(shutil.disk_usage("/").total),
        "pods": "110",
    }
    return {
        "capacity": size,
        "allocatable": dict(size),
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in addresses),
            {"type": "Hostname", "address": name},
        ],
        "conditions": conditions(),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": _node_info(architecture),
    }


def conditions() -> list[Object]:
    """All well, as of now."""
    now = timestamp()
    return [
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, (value, reason, message) in CONDITIONS.items()
    ]


def refused_labels(labels: Sequence[str]) -> list[str]:
    """The labels that make a kubelet exit: reserved namespaces outside the allowed set."""
    keys = [label.partition("=")[0] for label in labels]
    return sorted({key for key in keys if _is_reserved(key) and not _is_allowed(key)})


def taint(text: str) -> Object:
    """Read key=value:Effect or key:Effect; raises UsageError."""
    pair, separator, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if not separator or not key or effect not in EFFECTS:
        raise UsageError(
            f"invalid taint '{text}': key=value:Effect is needed, effect one of {', '.join(sorted(EFFECTS))}"
        )
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _is_reserved(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    return domain.endswith(("kubernetes.io", "k8s.io"))


def _is_allowed(key: str) -> bool:
    domain = key.partition("/")[0]
    return key in LABELS or any(
        domain == prefix or domain.endswith("." + prefix) for prefix in LABEL_PREFIXES
    )


def _node_info(architecture: str) -> Object:
    return {
        "architecture": architecture,
        "bootID": _line("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": "none://stand-in",
        "kernelVersion": platform.release(),
        "kubeletVersion": VERSION,
        "kubeProxyVersion": VERSION,
        "machineID": _line("/etc/machine-id"),
        "operatingSystem": "linux",
        "osImage": _os_image(),
        "systemUUID": "",
    }


def _line(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
