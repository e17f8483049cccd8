"""The module `packages`: what is missing, and when the lists are fetched anew. That it installs is seen in the lab."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from library.packages import PATIENCE, PAUSE, are_old, main, missing, when_free

TABLE = "nginx installed\npostgresql config-files\nredis-server half-configured\ncurl installed\n"


@pytest.mark.parametrize(
    ("name", "is_missing"),
    [("nginx", False), ("postgresql", True), ("redis-server", True), ("curl", False), ("certbot", True)],
)
def test_what_is_not_wholly_installed_is_missing(name: str, is_missing: bool) -> None:
    assert missing([name], TABLE) == ([name] if is_missing else [])


def test_lists_are_old_after_their_time_or_when_there_are_none(tmp_path: Path) -> None:
    assert are_old(tmp_path, 86_400, now=0.0)
    (tmp_path / "deb.example_dists_stable_InRelease").touch()
    os.utime(tmp_path, (1000, 1000))
    assert not are_old(tmp_path, 3600, now=4600.0)
    assert are_old(tmp_path, 3600, now=4601.0)


class Apt:
    """Answers like apt-get, one answer after the other."""

    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self._answers = list(answers)

    def __call__(self, _command: list[str]) -> tuple[int, str, str]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


BUSY = (100, "", "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)\n")


def test_another_apt_is_waited_for() -> None:
    pauses: list[float] = []
    assert when_free(["apt-get"], Apt(BUSY, BUSY, (0, "", "")), pauses.append) == (0, "", "")
    assert pauses == [PAUSE, PAUSE]


def test_another_apt_that_does_not_end_is_named() -> None:
    pauses: list[float] = []
    assert when_free(["apt-get"], Apt(BUSY), pauses.append) == BUSY
    assert sum(pauses) == PATIENCE


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"name": "nginx"}, "there is no name, names is missing"),
        ({"names": "nginx", "recommends": "no"}, "names must be a list, recommends must be a bool"),
    ],
)
def test_a_task_that_is_wrong_is_told_how(
    given: dict[str, str], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(json.dumps({**given, "_ansible_check_mode": True}))
    assert json.loads(capsys.readouterr().out) == {"failed": True, "msg": f"The task is wrong: {wrong}."}
