"""The processes of lab hosts, found in the process table: no file with PIDs can be out of date."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POWER = "lab.power"


@dataclass(frozen=True)
class Process:
    """A process of this machine. `started` is in clock ticks since the machine's start (proc(5), field 22)."""

    pid: int
    parent: int
    started: int
    argv: tuple[str, ...]


def table() -> list[Process]:
    """All processes that have a command line: neither kernel threads nor zombies."""
    return [found for entry in PROC.iterdir() if entry.name.isdigit() and (found := _read(entry))]


def _read(entry: Path) -> Process | None:
    try:
        argv = entry.joinpath("cmdline").read_bytes().split(b"\0")[:-1]
        stat = entry.joinpath("stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just ended
        return None
    if not argv:
        return None
    fields = stat.rpartition(")")[2].split()  # the third field and those after it
    return Process(int(entry.name), int(fields[1]), int(fields[19]), tuple(map(os.fsdecode, argv)))


def containers(processes: Iterable[Process], root: Path) -> list[Process]:
    """The systemd-nspawn processes of the host with this root directory; while it starts there are several."""
    return [process for process in processes if f"--directory={root}" in process.argv]


def powers(processes: Iterable[Process], lab: str, host: str) -> list[Process]:
    """The processes of lab/power.py for this host."""
    return [process for process in processes if process.argv[-3:] == (POWER, lab, host)]


def is_init(process: Process) -> bool:
    """True for the first process of a host: PID 1 of a namespace directly below this machine's."""
    try:
        return nested_pids((PROC / str(process.pid) / "status").read_text(encoding="utf-8"))[1:] == [1]
    except OSError:  # it has just ended
        return False


def nested_pids(status: str) -> list[int]:
    """In: text of /proc/<pid>/status. Out: the process's PID here and in each namespace below (proc(5), NSpid)."""
    lines = [line.split() for line in status.splitlines() if line.startswith("NSpid:")]
    return [int(pid) for line in lines for pid in line[1:]]


def age(process: Process) -> float:
    """Seconds since the process was started."""
    uptime = float(PROC.joinpath("uptime").read_text(encoding="ascii").split()[0])
    return uptime - process.started / os.sysconf("SC_CLK_TCK")


def send(number: int, processes: Iterable[Process]) -> None:
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue  # it has ended by itself


def kill(processes: Iterable[Process]) -> None:
    send(signal.SIGKILL, processes)
