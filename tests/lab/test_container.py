"""How systemd-nspawn is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import container
from lab.layout import Layout

STATE = "/var/lib/muster-lab/dev/hosts/worker1"


def test_a_host_is_booted_so_that_k3s_can_run_in_it(tmp_path: Path) -> None:
    assert container.command(Layout("dev"), "worker1", "nameserver 192.0.2.1\n", tmp_path / "none") == [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={STATE}/root",
        "--machine=dev-w1",
        "--hostname=worker1",
        "--network-bridge=br-dev",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--console=read-only",
        "--capability=all",
        "--system-call-filter=keyctl add_key request_key bpf perf_event_open @mount",
        "--resolv-conf=copy-host",
        "--bind=/dev/kmsg",
        f"--bind={STATE}/plain/var/lib/rancher:/var/lib/rancher",
        f"--bind={STATE}/plain/var/lib/kubelet:/var/lib/kubelet",
        f"--bind={STATE}/plain/var/cache/apt/archives:/var/cache/apt/archives",
    ]


def test_a_host_sees_the_machines_kernel_modules_where_there_are_some(tmp_path: Path) -> None:
    assert container.command(Layout("dev"), "master", "", tmp_path)[-1] == f"--bind-ro={tmp_path}"


@pytest.mark.parametrize(
    ("resolv_conf", "mode"),
    [
        ("nameserver 192.0.2.1\n", "copy-host"),
        ("# a comment\nnameserver 127.0.0.53\noptions edns0\n", "copy-uplink"),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "copy-host"),
        ("search example.org\n", "copy-host"),
    ],
)
def test_name_servers_on_loopback_are_passed_by(
    resolv_conf: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "UPLINK_RESOLVERS", tmp_path)
    assert container.resolv_mode(resolv_conf) == mode
