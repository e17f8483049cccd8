"""The module `systemd_units`: what a unit needs to be told, from what systemd shows of it and from its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from library.systemd_units import Unit, main, run, seconds, verbs, when_written

SHOW = """\
LoadState={load}
ActiveState={state}
UnitFileState={enabled}
NeedDaemonReload={reload}
FragmentPath={fragment}
DropInPaths={drop_ins}
InactiveExitTimestamp=Sun 2026-11-29 20:11:47.100000 UTC
StateChangeTimestamp=Sun 2026-11-29 20:30:00.000000 UTC
"""
NEVER = (
    "LoadState={load}\nActiveState=inactive\nUnitFileState=\nInactiveExitTimestamp=\nStateChangeTimestamp=\n"
)
BEGAN = seconds("Sun 2026-11-29 20:11:47.100000 UTC")
WRITTEN = {"/etc/before": BEGAN - 0.01, "/etc/after": BEGAN + 0.01, "/etc/late": BEGAN + 86_400}


def show(**other: str) -> str:
    usual = {"load": "loaded", "state": "active", "enabled": "enabled", "reload": "no"}
    files = {"fragment": "/lib/systemd/system/a.service", "drop_ins": ""}
    return SHOW.format(**{**usual, **files, **other})


def unit(*, reads: str = "", on_reload: str = "", started: bool = True, restart: str = "now") -> Unit:
    return {
        "reads": reads.split(),
        "reads_on_reload": on_reload.split(),
        "started": started,
        "restart": restart,
    }


@pytest.mark.parametrize("state", ["active", "activating", "reloading"])
def test_a_unit_that_has_read_everything_is_left_alone(state: str) -> None:
    assert (
        verbs(show(state=state), unit(reads="/etc/before /etc/none", on_reload="/etc/after"), WRITTEN) == []
    )


def test_a_unit_that_began_before_a_file_was_written_is_restarted() -> None:
    assert verbs(show(), unit(reads="/etc/before /etc/after"), WRITTEN) == ["restart"]


def test_what_is_read_on_reload_is_reloaded_once() -> None:
    assert verbs(show(), unit(on_reload="/etc/after"), WRITTEN) == []
    assert verbs(show(), unit(on_reload="/etc/late"), WRITTEN) == ["reload"]


def test_a_restart_makes_a_reload_needless() -> None:
    assert verbs(show(), unit(reads="/etc/after", on_reload="/etc/late"), WRITTEN) == ["restart"]


def test_unit_files_of_our_own_are_read_anew_and_the_unit_restarted() -> None:
    ours = {
        "fragment": "/etc/systemd/system/a.service",
        "drop_ins": "/lib/systemd/a.conf /etc/systemd/system/a.conf",
    }
    for path in ("/etc/systemd/system/a.service", "/etc/systemd/system/a.conf"):
        assert verbs(show(**ours, reload="yes"), unit(), {path: BEGAN + 1}) == ["daemon-reload", "restart"]
        assert verbs(show(**ours), unit(), {path: BEGAN + 1}) == ["restart"]
        assert verbs(show(**ours), unit(), {path: BEGAN - 1}) == []


def test_unit_files_of_a_package_are_the_business_of_the_package() -> None:
    written = {"/lib/systemd/system/a.service": BEGAN + 1}
    assert verbs(show(reload="yes"), unit(), written) == ["daemon-reload"]


def test_what_must_not_be_restarted_is_still_reloaded() -> None:
    never = unit(reads="/etc/after", on_reload="/etc/late", restart="never")
    assert verbs(show(), never, WRITTEN) == ["reload"]


@pytest.mark.parametrize("state", ["inactive", "failed", "deactivating"])
def test_a_unit_that_does_not_run_is_started_and_not_restarted(state: str) -> None:
    assert verbs(show(state=state), unit(reads="/etc/after"), WRITTEN) == ["start"]


def test_a_new_unit_is_made_known_enabled_and_started() -> None:
    assert verbs(NEVER.format(load="not-found"), unit(reads="/etc/after"), WRITTEN) == [
        "daemon-reload",
        "enable",
        "start",
    ]
    assert verbs(NEVER.format(load="loaded"), unit(), WRITTEN) == ["start"]


@pytest.mark.parametrize("enabled", ["static", "generated", "alias", "indirect", "enabled-runtime"])
def test_only_what_is_disabled_is_enabled(enabled: str) -> None:
    assert verbs(show(enabled=enabled), unit(), WRITTEN) == []
    assert verbs(show(enabled="disabled"), unit(), WRITTEN) == ["enable"]


def test_a_unit_that_is_not_to_run_here_is_only_enabled() -> None:
    assert verbs(show(state="inactive", enabled="disabled"), unit(started=False), WRITTEN) == ["enable"]


def test_the_time_of_systemd_is_read_in_utc() -> None:
    assert seconds("Thu 1970-01-01 01:00:00.500000 UTC") == 3600.5


def test_a_file_that_was_moved_here_counts_from_then(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("of long ago")
    os.utime(old, (0, 0))
    old.rename(tmp_path / "new")
    assert when_written([str(tmp_path / "new")])[str(tmp_path / "new")] > 0


def test_of_a_link_the_later_of_link_and_target_counts(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("")
    link.symlink_to(target)
    target.write_text("changed behind the link")
    os.utime(target)
    assert when_written([str(link)]) == {str(link): target.stat().st_ctime}


def test_of_a_pattern_the_latest_that_matches_counts(tmp_path: Path) -> None:
    for name in ("images-1.tar", "images-2.tar", "other"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / "images-1.tar")
    pattern = str(tmp_path / "images-*")
    assert when_written([pattern]) == {pattern: (tmp_path / "images-1.tar").stat().st_ctime}


def test_files_that_are_not_there_are_passed_over(tmp_path: Path) -> None:
    assert when_written([str(tmp_path / "none")]) == {}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"units": [{"read": []}], "write": []}, "there is no write, a unit has no read, a unit has no name"),
        ({"units": [{"name": "a", "reads": "/etc/a"}]}, "reads of a unit must be a list"),
        (
            {"units": [{"name": "a", "restart": "later"}]},
            "restart of a unit must be one of now, report, never",
        ),
    ],
)
def test_a_task_that_is_wrong_is_told_how(
    given: dict[str, Any], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(json.dumps({**given, "_ansible_check_mode": True}))
    told = json.loads(capsys.readouterr().out)
    assert told == {"failed": True, "msg": f"The task is wrong: {wrong}."}


def test_a_journal_may_hold_any_bytes() -> None:
    assert run(["printf", r"\377 is no text"]) == (0, "\ufffd is no text", "")
