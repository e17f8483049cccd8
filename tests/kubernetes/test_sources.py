"""What the build of Kubernetes takes from this machine's apt, and where it keeps what it has built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubernetes import cache
from tests.kubernetes.sources import with_sources


def test_a_stanza_offers_source_packages_too() -> None:
    stanza = "Types: deb\nURIs: http://example/debian\nSuites: bookworm\nComponents: main\n"
    assert with_sources(stanza) == stanza.replace("Types: deb", "Types: deb deb-src")


def test_a_line_gets_one_for_source_packages_beside_it() -> None:
    line = "deb [signed-by=/k] http://example/debian bookworm main"
    assert with_sources(line) == f"{line}\n{line.replace('deb [', 'deb-src [')}"


def test_the_cache_is_the_machines_for_root_and_the_users_own_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cache.cache() == Path("/var/cache/muster-kubernetes")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache() == Path("/somewhere/muster-kubernetes")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache() == Path.home() / ".cache/muster-kubernetes"
