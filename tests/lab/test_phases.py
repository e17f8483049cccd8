"""The phases of `muster lab up`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.errors import LabError
from lab.phases import Phases


@pytest.fixture
def phases() -> Phases:
    return Phases(Console(file=io.StringIO(), width=80))


def shown(phases: Phases) -> str:
    phases.console.print(phases.table())
    assert isinstance(phases.console.file, io.StringIO)
    return phases.console.file.getvalue()


def test_every_phase_is_announced_and_timed(phases: Phases) -> None:
    with phases.phase("boot", "switching on master"):
        pass
    phases.seconds["boot"] = 2.04
    out = shown(phases)
    assert "==> boot: switching on master" in out
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["phase", "seconds"],
        ["boot", "2.0"],
        ["total", "2.0"],
    ]


def test_the_time_before_python_started_is_counted(phases: Phases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_UP_STARTED", "1000")
    phases.count_what_went_before(1031.5)
    assert phases.seconds == {"virtual environment": 31.5}


def test_what_the_system_refuses_becomes_a_sentence_that_says_what_to_do(phases: Phases) -> None:
    with (
        pytest.raises(LabError, match=r"'boot' failed .*No space left.*`muster lab down` clears up"),
        phases.phase("boot", "…"),
    ):
        raise OSError(28, "No space left on device")
