"""One host: made, booted, unplugged, frozen, killed, stopped, removed."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from lab import apt, cgroups, container, disk, network, power, processes, ssh
from lab.errors import LabError
from lab.layout import COMPLETE, REPOSITORY, Layout

HALT = signal.SIGRTMIN + 4  # systemd(1): power off
SECONDS_TO_BOOT = 90
SECONDS_TO_DIE = 10


@dataclass(frozen=True)
class Host:
    """A host of a lab. Its disk outlives its power; `remove` takes both."""

    layout: Layout
    name: str

    @property
    def directory(self) -> Path:
        return self.layout.directory(self.name)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def exists(self) -> bool:
        return (self.directory / COMPLETE).exists()

    def init(self) -> processes.Process | None:
        """The host's PID 1 as this machine sees it; None without power."""
        return next(filter(processes.is_init, self._members(processes.table())), None)

    def all_processes(self) -> list[processes.Process]:
        """The processes that carry the host, and those inside it."""
        table = processes.table()
        powers = processes.powers(table, self.layout.name, self.name)
        return powers + processes.containers(table, self.root) + self._members(table)

    def _members(self, table: list[processes.Process]) -> list[processes.Process]:
        pids = cgroups.members(self._cgroups())
        return [process for process in table if process.pid in pids]

    def has_power(self) -> bool:
        return bool(self.all_processes())

    def state(self) -> str:
        """stopped, paused, cut or running."""
        if not self.has_power():
            return "stopped"
        if self.is_paused():
            return "paused"
        return "running" if network.is_plugged(self.layout, self.name) else "cut"

    def create(self, image: Path) -> None:
        """Give the host a disk: an overlay of the image, with a name, an address and SSH keys of its own."""
        if self.exists:
            return
        disk.remove_tree(self.directory)
        for part in ("work", "root", *(f"plain/{path}" for path in container.PLAIN_DIRECTORIES)):
            (self.directory / part).mkdir(parents=True)
        (self.directory / "image").write_text(str(image), encoding="utf-8")
        self._personalise(self.directory / "upper")
        apt.seed(self.directory / "plain")
        (self.directory / COMPLETE).touch()

    def _personalise(self, upper: Path) -> None:
        (upper / "etc/ssh").mkdir(parents=True)
        (upper / "root").mkdir(mode=0o700)
        address = f"{self.layout.address(self.name)}/{self.layout.network.prefixlen}"
        files = {
            "hostname": f"{self.name}\n",
            "hosts": f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost ip6-localhost\n",
            "machine-id": f"{uuid.uuid4().hex}\n",
            "muster-lab-network": f"ADDRESS={address}\nGATEWAY={self.layout.gateway}\n",
        }
        for name, text in files.items():
            (upper / "etc" / name).write_text(text, encoding="ascii")
        ssh.admit(self.layout, upper, self.name)

    def public_key(self) -> str:
        key = self.directory / "upper" / ssh.HOST_KEY
        return key.with_suffix(".pub").read_text(encoding="ascii")

    def boot(self) -> None:
        """Switch the host on; does nothing when it is on."""
        if self.has_power():
            return
        self.clear()
        # It holds nothing of ours open: who reads our output to its end must not wait for a host to stop.
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.posix_spawnp(
            power.PRIVATE_MOUNTS[0],
            [*power.PRIVATE_MOUNTS, sys.executable, "-P", "-m", processes.POWER, self.layout.name, self.name],
            {**container.ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.console), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def wait_until_ready(self) -> None:
        """Return when the host has booted and SSH lets us in; LabError if not within SECONDS_TO_BOOT."""
        deadline = time.monotonic() + SECONDS_TO_BOOT
        while not ssh.is_ready(self.layout, self.name):
            advice = f"{self.console} says why; `muster lab up {self.name}` tries again."
            if not self.has_power():
                raise LabError(f"{self.name} went off while booting: {advice}")
            if self.state() in {"paused", "cut"}:
                verb = {"paused": "pause --resume", "cut": "heal"}[self.state()]
                raise LabError(f"{self.name} is {self.state()}: `muster lab {verb} {self.name}` ends that.")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not answer on SSH in {SECONDS_TO_BOOT} s: {advice}")
            time.sleep(0.3)

    def halt(self) -> None:
        """Ask the host to shut down, as its power button would."""
        if self.is_paused():
            self.resume()
        init = self.init()
        if init:
            processes.send(HALT, [init])

    def kill(self) -> None:
        """Cut the power: every process of the host ends at once, nothing more is written."""
        deadline = time.monotonic() + SECONDS_TO_DIE
        while doomed := self.all_processes():
            if time.monotonic() > deadline:
                raise LabError(
                    f"The processes of {self.name} do not end, though killed: try again in a minute."
                )
            processes.kill(doomed)
            self._thaw()
            time.sleep(0.05)
        self.clear()

    def clear(self) -> None:
        """Remove what a host without power may have left: its link and its cgroups."""
        network.remove_link(self.layout.link(self.name))
        for directory in self._cgroups():
            cgroups.remove(directory)

    def _cgroups(self) -> list[Path]:
        listing = self.directory / power.CGROUPS_FILE
        lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
        return [Path(line) for line in lines]

    def remove(self) -> None:
        """Remove the disk; what it downloaded stays in the cache."""
        apt.harvest(self.directory / "plain")
        disk.remove_tree(self.directory)

    def is_paused(self) -> bool:
        control = cgroups.freezer(self._cgroups())
        return control is not None and cgroups.is_frozen(control)

    def pause(self) -> None:
        """Freeze every process of the host; its link stays up and silent."""
        self._set_frozen(frozen=True)

    def resume(self) -> None:
        self._set_frozen(frozen=False)

    def _set_frozen(self, *, frozen: bool) -> None:
        control = cgroups.freezer(self._cgroups())
        if control is None:
            raise LabError(f"{self.name} cannot be frozen: this machine has no cgroup freezer for it.")
        cgroups.set_frozen(control, frozen=frozen)

    def _thaw(self) -> None:
        """A process that is frozen by the v1 freezer ends only when it is thawed, even if it has been killed."""
        for control in (directory / name for directory in self._cgroups() for name in cgroups.FREEZERS):
            if control.exists():
                cgroups.set_frozen(control, frozen=False)
