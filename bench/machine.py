"""What is measured on this machine: CPU time and memory of process trees, and what the machine is."""

from __future__ import annotations

import os
import platform
import random
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """Return the process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if stat := _stat(int(entry.name)):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(*roots: int) -> float:
    """Return the CPU time, user and system, that these process trees have used, with that of children who ended."""
    spent = 0
    for pid in (pid for root in roots for pid in tree(root)):
        if stat := _stat(pid):
            spent += sum(int(ticks) for ticks in stat[11:15])
    return spent / TICKS


def memory_mib(*roots: int) -> float:
    """Return the resident memory of these process trees in MiB."""
    pages = 0
    for pid in (pid for root in roots for pid in tree(root)):
        if stat := _stat(pid):
            pages += int(stat[21])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _stat(pid: int) -> list[str]:
    """Return what follows the name in /proc/<pid>/stat; nothing when the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    """Return a port of loopback that nobody has.

    None of those that outgoing connections get: who tries such a one before anyone listens there may meet himself.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise SystemExit("There is no free port between 20000 and 32000.")


@contextmanager
def process(
    command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] = {}, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in `log`, and stop it at the end."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}, cwd=cwd
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for_port(port: int, running: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Return once somebody listens there."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if running.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{running.args!r} does not serve:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)


def total_memory_mib() -> int:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def description() -> list[str]:
    """Return lines that say what this machine is."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        "unknown CPU",
    )
    return [
        f"{os.cpu_count()} CPUs ({model}), {total_memory_mib() / 1024:.0f} GiB memory, Linux {platform.release()}",
        f"Python {platform.python_version()}, "
        + ", ".join(filter(None, (_version(program) for program in PROGRAMS))),
    ]


PROGRAMS: tuple[tuple[str, ...], ...] = (("psql", "--version"), ("nginx", "-v"), ("node", "--version"))


def _version(command: Iterable[str]) -> str:
    try:
        done = subprocess.run([*command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    said = (done.stdout or done.stderr).strip()
    return (
        f"Node {said}" if said.startswith("v") else said.removeprefix("nginx version: ").split(" (Debian")[0]
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
