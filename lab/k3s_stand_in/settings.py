"""Reads what K3s reads: environment, then config.yaml and its drop-ins, then flags; the later wins.

Rules: docs.k3s.io/installation/configuration (drop-ins in alphabetical order, `key+` appends).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError

TEXT, LIST, SWITCH = "text", "list", "switch"

# What the stand-in acts on. Names, aliases and variables: docs.k3s.io/cli/server and docs.k3s.io/cli/agent.
NODE = {
    "config": TEXT, "token": TEXT, "token-file": TEXT, "server": TEXT, "data-dir": TEXT, "node-name": TEXT,
    "with-node-id": SWITCH, "node-ip": LIST, "node-external-ip": LIST, "node-label": LIST, "node-taint": LIST,
    "kubelet-arg": LIST,
}  # fmt: skip
SERVER = {
    "agent-token": TEXT, "agent-token-file": TEXT, "bind-address": TEXT, "https-listen-port": TEXT,
    "advertise-address": TEXT, "tls-san": LIST, "write-kubeconfig": TEXT, "write-kubeconfig-mode": TEXT,
    "kube-controller-manager-arg": LIST, "cluster-init": SWITCH,
}  # fmt: skip
# What K3s knows and a stand-in without containers has no use for: accepted, and named once in the journal.
NODE_UNUSED = {
    "debug": SWITCH, "v": TEXT, "vmodule": TEXT, "log": TEXT, "alsologtostderr": SWITCH, "selinux": SWITCH,
    "lb-server-port": TEXT, "protect-kernel-defaults": SWITCH, "container-runtime-endpoint": TEXT,
    "default-runtime": TEXT, "image-service-endpoint": TEXT, "disable-default-registry-endpoint": SWITCH,
    "nonroot-devices": SWITCH, "pause-image": TEXT, "snapshotter": TEXT, "private-registry": TEXT,
    "airgap-extra-registry": LIST, "resolv-conf": TEXT, "flannel-iface": TEXT, "flannel-conf": TEXT,
    "flannel-cni-conf": TEXT, "kube-proxy-arg": LIST, "rootless": SWITCH, "prefer-bundled-bin": SWITCH,
    "docker": SWITCH, "vpn-auth": TEXT, "vpn-auth-file": TEXT, "enable-pprof": SWITCH,
    "node-internal-dns": LIST, "node-external-dns": LIST, "image-credential-provider-bin-dir": TEXT,
    "image-credential-provider-config": TEXT,
}  # fmt: skip
AGENT_UNUSED = {"disable-apiserver-lb": SWITCH}
SERVER_UNUSED = {
    "cluster-cidr": LIST, "service-cidr": LIST, "service-node-port-range": TEXT, "cluster-dns": LIST,
    "cluster-domain": TEXT, "advertise-port": TEXT, "tls-san-security": SWITCH, "flannel-backend": TEXT,
    "flannel-ipv6-masq": SWITCH, "flannel-external-ip": SWITCH, "egress-selector-mode": TEXT,
    "servicelb-namespace": TEXT, "write-kubeconfig-group": TEXT, "helm-job-image": TEXT,
    "cluster-reset": SWITCH, "cluster-reset-restore-path": TEXT,
    "kube-apiserver-arg": LIST, "etcd-arg": LIST,
    "kube-scheduler-arg": LIST, "kube-cloud-controller-manager-arg": LIST, "datastore-endpoint": TEXT,
    "datastore-cafile": TEXT, "datastore-certfile": TEXT, "datastore-keyfile": TEXT, "kine-tls": SWITCH,
    "etcd-expose-metrics": SWITCH, "etcd-disable-snapshots": SWITCH, "etcd-snapshot-name": TEXT,
    "etcd-snapshot-schedule-cron": TEXT, "etcd-snapshot-retention": TEXT, "etcd-snapshot-dir": TEXT,
    "etcd-snapshot-compress": SWITCH, "default-local-storage-path": TEXT, "disable": LIST,
    "disable-scheduler": SWITCH, "disable-cloud-controller": SWITCH, "disable-kube-proxy": SWITCH,
    "disable-network-policy": SWITCH, "disable-helm-controller": SWITCH, "embedded-registry": SWITCH,
    "supervisor-metrics": SWITCH, "system-default-registry": TEXT, "secrets-encryption": SWITCH,
    "secrets-encryption-provider": TEXT,
}  # fmt: skip
ALIASES = {
    "t": "token",
    "s": "server",
    "d": "data-dir",
    "i": "node-ip",
    "c": "config",
    "o": "write-kubeconfig",
}
VARIABLES = {
    "K3S_CONFIG_FILE": "config", "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server",
    "K3S_DATA_DIR": "data-dir", "K3S_NODE_NAME": "node-name", "K3S_AGENT_TOKEN": "agent-token",
    "K3S_AGENT_TOKEN_FILE": "agent-token-file", "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig",
    "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode", "K3S_DATASTORE_ENDPOINT": "datastore-endpoint",
}  # fmt: skip
SPLIT_AT_COMMAS = {"node-ip", "node-external-ip", "tls-san", "disable"}
PLAYED = {"agent": NODE, "server": NODE | SERVER}
KNOWN = {
    "agent": NODE | NODE_UNUSED | AGENT_UNUSED,
    "server": NODE | SERVER | NODE_UNUSED | SERVER_UNUSED,
}


@dataclass(frozen=True)
class Settings:
    """The settings of one start; a missing one is empty."""

    values: Mapping[str, Sequence[str]]

    def text(self, name: str, default: str = "") -> str:
        values = self.values.get(name, ())
        return values[-1] if values else default

    def items(self, name: str) -> list[str]:
        values = self.values.get(name, ())
        if name in SPLIT_AT_COMMAS:
            return [part.strip() for value in values for part in value.split(",") if part.strip()]
        return list(values)

    def switch(self, name: str) -> bool:
        return self.text(name, "false").lower() in {"true", "1", ""}

    def number(self, name: str, default: str, *, base: int = 10) -> int:
        try:
            return int(self.text(name, default), base)
        except ValueError as exc:
            raise UsageError(
                f'invalid value "{self.text(name)}" for flag -{name}: a number is needed'
            ) from exc

    def argument(self, name: str, key: str, default: str) -> str:
        """The value of `key` in a list of component flags such as kubelet-arg."""
        pairs = [value.lstrip("-").partition("=") for value in self.items(name)]
        return next((found for given, _, found in reversed(pairs) if given == key), default)


def read(command: str, arguments: Sequence[str], environ: Mapping[str, str], config_file: Path) -> Settings:
    """Settings for `command` (server or agent); raises UsageError for what K3s does not know."""
    known = KNOWN[command]
    values = {name: [environ[variable]] for variable, name in VARIABLES.items() if environ.get(variable)}
    flags = _from_flags(arguments, known)
    chosen = (flags.get("config") or values.get("config") or [""])[-1]
    values |= _from_files(Path(chosen or config_file), known, required=bool(chosen))
    return Settings({name: given for name, given in (values | flags).items() if name in known})


def unused(command: str, settings: Settings) -> list[str]:
    """The given settings that the stand-in does not act on."""
    return sorted(set(settings.values) - set(PLAYED[command]))


def _from_flags(arguments: Sequence[str], known: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            raise UsageError(f"unexpected argument '{argument}'")
        name, separator, value = argument.lstrip("-").partition("=")
        name = _known(name, known)
        if not separator and known[name] == SWITCH:
            value = "true"
        elif not separator:
            if not rest:
                raise UsageError(f"flag needs an argument: --{name}")
            value = rest.pop(0)
        found.setdefault(name, []).append(value)
    return found


def _from_files(main: Path, known: Mapping[str, str], *, required: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    drop_ins = sorted(Path(f"{main}.d").glob("*.y*ml"))
    present = [main] if required or main.exists() else []
    for file in [*present, *drop_ins]:
        for key, value in _mapping(file).items():
            name = _known(str(key).removesuffix("+"), known)
            before = found.get(name, []) if str(key).endswith("+") else []
            found[name] = before + _texts(value)
    return found


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as exc:
        raise UsageError(f"failed to read {file}: {exc}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{file} must hold keys and values.")
    return content


def _texts(value: object) -> list[str]:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return [_text(value)]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _known(name: str, known: Mapping[str, str]) -> str:
    full = ALIASES.get(name, name)
    if full not in known:
        raise UsageError(f"flag provided but not defined: -{name}")
    return full
