"""Where a host's cgroups are, on captured /proc files of machines with v1, v2 and both."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from lab import cgroups

MIXED = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
MIXED_CALLER = """\
9:name=systemd:/
6:freezer:/
4:memory:/tools/one
1:cpu:/
0::/
"""
JOINED = """\
33 24 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd
34 24 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
"""
JOINED_CALLER = """\
11:pids:/user.slice
4:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user@0.service
"""
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
V2_CALLER = "0::/user.slice/user-0.slice/user@0.service\n"
V2_CONTAINER = "30 23 0:26 /../../docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
V1_CONTAINER = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V1_CONTAINER_CALLER = "4:memory:/docker/abc/below\n"


@pytest.mark.parametrize(
    ("membership", "mountinfo", "expected"),
    [
        (
            MIXED_CALLER,
            MIXED,
            [
                "systemd/muster-lab-dev-m",
                "freezer/muster-lab-dev-m",
                "memory/tools/one/muster-lab-dev-m",
                "cpu/muster-lab-dev-m",
                "unified/muster-lab-dev-m",
            ],
        ),
        (
            JOINED_CALLER,
            JOINED,
            [
                "cpu,cpuacct/user.slice/muster-lab-dev-m",
                "systemd/user.slice/user@0.service/muster-lab-dev-m",
            ],
        ),
        (V2_CALLER, V2, ["muster-lab-dev-m"]),
        ("0::/\n", V2_CONTAINER, ["muster-lab-dev-m"]),
        (V1_CONTAINER_CALLER, V1_CONTAINER, ["memory/below/muster-lab-dev-m"]),
    ],
    ids=["v1 and v2", "joined v1 controllers", "v2", "v2 in a container", "v1 in a container"],
)
def test_a_host_has_one_cgroup_in_every_hierarchy(
    membership: str, mountinfo: str, expected: list[str]
) -> None:
    found = cgroups.directories("dev-m", membership, mountinfo)
    assert found == [Path("/sys/fs/cgroup") / path for path in expected]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["systemd/host/cgroup.procs", "unified/host/cgroup.freeze", "freezer/host/freezer.state"],
            "freezer.state",
        ),
        (["v2/host/cgroup.freeze"], "cgroup.freeze"),
    ],
    ids=["v1 and v2", "v2"],
)
def test_the_freezer_of_v1_is_used_where_there_is_one(
    tmp_path: Path, files: list[str], expected: str
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    found = cgroups.freezer([(tmp_path / file).parent for file in files])
    assert found is not None
    assert found.name == expected


def test_without_cgroups_there_is_neither_freezer_nor_process(tmp_path: Path) -> None:
    assert cgroups.freezer([tmp_path / "gone"]) is None
    assert cgroups.members([tmp_path / "gone"]) == set()


def test_processes_are_found_wherever_the_hosts_systemd_has_put_them(tmp_path: Path) -> None:
    for path, pids in {
        "host": "",
        "host/init.scope": "12\n",
        "host/system.slice/ssh.service": "30\n31\n",
    }.items():
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / path / "cgroup.procs").write_text(pids)
    assert cgroups.members([tmp_path / "gone", tmp_path / "host"]) == {12, 30, 31}


def test_a_host_that_stops_removes_cgroups_while_they_are_looked_at(tmp_path: Path) -> None:
    stopped = threading.Event()

    def start_and_stop_services() -> None:
        while not stopped.is_set():
            for number in range(20):
                (tmp_path / f"system.slice/{number}.service/inner").mkdir(parents=True)
            shutil.rmtree(tmp_path / "system.slice")

    systemd = threading.Thread(target=start_and_stop_services)
    systemd.start()
    try:
        assert [cgroups.members([tmp_path]) for _ in range(300)] == [set()] * 300
    finally:
        stopped.set()
        systemd.join()


@pytest.mark.parametrize(
    ("file", "text", "frozen"),
    [
        ("freezer.state", "FROZEN\n", True),
        ("freezer.state", "FREEZING\n", True),
        ("freezer.state", "THAWED\n", False),
        ("cgroup.freeze", "1\n", True),
        ("cgroup.freeze", "0\n", False),
    ],
)
def test_both_freezers_are_understood(tmp_path: Path, file: str, text: str, frozen: bool) -> None:
    control = tmp_path / file
    control.write_text(text)
    assert cgroups.is_frozen(control) is frozen
    cgroups.set_frozen(control, frozen=not frozen)
    assert cgroups.is_frozen(control) is not frozen


def test_removing_a_cgroup_takes_those_below_it(tmp_path: Path) -> None:
    (tmp_path / "host/kubepods/pod1").mkdir(parents=True)
    (tmp_path / "host/system.slice").mkdir()
    cgroups.remove(tmp_path / "host")
    assert list(tmp_path.iterdir()) == []
