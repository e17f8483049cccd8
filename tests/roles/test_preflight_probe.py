"""The role `preflight` sees who holds a port, who answers, and how far the clocks are apart."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).parents[2] / "roles/preflight"


def load(kind: str) -> Any:
    name = f"preflight_probe_{kind}"
    specification = importlib.util.spec_from_file_location(name, ROLE / kind / "preflight_probe.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


probe = load("library")
action = load("action_plugins")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def test_who_listens_on_a_port_is_seen(listener: socket.socket) -> None:
    port = port_of(listener)
    program = Path("/proc/self/comm").read_text().strip()
    (held,) = probe.listeners(Path("/proc"), [port])
    assert (held["port"], held["program"]) == (port, program)


def test_a_udp_port_is_taken_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        assert [held["port"] for held in probe.listeners(Path("/proc"), [port_of(server)])] == [
            port_of(server)
        ]


def test_nobody_is_seen_on_a_port_that_is_free_or_not_asked_for(listener: socket.socket) -> None:
    assert probe.listeners(Path("/proc"), []) == []
    port = port_of(listener)
    listener.close()
    assert probe.listeners(Path("/proc"), [port]) == []


def test_a_socket_of_the_kernel_is_nobody_s() -> None:
    """As flannel's VXLAN on 8472/udp: it has no inode."""
    head = (
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    )
    row = "  12: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 {} 2 0 0\n"
    assert probe.waiting(head + row.format(0), "07") == []
    assert probe.waiting(head + row.format(99), "07") == [probe.Socket(8472, "99")]
    assert probe.waiting(head + row.format(99), "0A") == []


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("9:name=systemd:/system.slice/nginx.service\n0::/system.slice/nginx.service\n", "nginx.service"),
        (
            "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n",
            "postgresql@15-main.service",
        ),
        ("0::/system.slice/k3s.service/kubelet\n", "k3s.service"),
        ("0::/user.slice/user-0.slice/session-4.scope\n", "session-4.scope"),
        ("8:pids:/system.slice/other.service\n0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process_is_read_from_its_cgroup(cgroup: str, unit: str) -> None:
    assert probe.unit_in(cgroup) == unit


def test_a_machine_answers_by_accepting_or_by_refusing(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = port_of(other)
    doors = [{"name": "127.0.0.1", "ports": [port_of(listener)]}, {"name": "127.0.0.1", "ports": [closed]}]
    assert probe.silent(doors) == []


def test_one_port_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "refusal", lambda name, port: "" if port == 22 else "no answer")
    assert probe.knock("10.0.0.1", [443, 22]) == ""
    assert probe.knock("10.0.0.1", [443, 6443]) == "no answer"


def test_a_machine_that_is_silent_or_unknown_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.2)
    unknown = {"name": "no-such-host.invalid", "ports": [443]}
    assert probe.silent([unknown]) == [{"name": "no-such-host.invalid", "why": "the name is not known here"}]
    # An accept queue that is full lets a connection wait, as a firewall that drops does.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        assert probe.silent([{"name": "127.0.0.1", "ports": [port_of(server)]}]) == [
            {"name": "127.0.0.1", "why": "no answer"}
        ]
        for each in waiting:
            each.close()


def test_free_space_is_that_of_the_nearest_directory_that_is_there(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    assert probe.free_mb(tmp_path / "not/yet/there") == pytest.approx(
        free.f_bavail * free.f_frsize // 2**20, abs=64
    )


def test_the_servers_of_postgresql_are_found_by_version_and_name(tmp_path: Path) -> None:
    assert probe.postgresql_servers(tmp_path) == []
    files = [tmp_path / f"etc/postgresql/{cluster}/postgresql.conf" for cluster in ("15/main", "17/main")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    assert probe.postgresql_servers(tmp_path) == [str(file) for file in files]


@pytest.mark.parametrize(
    ("settings", "on"),
    [("", False), ("# ENABLED=yes\nENABLED=no\n", False), ("# ufw\nENABLED=yes\nLOGLEVEL=low\n", True)],
)
def test_ufw_is_on_where_its_settings_say_so(settings: str, on: bool) -> None:
    assert probe.ufw_is_on(settings) == on


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, False),
        ({"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"}, True),
        ({"sys/fs/cgroup/cgroup.controllers": "cpuset cpu\n", "proc/cgroups": "memory\t4\t58\t1\n"}, False),
        ({"proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t58\t1\n"}, True),
        ({"proc/cgroups": "memory\t0\t58\t0\n"}, False),
    ],
)
def test_a_kernel_that_cannot_bound_memory_is_seen(
    tmp_path: Path, files: dict[str, str], limits: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert probe.limits_memory(tmp_path) == limits


@pytest.mark.parametrize(
    ("clock", "off"),
    [(105.0, 0.0), (100.0, 0.0), (110.0, 0.0), (140.0, 30.0), (60.0, -40.0)],
)
def test_only_what_is_surely_off_counts(clock: float, off: float) -> None:
    """The clock was read at some moment between 100 and 110: how slow the run was proves nothing."""
    assert action.clock_off(clock, 100.0, 110.0) == off


def test_the_reason_is_the_last_line_that_was_said() -> None:
    assert action.reason(
        {"module_stderr": "warning\nsudo: a password is required\n", "msg": "MODULE FAILURE"}
    ) == ("sudo: a password is required")
    assert action.reason({"msg": "Missing sudo password"}) == "Missing sudo password"
    assert action.reason({}) == "nothing was said"
