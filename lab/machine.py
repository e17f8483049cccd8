"""This machine: whether it can carry a lab, the packages it needs, and its settings that hosts change for all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.commands import run
from lab.errors import LabError
from lab.layout import STATES

# A command that must exist, and the Debian package that brings it.
PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ssh": "openssh-client",
    "systemd-nspawn": "systemd-container",
}
# Settings that are one for the whole kernel: the lab turns on forwarding, a kubelet in a host sets the others.
KERNEL_SETTINGS = (
    "net/ipv4/ip_forward",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
SETTINGS = Path("/proc/sys")
KEPT_SETTINGS = STATES / ".kernel-settings.json"


def why_not() -> str | None:
    """The reason why no lab can run here, as the rest of a sentence, or None."""
    if os.geteuid() != 0:
        return "a lab needs root: it mounts file systems and makes network links"
    release = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    if "VERSION_CODENAME=bookworm" not in release:
        return (
            "the hosts are made from this machine's own Debian 12 package sources, and this is another system"
        )
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii").split():
        return "this kernel has no overlay file system: load it with `modprobe overlay`"
    return None


def missing_packages() -> list[str]:
    return [package for command, package in PACKAGES.items() if shutil.which(command) is None]


def install(packages: list[str]) -> None:
    advice = "Check this machine's apt sources and network, then run this again."
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "--quiet=2", "update", otherwise=advice)
    command = ["apt-get", "--quiet=2", "install", "--yes", "--no-install-recommends", *packages]
    run(*command, environment=environment, otherwise=advice)


def keep_kernel_settings() -> None:
    """Note the settings as they were before the first lab, and turn on forwarding."""
    with _states_locked():
        if not KEPT_SETTINGS.exists():
            KEPT_SETTINGS.write_text(json.dumps(_read_settings()), encoding="ascii")
        _write_settings({"net/ipv4/ip_forward": "1"})


def restore_kernel_settings() -> list[str]:
    """When no lab is left: give the settings back their values; return the names of those that had changed."""
    if not STATES.exists():
        return []
    with _states_locked():
        if any(path.is_dir() for path in STATES.iterdir()) or not KEPT_SETTINGS.exists():
            return []
        changed = _write_settings(json.loads(KEPT_SETTINGS.read_text(encoding="ascii")))
        KEPT_SETTINGS.unlink()
        STATES.rmdir()
        return changed


def _read_settings() -> dict[str, str]:
    readable = [name for name in KERNEL_SETTINGS if (SETTINGS / name).exists()]
    return {name: (SETTINGS / name).read_text(encoding="ascii").strip() for name in readable}


def _write_settings(wanted: dict[str, str]) -> list[str]:
    now = _read_settings()
    changed = [name for name, value in wanted.items() if now.get(name) != value]
    for name in changed:
        (SETTINGS / name).write_text(wanted[name], encoding="ascii")
    return changed


@contextmanager
def _states_locked() -> Iterator[None]:
    STATES.mkdir(parents=True, exist_ok=True)
    directory = os.open(STATES, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


@contextmanager
def one_at_a_time(state: Path) -> Iterator[None]:
    """Hold the lab while it is changed; a second command that would change it is refused."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise LabError(
            f"Another command is changing the lab '{state.name}': wait until it has ended, then try again."
        ) from exc
    finally:
        os.close(directory)
