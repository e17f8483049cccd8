"""Where a lab keeps its things and how its hosts are addressed: derived from the lab's name alone."""

from __future__ import annotations

import ipaddress
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

CACHE = Path("/var/cache/muster-lab")
STATES = Path("/var/lib/muster-lab")
REPOSITORY = Path(__file__).resolve().parents[1]
MASTER = "master"
COMPLETE = "complete"  # a file in the directory of a host whose disk has been made
MOST_WORKERS = 99
SERVERS_FROM = 100  # the numbers of further K3s servers, behind those of all workers


@dataclass(frozen=True)
class Layout:
    """Paths, names and addresses of one lab.

    The name of a network link has at most 15 characters (IFNAMSIZ), and systemd-nspawn calls a host's cable
    `vb-<machine>`; this is why names of labs and machines are short.
    """

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", self.name):
            raise LabError(
                f"MUSTER_LAB is '{self.name}': choose a name of one to eight lower-case letters and digits."
            )

    @property
    def state(self) -> Path:
        return STATES / self.name

    @property
    def inventory(self) -> Path:
        return self.state / "inventory"

    @property
    def variables(self) -> Path:
        return self.inventory / "group_vars/all/lab.yml"

    @property
    def stand_in(self) -> Path:
        return self.state / "k3s"

    @property
    def key(self) -> Path:
        return self.state / "ssh_key"

    @property
    def known_hosts(self) -> Path:
        return self.state / "known_hosts"

    @property
    def control_sockets(self) -> Path:
        """Where Ansible keeps its open SSH connections to this lab, so that `down` can close them."""
        return self.state / "ssh"

    @property
    def bridge(self) -> str:
        return f"br-{self.name}"

    @property
    def nat_table(self) -> str:
        return f"muster_{self.name}"

    @property
    def network(self) -> ipaddress.IPv4Network:
        """A /24 of 10.213.0.0/16; the same name gives the same network on every machine."""
        third = zlib.crc32(self.name.encode()) % 254 + 1
        return ipaddress.IPv4Network(f"10.213.{third}.0/24")

    @property
    def gateway(self) -> str:
        return str(self.network[1])

    @property
    def api_url(self) -> str:
        return f"https://{self.address(MASTER)}"

    def address(self, host: str) -> str:
        return str(self.network[10 + number(host)])

    def machine(self, host: str) -> str:
        """The host's name on this machine: in process lists, of its cgroups and of its link."""
        kind, index = host[0], number(host) % SERVERS_FROM
        return f"{self.name}-m" if host == MASTER else f"{self.name}-{kind}{index}"

    def link(self, host: str) -> str:
        """This machine's end of the host's network cable."""
        return f"vb-{self.machine(host)}"

    def directory(self, host: str) -> Path:
        return self.state / "hosts" / host

    def hosts(self) -> list[str]:
        """The hosts that have a disk, the master first."""
        return [name for name in self.traces() if (self.directory(name) / COMPLETE).exists()]

    def traces(self) -> list[str]:
        """Those hosts, and what an `up` that was interrupted began."""
        return sorted((path.name for path in (self.state / "hosts").glob("*")), key=number)


def host_names(workers: int) -> list[str]:
    return [MASTER, *(f"worker{index}" for index in range(1, workers + 1))]


def number(host: str) -> int:
    """0 for the master, n for worker<n>, 100 + n for server<n>."""
    if host == MASTER:
        return 0
    match = re.fullmatch(r"worker([1-9][0-9]?)|server([1-9])", host)
    if match is None:
        raise LabError(
            f"'{host}' is no host of a lab: they are called {MASTER}, worker1 to worker{MOST_WORKERS}, "
            "and server1 to server9 for more servers of K3s."
        )
    return int(match[1]) if match[1] else SERVERS_FROM + int(match[2])


def is_worker(host: str) -> bool:
    return 0 < number(host) < SERVERS_FROM


def is_server(host: str) -> bool:
    """Whether the host is a server of K3s beside the master."""
    return number(host) > SERVERS_FROM


def of_environment() -> Layout:
    """The lab that the environment variable MUSTER_LAB names; `lab` without it."""
    return Layout(os.environ.get("MUSTER_LAB") or "lab")
