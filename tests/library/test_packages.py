"""The module `packages`: what is missing, and when the lists are fetched anew. That it installs is seen in the lab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from library.packages import are_old, missing

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
