"""Runs on a host: prints as JSON what a run of site.yml has made of it. See state.py."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOTS = [
    *("/etc", "/opt/muster", "/usr/local"),
    *("/var/lib/muster", "/var/lib/muster-agent", "/var/lib/muster-firewall"),
    "/var/lib/rancher/k3s/server/manifests",
]
# Their contents are other ones every time: secrets, certificates, the state of the agent, what names the machine.
ANEW = re.compile(
    "^/etc/muster/(secrets|tls)/|^/etc/muster-agent/ca.pem$|^/var/lib/muster|^/etc/redis/users.acl$"
    "|^/etc/rancher/(node/|k3s/(join-token|k3s.yaml)$)|^/etc/(machine-id|ssh/ssh_host_.*)$|/ssl-cert-snakeoil[.]"
)
PASSED_OVER = re.compile(
    "/__pycache__(/|$)|^/var/lib/muster/.*sock|/lost\\+found$"
    "|^/etc/(sudoers.d/deploy|(passwd|group|shadow|gshadow|subuid|subgid)-?)$"  # they know the test's own user
)
COMMANDS = {
    "packages": ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\n"],
    "users": ["sh", "-c", "getent passwd | grep -v ^deploy: | cut -d: -f1,6,7 | sort"],
    "enabled units": ["systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--no-pager"],
    "our units": [
        *("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager"),
        *("muster-*", "k3s*", "nginx*", "redis*", "postgresql*"),
    ],
    "rules": ["nft", "--stateless", "list", "chain", "inet", "muster", "input"],
    "redis": ["redis-cli", "ping"],
    "postgresql": ["runuser", "-u", "postgres", "--", "psql", "-Atc", "SHOW shared_buffers"],
    "api": [
        "curl",
        "--silent",
        "--insecure",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "https://127.0.0.1/",
    ],
}


def files() -> Iterator[Path]:
    for root in map(Path, ROOTS):
        if root.exists():
            yield root
        for directory, below, names in os.walk(root):
            yield from (Path(directory, name) for name in below + names)


def describe(path: Path) -> str:
    status = path.lstat()
    owner = f"{pwd.getpwuid(status.st_uid).pw_name}:{grp.getgrgid(status.st_gid).gr_name}"
    parts = [stat.filemode(status.st_mode), owner]
    if path.is_symlink():
        parts.append(str(path.readlink()))
    elif path.is_file() and not ANEW.search(str(path)):
        parts.append(hashlib.sha256(without_addresses(path.read_bytes())).hexdigest())
    return " ".join(parts)


def without_addresses(content: bytes) -> bytes:
    return re.sub(rb"10\.213\.\d+\.", b"NET.", content)


def answer(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        )
    except FileNotFoundError:
        return "not there"
    return without_addresses(done.stdout.encode()).decode()


def main() -> None:
    found = {str(path): describe(path) for path in files() if not PASSED_OVER.search(str(path))}
    json.dump(found | {name: answer(command) for name, command in COMMANDS.items()}, sys.stdout)


if __name__ == "__main__":
    main()
