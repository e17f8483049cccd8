"""SSH into hosts: one key per lab, one host key per host, known before the first connection."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.commands import run, succeeds
from lab.layout import Layout

HOST_KEY = Path("etc/ssh/ssh_host_ed25519_key")
AUTHORIZED_KEYS = Path("root/.ssh/authorized_keys")


def options(layout: Layout) -> list[str]:
    """What makes ssh(1) trust this lab's hosts, and no others, whatever else the user has configured."""
    return [
        f"-oUserKnownHostsFile={layout.known_hosts}",
        "-oGlobalKnownHostsFile=/dev/null",
        "-oStrictHostKeyChecking=yes",
        "-oIdentitiesOnly=yes",
    ]


def command(layout: Layout, host: str) -> list[str]:
    quiet = ["-oConnectTimeout=5", "-oServerAliveInterval=10", "-oLogLevel=ERROR"]
    return ["ssh", "-i", str(layout.key), *options(layout), *quiet, f"root@{layout.address(host)}"]


def generate(key: Path, comment: str) -> None:
    """Make an ed25519 key pair, `key` and `key`.pub; nothing when there is one."""
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", key)


def admit(layout: Layout, root: Path, host: str) -> None:
    """Give a host its own key, and let the lab's key in as root."""
    generate(root / HOST_KEY, host)
    (root / AUTHORIZED_KEYS).parent.mkdir(mode=0o700, exist_ok=True)
    (root / AUTHORIZED_KEYS).write_bytes(layout.key.with_suffix(".pub").read_bytes())


def known_hosts_line(address: str, public_key: str) -> str:
    """One line of a known_hosts file (sshd(8)); the key's comment is left out."""
    kind, key = public_key.split()[:2]
    return f"{address} {kind} {key}\n"


def is_ready(layout: Layout, host: str) -> bool:
    """True when SSH lets us in and the host's systemd has finished booting, even if a unit of it failed."""
    return succeeds(*command(layout, host), "systemctl is-system-running --wait >/dev/null || true")


def read(layout: Layout, host: str, path: str) -> str:
    """The text of a file of a host."""
    advice = f"{host} has no {path} yet, or is off: `muster lab up` builds it."
    return run(*command(layout, host), "cat", path, otherwise=advice)


def close_connections(layout: Layout) -> None:
    """End the connections that Ansible keeps open after a run."""
    for socket in layout.control_sockets.glob("*"):
        end = ["ssh", "-O", "exit", f"-oControlPath={socket}", "lab"]
        subprocess.run(end, stdin=subprocess.DEVNULL, capture_output=True, check=False)
