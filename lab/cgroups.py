"""A cgroup of its own for every host, in every hierarchy of this machine (cgroups(7))."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

MOUNT = Path("/sys/fs/cgroup")  # of v2, where there is no v1
PREFIX = "muster-lab-"
FREEZERS = {"freezer.state": ("FROZEN", "THAWED"), "cgroup.freeze": ("1", "0")}
CPUSET = ("cpuset.cpus", "cpuset.mems")  # of v1, empty in a new cgroup, and empty ones admit no process


def mounts(mountinfo: str) -> dict[frozenset[str], tuple[Path, PurePosixPath]]:
    """In: text of /proc/self/mountinfo. Out: controllers (none for v2) -> mount point, and what is mounted there."""
    found = {}
    for line in mountinfo.splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            controllers = frozenset(options.split(",")) - {"rw", "xattr"} if kind == "cgroup" else frozenset()
            root, point = fields.split()[3:5]
            found[frozenset(controllers)] = (Path(point), PurePosixPath(root))
    return found


def memberships(text: str) -> dict[frozenset[str], PurePosixPath]:
    """In: text of /proc/<pid>/cgroup. Out: controllers (none for v2) -> path of the process's cgroup."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return {frozenset(filter(None, names.split(","))): PurePosixPath(path) for _, names, path in lines}


def directories(machine: str, membership: str, mountinfo: str) -> list[Path]:
    """The cgroup directories for a host which a process with this membership starts.

    They are below the process's own. Where v2 is all there is they are at its top, because a v2 cgroup that
    has processes cannot give controllers to a child ("no internal processes", cgroups(7)).
    """
    mounted = mounts(mountinfo)
    own = memberships(membership)
    only_v2 = set(own) == {frozenset()}
    found = []
    for controllers, path in own.items():
        if controllers in mounted:
            point, root = mounted[controllers]
            parent = root if only_v2 or not path.is_relative_to(root) else path
            found.append(point / parent.relative_to(root) / f"{PREFIX}{machine}")
    return found


def of_this_process() -> tuple[str, str]:
    """The membership of this process and the mounts to look it up in, as texts."""
    membership = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return membership, Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def members(directories: list[Path]) -> set[int]:
    """The processes in a host's cgroups. All of them are in every hierarchy, so that one tells."""
    present = [directory for directory in directories if directory.is_dir()]
    return {int(pid) for path in _tree(present[:1]) for pid in _read(path / "cgroup.procs").split()}


def _tree(directories: list[Path]) -> list[Path]:
    """The directories and all below them; what a stopping host removes meanwhile is left out."""
    return [Path(path) for directory in directories for path, _, _ in os.walk(directory)]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:  # the cgroup is being removed
        return ""


def freezer(directories: list[Path]) -> Path | None:
    """The file that freezes a host; the v1 freezer where there is one."""
    controls = [directory / name for name in FREEZERS for directory in directories]
    return next((control for control in controls if control.exists()), None)


def is_frozen(control: Path) -> bool:
    frozen, _ = FREEZERS[control.name]
    return control.read_text(encoding="ascii").strip() in {frozen, "FREEZING"}


def set_frozen(control: Path, *, frozen: bool) -> None:
    control.write_text(FREEZERS[control.name][0 if frozen else 1], encoding="ascii")


def make(directory: Path) -> None:
    """Make a host's cgroup anew, with every controller that its parent can give."""
    remove(directory)
    directory.mkdir(exist_ok=True)
    for setting in CPUSET:
        if (directory / setting).exists():
            (directory / setting).write_text((directory.parent / setting).read_text(encoding="ascii"))
    available = MOUNT / "cgroup.controllers"
    if directory.parent == MOUNT and available.exists():
        for controller in available.read_text(encoding="ascii").split():
            _enable(controller, directory.parent)


def _enable(controller: str, parent: Path) -> None:
    try:
        (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
    except OSError:
        return  # the parent has processes of its own: the host goes without this controller


def remove(directory: Path, seconds: float = 5) -> None:
    """Remove a cgroup and all below it. Processes that have just been killed are given time to leave."""
    deadline = time.monotonic() + seconds
    while directory.exists() and not _remove_now(directory) and time.monotonic() < deadline:
        time.sleep(0.05)


def _remove_now(directory: Path) -> bool:
    for path in sorted(_tree([directory]), key=lambda path: -len(path.parts)):
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # EBUSY: a process is still in it
            return False
    return True
