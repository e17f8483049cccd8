"""What the commands say when there is nothing to do, or nothing that they could do."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab import cli, layout, machine


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lab is up, and whoever runs the tests counts as root."""
    monkeypatch.setattr(layout, "STATES", tmp_path)
    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)
    monkeypatch.setenv("MUSTER_LAB", "none")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, arguments)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("verb", ["ssh", "cut", "heal", "kill", "wipe", "pause"])
def test_a_host_that_is_not_there_is_one_sentence_and_exit_status_1(verb: str) -> None:
    assert run(verb, "worker1") == (
        1,
        "The lab 'none' has no host 'worker1': `muster lab status` lists its hosts.",
    )


@pytest.mark.usefixtures("root")
def test_status_of_no_lab_says_how_to_boot_one() -> None:
    assert run("status") == (0, "The lab 'none' is not up: `muster lab up` boots it.")


def test_where_no_lab_can_run_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "why_not", lambda: "a lab needs root")
    assert run("up") == (1, "No lab can run here: a lab needs root.")
    assert run("can-run") == (1, "a lab needs root")


def test_only_root_has_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    assert run("status") == (1, "A lab belongs to root: run this as root.")
    assert run("down") == (1, "A lab belongs to root: run this as root.")
