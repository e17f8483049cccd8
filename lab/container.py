"""How systemd-nspawn is called, so that K3s and hardened units run in a host as they do on metal."""

from __future__ import annotations

from pathlib import Path

from lab.layout import Layout

# Overlay on overlay fails for K3s; apt's archive is shared by hard links, which an overlay would copy.
PLAIN_DIRECTORIES = ("var/lib/rancher", "var/lib/kubelet", "var/cache/apt/archives")
SYSTEM_CALLS = "keyctl add_key request_key bpf perf_event_open @mount"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",  # /sys and /proc/sys: a kubelet and kube-proxy write there
    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # /tmp is on disk in Debian 12
}
MODULES = Path("/lib/modules")
UPLINK_RESOLVERS = Path("/run/systemd/resolve/resolv.conf")


def command(layout: Layout, host: str, resolv_conf: str, modules: Path = MODULES) -> list[str]:
    """The arguments. `resolv_conf` is the text of this machine's file; it decides whose name servers the host asks."""
    directory = layout.directory(host)
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={directory}/root",
        f"--machine={layout.machine(host)}",
        f"--hostname={host}",
        f"--network-bridge={layout.bridge}",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--console=read-only",
        "--capability=all",
        f"--system-call-filter={SYSTEM_CALLS}",
        f"--resolv-conf={resolv_mode(resolv_conf)}",
        "--bind=/dev/kmsg",
        *(f"--bind={directory}/plain/{path}:/{path}" for path in PLAIN_DIRECTORIES),
        *([f"--bind-ro={modules}"] if modules.is_dir() else []),
    ]


def resolv_mode(resolv_conf: str) -> str:
    """A name server on loopback is this machine's own and deaf to the hosts: then they get those behind it."""
    servers = [line.split()[1] for line in resolv_conf.splitlines() if line.startswith("nameserver ")]
    loopback = bool(servers) and all(server.startswith("127.") or server == "::1" for server in servers)
    return "copy-uplink" if loopback and UPLINK_RESOLVERS.exists() else "copy-host"
