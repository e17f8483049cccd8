"""Which processes carry a host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import processes
from lab.processes import Process

ROOT = Path("/var/lib/muster-lab/dev/hosts/worker1/root")
NSPAWN = ("systemd-nspawn", "--boot", f"--directory={ROOT}", "--machine=dev-w1")
OF_WORKER10 = ("systemd-nspawn", f"--directory={str(ROOT).replace('worker1', 'worker10')}")


def process(pid: int, parent: int, *argv: str) -> Process:
    return Process(pid, parent, 1000 + pid, argv)


POWER = process(10, 1, "/usr/bin/python", "-P", "-m", "lab.power", "dev", "worker1")
CONTAINER = process(11, 10, *NSPAWN)
TABLE = [
    process(1, 0, "/sbin/init"),
    POWER,
    CONTAINER,
    process(12, 11, "/usr/lib/systemd/systemd"),
    process(13, 12, "/lib/systemd/systemd-journald"),
    process(20, 1, *OF_WORKER10),
    process(21, 20, "/usr/lib/systemd/systemd"),
    process(30, 1, "/usr/bin/python", "-P", "-m", "lab.power", "e2e", "worker1"),
    process(40, 1, "vim", "lab/power.py"),
]


def test_a_hosts_power_supply_and_container_are_told_from_those_of_others() -> None:
    assert processes.powers(TABLE, "dev", "worker1") == [POWER]
    assert processes.containers(TABLE, ROOT) == [CONTAINER]


@pytest.mark.parametrize(
    ("line", "pids"),
    [
        ("NSpid:\t24310\t1\n", [24310, 1]),  # the first process of a host
        ("NSpid:\t24400\t97\t1\n", [24400, 97, 1]),  # the first process of a pod in a host
        ("NSpid:\t1\n", [1]),  # of the machine
        ("", []),  # a kernel without namespaces
    ],
)
def test_the_pids_of_a_process_are_read_outermost_first(line: str, pids: list[int]) -> None:
    assert processes.nested_pids(f"Name:\tsystemd\nTgid:\t24310\n{line}Threads:\t1\n") == pids


def test_no_process_of_this_machine_is_the_first_of_a_host() -> None:
    this = next(one for one in processes.table() if one.pid == os.getpid())
    assert not processes.is_init(this)


def test_the_process_table_shows_this_process() -> None:
    found = {one.pid: one for one in processes.table()}[os.getpid()]
    assert found.parent == os.getppid()
    assert 0 < processes.age(found) < 3600


def test_a_killed_process_has_ended_and_killing_it_again_does_no_harm() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()  # it has begun
    listed = [one for one in processes.table() if one.pid == child.pid]
    assert len(listed) == 1
    processes.kill(listed)
    child.communicate(timeout=5)
    assert child.returncode == -signal.SIGKILL
    assert [one for one in processes.table() if one.pid == child.pid] == []
    processes.kill(listed)
