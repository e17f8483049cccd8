"""What hosts take over from the machine's apt, from captured files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import apt

DEB822 = """\
# Debian's own
Types: deb
# a snapshot: http://snapshot.example.org/archive/debian/20250520T000000Z
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://packages.example.com/node
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example.org/debian
Suites: trixie
Components: main

Types: deb
Enabled: no
URIs: http://mirror.example.org/debian
Suites: bookworm-backports
Components: main

Types: deb
URIs: http://mirror.example.org/debian-security/
Suites: bookworm-security
Components: main
"""
DEB822_DEBIAN = """\
Types: deb
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security/
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://mirror.example.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example.org/debian bookworm main
deb-src http://mirror.example.org/debian bookworm main
deb https://download.example.com/linux/debian/docker bookworm stable
deb http://mirror.example.org/debian trixie main
"""
ONE_LINE_DEBIAN = (
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    "http://mirror.example.org/debian bookworm main\n"
)


@pytest.mark.parametrize(
    ("text", "expected"), [(DEB822, DEB822_DEBIAN), (ONE_LINE, ONE_LINE_DEBIAN), ("", "\n")]
)
def test_only_debians_own_sources_of_the_labs_release_are_taken(text: str, expected: str) -> None:
    assert apt.debian_sources(text) == expected


def test_how_to_fetch_is_taken_over_but_not_what_points_to_files_of_the_machine() -> None:
    dump = """\
APT::Architecture "amd64";
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example.org:3128";
Acquire::http::Proxy-Auto-Detect "/usr/local/bin/find-proxy";
Acquire::https::CAInfo "/etc/ssl/own.pem";
Acquire::Check-Valid-Until "false";
Acquire::Languages "";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
Dir::Cache::pkgcache "";
"""
    assert apt.fetch_settings(dump).splitlines() == [
        'Acquire::http::Proxy "http://proxy.example.org:3128";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Retries "3";',
    ]


def test_what_one_host_downloaded_the_next_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "ARCHIVES", tmp_path / "cache")
    first, second = tmp_path / "first", tmp_path / "second"
    for root in (first, second):
        (root / apt.HOST_ARCHIVES / "partial").mkdir(parents=True)
    (first / apt.HOST_ARCHIVES / "nano_7.2-1_amd64.deb").write_text("nano")
    (first / apt.HOST_ARCHIVES / "partial/half.deb").write_text("ha")
    (first / apt.HOST_ARCHIVES / "lock").touch()

    apt.harvest(first)
    apt.harvest(first)
    apt.seed(second)

    found = sorted(path.name for path in (second / apt.HOST_ARCHIVES).iterdir())
    assert found == ["nano_7.2-1_amd64.deb", "partial"]
    assert (second / apt.HOST_ARCHIVES / "nano_7.2-1_amd64.deb").read_text() == "nano"
