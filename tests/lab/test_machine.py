"""Settings of the machine's kernel, and one command at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import machine
from lab.errors import LabError


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = tmp_path / "sys"
    for name, value in {"net/ipv4/ip_forward": "0", "vm/overcommit_memory": "0"}.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / name).write_text(f"{value}\n")
    states = tmp_path / "states"
    monkeypatch.setattr(machine, "SETTINGS", settings)
    monkeypatch.setattr(machine, "STATES", states)
    monkeypatch.setattr(machine, "KEPT_SETTINGS", states / ".kernel-settings.json")
    return settings


def values(kernel: Path) -> list[str]:
    return [(kernel / name).read_text().strip() for name in ("net/ipv4/ip_forward", "vm/overcommit_memory")]


def test_the_last_lab_to_go_leaves_the_kernel_as_the_first_found_it(kernel: Path, tmp_path: Path) -> None:
    for lab in ("first", "second"):
        (tmp_path / "states" / lab).mkdir(parents=True)
        machine.keep_kernel_settings()
        (kernel / "vm/overcommit_memory").write_text("1")  # a kubelet in a host
    assert values(kernel) == ["1", "1"]

    (tmp_path / "states/first").rmdir()
    assert machine.restore_kernel_settings() == []
    assert values(kernel) == ["1", "1"]

    (tmp_path / "states/second").rmdir()
    assert machine.restore_kernel_settings() == ["net/ipv4/ip_forward", "vm/overcommit_memory"]
    assert values(kernel) == ["0", "0"]
    assert not (tmp_path / "states").exists()
    assert machine.restore_kernel_settings() == []


def test_a_second_command_that_would_change_the_lab_is_refused(tmp_path: Path) -> None:
    with (
        machine.one_at_a_time(tmp_path / "dev"),
        pytest.raises(LabError, match="Another command is changing the lab 'dev'"),
        machine.one_at_a_time(tmp_path / "dev"),
    ):
        pass
    with machine.one_at_a_time(tmp_path / "dev"):
        assert (tmp_path / "dev").is_dir()
