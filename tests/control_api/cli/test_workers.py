"""`muster workers` and the shape of the command, without a server."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

from control_api.cli import workers
from control_api.cli.__main__ import build, main

WORKER = {
    "hostname": "w1",
    "ipAddress": "192.0.2.1",
    "status": "ACTIVE",
    "nodeState": "Ready",
    "heartbeatAgeSeconds": 12.3,
    "cpuCores": 8,
    "totalMemoryBytes": 33_285_996_544,
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Run the command; return what it exits with: 0, or the sentence that goes to stderr with status 1."""
    monkeypatch.setattr(sys, "argv", ["muster", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_workers_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    workers.print_table(
        [WORKER, {**WORKER, "hostname": "w2", "nodeState": None, "heartbeatAgeSeconds": None}]
    )
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "WORKER ADDRESS STATUS NODE HEARD CORES MEMORY",
        "w1 192.0.2.1 ACTIVE Ready 12 s ago 8 31.0 GiB",
        "w2 192.0.2.1 ACTIVE - never 8 31.0 GiB",
    ]


def test_an_api_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(monkeypatch, "workers", "list", "--url", "http://127.0.0.1:1", "--token", "x")
    assert isinstance(said, str)
    assert said.startswith("The control API at http://127.0.0.1:1 does not answer")
    assert "\n" not in said


def test_nobody_is_asked_for_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSTER_PASSWORD", raising=False)
    assert str(run(monkeypatch, "workers", "list")).startswith("Set MUSTER_TOKEN, or")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["serve", "--help"],
        ["db", "--help"],
        ["workers", "list", "--help"],
        ["enrolment-tokens", "create", "--help"],
    ],
)
def test_every_command_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 0
    assert "Usage:" in capsys.readouterr().out


def test_the_lab_is_a_noun_only_where_it_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = ModuleType("lab.cli")
    lab.app = typer.Typer()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lab.cli", lab)
    real = importlib.util.find_spec
    for found in (True, False):
        answer = real("typer") if found else None
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, here=answer: here if name.startswith("lab") else real(name),
        )
        assert ("lab" in [group.name for group in build().registered_groups]) == found


def test_without_the_libraries_of_the_api_the_command_starts(tmp_path: Path) -> None:
    """As `pip install muster-paas` leaves it: import fastapi and its kind fail."""
    hidden = "('fastapi', 'sqlalchemy', 'uvicorn', 'psycopg', 'alembic', 'structlog', 'limits', 'jwt')"
    code = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {hidden}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hide())
from control_api.cli.__main__ import main
main()
"""

    def muster(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[3],
        )

    assert muster("--help").returncode == 0
    assert (
        "does not answer" in muster("workers", "list", "--url", "http://127.0.0.1:1", "--token", "x").stderr
    )
    serve = muster("serve")
    assert (serve.returncode, serve.stderr) == (
        1,
        "This command needs the API's libraries; install muster-paas[api].\n",
    )
