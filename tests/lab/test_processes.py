"""Which processes carry a host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab import processes
from lab.processes import Process

ROOT = Path("/var/lib/muster-lab/dev/hosts/worker1/root")
NSPAWN = ("systemd-nspawn", "--boot", f"--directory={ROOT}", "--machine=dev-w1")
OF_WORKER10 = ("systemd-nspawn", f"--directory={str(ROOT).replace('worker1', 'worker10')}")


def process(pid: int, parent: int, *argv: str) -> Process:
    return Process(pid, parent, 1000 + pid, argv)


POWER = process(10, 1, "/usr/bin/python", "-P", "-m", "lab.power", "dev", "worker1")
CONTAINER = process(11, 10, *NSPAWN)
INIT = process(12, 11, "/usr/lib/systemd/systemd")
TABLE = [
    process(1, 0, "/sbin/init"),
    POWER,
    CONTAINER,
    INIT,
    process(13, 12, "/lib/systemd/systemd-journald"),
    process(20, 1, *OF_WORKER10),
    process(21, 20, "/usr/lib/systemd/systemd"),
    process(30, 1, "/usr/bin/python", "-P", "-m", "lab.power", "e2e", "worker1"),
    process(40, 1, "vim", "lab/power.py"),
]


def test_a_host_is_its_power_supply_its_container_and_its_init() -> None:
    assert processes.powers(TABLE, "dev", "worker1") == [POWER]
    assert processes.containers(TABLE, ROOT) == [CONTAINER]
    assert processes.init(TABLE, ROOT) == INIT


def test_a_host_that_is_just_starting_has_no_init_yet() -> None:
    starting = [POWER, CONTAINER, process(12, 11, *NSPAWN)]
    assert processes.init(starting, ROOT) is None


def test_a_host_is_known_when_its_power_supply_has_been_killed() -> None:
    assert processes.init([process(11, 1, *NSPAWN), INIT], ROOT) == INIT


def test_the_process_table_shows_this_process() -> None:
    found = {one.pid: one for one in processes.table()}[os.getpid()]
    assert found.parent == os.getppid()
    assert 0 < processes.age(found) < 3600


def test_a_killed_process_has_ended_and_a_living_one_has_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    listed = [one for one in processes.table() if one.pid == child.pid]
    assert len(listed) == 1
    assert not processes.have_ended(listed, 0.2)
    processes.kill(listed)
    assert processes.have_ended(listed, 5)
    processes.kill(listed)
    child.communicate()
