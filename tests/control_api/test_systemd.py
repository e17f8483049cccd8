"""sd_notify: said to the socket of the service manager, and to nobody without one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from control_api.systemd import notify


def test_a_state_reaches_the_service_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    abstract = f"muster-test-{tmp_path.name}-{id(tmp_path)}"
    for address, bound in (
        (str(tmp_path / "socket"), str(tmp_path / "socket")),
        (f"@{abstract}", f"\0{abstract}"),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(bound)
            channel.settimeout(5)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            notify("READY=1")
            assert channel.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_a_service_manager_that_is_gone_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("WATCHDOG=1")
