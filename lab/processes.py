"""The processes of lab hosts, found in the process table; no file can be out of date about them."""

from __future__ import annotations

import os
import signal
import time
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
        after_name = (
            entry.joinpath("stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:  # it has just ended
        return None
    if not argv:
        return None
    return Process(int(entry.name), int(after_name[1]), int(after_name[19]), tuple(map(os.fsdecode, argv)))


def containers(processes: Iterable[Process], root: Path) -> list[Process]:
    """The systemd-nspawn processes of the host with this root directory; while it starts there are several."""
    return [process for process in processes if f"--directory={root}" in process.argv]


def powers(processes: Iterable[Process], lab: str, host: str) -> list[Process]:
    """The processes of lab/power.py for this host."""
    return [process for process in processes if process.argv[-3:] == (POWER, lab, host)]


def init(processes: Iterable[Process], root: Path) -> Process | None:
    """The host's systemd: the child of its systemd-nspawn that has become another program."""
    listed = list(processes)
    pids = {process.pid for process in containers(listed, root)}
    return next((one for one in listed if one.parent in pids and one.pid not in pids), None)


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


def have_ended(processes: Iterable[Process], seconds: float) -> bool:
    """Wait until none of these processes is left; False when the time is over first."""
    deadline = time.monotonic() + seconds
    remaining = list(processes)
    while remaining and time.monotonic() < deadline:
        now = {(process.pid, process.started) for process in table()}
        remaining = [process for process in remaining if (process.pid, process.started) in now]
        if remaining:
            time.sleep(0.05)
    return not remaining
