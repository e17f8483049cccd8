#!/usr/bin/python
"""What a host looks like from inside, for the checks before a run: it only looks.

Standard library only, Python 3.8 or newer: it runs on the host, as root, without Ansible's library (docs/adr/0010).
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Set, Tuple

DOCUMENTATION = r"""
module: preflight_probe
short_description: Looks at a host's clock, disk, ports and its way to others, and changes nothing
description:
  - Says who listens on which port, how much disk space is free, which addresses answer, and what other things there
    are that bar the way.
  - On the controller, an action of the same name adds how far the clocks are apart.
options:
  disk:
    description: Path whose file system is looked at; it need not be there yet.
    type: path
    required: true
  ports:
    description: Ports to look at.
    type: list
    elements: int
    required: true
  doors:
    description: Names or addresses, each with the TCP ports that one answer is wanted from.
    type: list
    elements: dict
    default: []
author: Muster
"""
EXAMPLES = r"""
- name: Look at the host
  preflight_probe:
    disk: /var/lib
    ports: [443]
    doors: [{name: 192.0.2.10, ports: [443, 22]}]
"""
RETURN = r"""
clock:
  description: The host's clock, seconds since the epoch.
  type: float
  returned: success
free_mb:
  description: Free space for root.
  type: int
  returned: success
limits_memory:
  description: Whether the kernel can bound the memory of pods.
  type: bool
  returned: success
listeners:
  description: Who listens on the ports, as C({port, program, unit}).
  type: list
  returned: success
postgresql:
  description: The configuration files of the PostgreSQL servers that are set up, as Debian has them.
  type: list
  returned: success
ufw:
  description: Whether the firewall ufw is on.
  type: bool
  returned: success
silent:
  description: The doors that did not answer, as C({name, why}).
  type: list
  returned: success
"""

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
OPTIONS = ("disk", "ports", "doors")
LISTEN = "0A"  # of a TCP socket (include/net/tcp_states.h)
UNCONNECTED = "07"  # of a UDP socket that is bound
KERNEL = "0"  # a socket of the kernel itself, such as flannel's VXLAN, has no inode
SECONDS = 3
ANSWERS = (ConnectionRefusedError, ConnectionResetError)  # also an answer: there is a way to the machine


class Socket(NamedTuple):
    """A socket that waits for others."""

    port: int
    inode: str


def waiting(table: str, state: str) -> List[Socket]:
    """The sockets in this state in a table of /proc/net."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return [
        Socket(int(row[1].rsplit(":", 1)[1], 16), row[9])
        for row in rows
        if len(row) > 9 and row[3] == state and row[9] != KERNEL
    ]


def unit_in(cgroup: str) -> str:
    """The systemd unit in the text of /proc/<pid>/cgroup, '' when there is none."""
    found = re.findall(
        r"^(?:\d+:name=systemd|0:):.*/([^/\n]+\.(?:service|socket|scope))(?:/|$)", cgroup, re.MULTILINE
    )
    return found[0] if found else ""


def listeners(proc: Path, ports: Iterable[int]) -> List[Dict[str, Any]]:
    """Who waits for others on these ports, TCP or UDP: program and systemd unit, '' where they cannot be seen."""
    wanted = set(ports)
    sockets = [
        found
        for name, state in (("tcp", LISTEN), ("tcp6", LISTEN), ("udp", UNCONNECTED), ("udp6", UNCONNECTED))
        for found in waiting(text_of(proc / "net" / name), state)
        if found.port in wanted
    ]
    owners = owners_of(proc, {found.inode for found in sockets})
    held = sorted({(found.port, *owners.get(found.inode, ("", ""))) for found in sockets})
    return [{"port": port, "program": program, "unit": unit} for port, program, unit in held]


def owners_of(proc: Path, inodes: Set[str]) -> Dict[str, Tuple[str, str]]:
    """The program and the unit that hold each socket."""
    owners = {}
    for process in proc.glob("[0-9]*") if inodes else ():
        for inode in inodes.intersection(sockets_of(process)):
            owners[inode] = (text_of(process / "comm").strip(), unit_in(text_of(process / "cgroup")))
    return owners


def sockets_of(process: Path) -> List[str]:
    """The inodes of the sockets that a process holds; none when it has just ended."""
    links = [target_of(str(process / "fd" / name)) for name in names_in(process / "fd")]
    return [link[len("socket:[") : -1] for link in links if link.startswith("socket:[")]


def names_in(directory: Path) -> List[str]:
    try:
        return os.listdir(str(directory))
    except OSError:
        return []


def target_of(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # it was closed meanwhile
        return ""


def text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def free_mb(path: Path) -> int:
    """Space that is free for root on the file system where the path is, or will be."""
    present = next(each for each in (path, *path.parents) if each.exists())
    return shutil.disk_usage(str(present)).free // 2**20


def postgresql_servers(root: Path) -> List[str]:
    """The configuration of each PostgreSQL server, by version and name."""
    return sorted(str(found) for found in root.glob("etc/postgresql/*/*/postgresql.conf"))


def ufw_is_on(settings: str) -> bool:
    """Whether the firewall is on, by the text of /etc/ufw/ufw.conf."""
    return bool(re.search(r"^ENABLED=yes", settings, re.MULTILINE))


def limits_memory(root: Path) -> bool:
    """Whether a controller of memory is on, in the unified hierarchy or, where that is not there, in the older one."""
    unified = root / "sys/fs/cgroup/cgroup.controllers"
    if unified.exists():
        return "memory" in text_of(unified).split()
    rows = [line.split() for line in text_of(root / "proc/cgroups").splitlines()]
    return any(row[0] == "memory" and row[-1] == "1" for row in rows if row)


def silent(doors: List[Dict[str, Any]]) -> List[Dict[str, str]]:
    """The doors of which no port answers, and why."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda door: (door["name"], knock(door["name"], door["ports"])), doors)
        return [{"name": name, "why": why} for name, why in found if why]


def knock(name: str, ports: Iterable[int]) -> str:
    """'' when one of the ports answers, be it by refusing; else why the last one did not."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        whys = list(pool.map(lambda port: refusal(name, int(port)), ports))
    return whys[-1] if whys and all(whys) else ""


def refusal(name: str, port: int) -> str:
    try:
        socket.create_connection((name, port), timeout=SECONDS).close()
    except ANSWERS:
        return ""
    except socket.gaierror:
        return "the name is not known here"
    except socket.timeout:
        return "no answer"
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    return ""


def main(arguments: str = ARGUMENTS) -> None:
    """Look, and tell."""
    given = json.loads(arguments)
    wrong = [
        f"there is no {name}" for name in given if name not in OPTIONS and not name.startswith("_ansible_")
    ]
    wrong += [f"{name} is missing" for name in ("disk", "ports") if name not in given]
    if wrong:
        print(json.dumps({"failed": True, "msg": f"The task is wrong: {', '.join(wrong)}."}))
        sys.exit(1)
    seen = {
        "clock": time.time(),
        "free_mb": free_mb(Path(given["disk"])),
        "limits_memory": limits_memory(Path("/")),
        "listeners": listeners(Path("/proc"), map(int, given["ports"])),
        "postgresql": postgresql_servers(Path("/")),
        "ufw": ufw_is_on(text_of(Path("/etc/ufw/ufw.conf"))),
        "silent": silent(given.get("doors", [])),
    }
    print(json.dumps({"changed": False, **seen}))


if __name__ == "__main__":
    main()
