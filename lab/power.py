"""The power supply of one host, a process of its own: runs systemd-nspawn, and again whenever the host reboots."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab import cgroups, container, disk
from lab.errors import LabError
from lab.layout import Layout

# The host's disk is mounted for its own processes only: with them it is gone, and no other host holds a copy.
PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "slave", "--")
REBOOT = 133  # exit status of systemd-nspawn --keep-unit when the host reboots
CGROUPS_FILE = "cgroups"


def main(lab: str, host: str) -> int:
    """Run until the host is switched off; in mounts of our own (PRIVATE_MOUNTS). Returns the exit status."""
    os.chdir("/")
    layout = Layout(lab)
    disk.mount_overlay(layout.directory(host))
    resolv_conf = Path("/etc/resolv.conf").read_text(encoding="utf-8")
    command = container.command(layout, host, resolv_conf)
    directories = cgroups.directories(layout.machine(host), *cgroups.of_this_process())
    # Whoever clears up after us may be in another cgroup, and would look for ours in another place.
    listing = "".join(f"{directory}\n" for directory in directories)
    (layout.directory(host) / CGROUPS_FILE).write_text(listing, encoding="utf-8")
    while (status := _run(command, directories)) == REBOOT:
        pass
    for directory in directories:
        cgroups.remove(directory)
    return status


def _run(command: list[str], directories: list[Path]) -> int:
    for directory in directories:
        cgroups.make(directory)

    def enter() -> None:
        for directory in directories:
            (directory / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    return subprocess.run(command, env=container.ENVIRONMENT, preexec_fn=enter, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except LabError as exc:
        sys.exit(str(exc))
