"""The module `stale_unit`: what a service has not read, from what systemd shows of it and from files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from library.stale_unit import seconds, when_written, written_since

SHOW = """\
ActiveState={state}
FragmentPath=/etc/systemd/system/a.service
NeedDaemonReload={reload}
InactiveExitTimestamp=Sun 2026-11-29 20:11:47.100000 UTC
StateChangeTimestamp=Sun 2026-11-29 20:30:00.000000 UTC
"""
BEGAN = seconds("Sun 2026-11-29 20:11:47.100000 UTC")
FILES = {"/etc/before": BEGAN - 0.01, "/etc/after": BEGAN + 0.01, "/etc/late": BEGAN + 86_400}


@pytest.mark.parametrize(
    ("state", "reload", "reads_on_reload", "unread"),
    [
        ("active", "no", False, ["/etc/after", "/etc/late"]),
        ("activating", "no", False, ["/etc/after", "/etc/late"]),
        ("active", "no", True, ["/etc/late"]),
        ("active", "yes", True, ["/etc/late", "/etc/systemd/system/a.service"]),
        ("inactive", "yes", False, []),
        ("failed", "no", False, []),
    ],
)
def test_a_service_is_stale_when_it_runs_with_older_files(
    state: str, reload: str, reads_on_reload: bool, unread: list[str]
) -> None:
    show = SHOW.format(state=state, reload=reload)
    assert written_since(show, FILES, reads_on_reload=reads_on_reload) == unread


def test_a_unit_that_is_not_known_is_not_stale() -> None:
    show = "ActiveState=inactive\nInactiveExitTimestamp=\nStateChangeTimestamp=\n"
    assert written_since(show, FILES, reads_on_reload=False) == []


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


def test_files_that_are_not_there_are_passed_over(tmp_path: Path) -> None:
    assert when_written([str(tmp_path / "none")]) == {}
