"""A lab that exists on paper: in a directory of the test's own, with nothing booted."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import layout as layouts
from lab.layout import COMPLETE, Layout


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A lab called dev; worker2 is what an interrupted `up` has left."""
    monkeypatch.setattr(layouts, "STATES", tmp_path)
    layout = Layout("dev")
    for host in ("worker1", "master", "worker10", "worker2"):
        keys = layout.directory(host) / "upper/etc/ssh"
        keys.mkdir(parents=True)
        (keys / "ssh_host_ed25519_key.pub").write_text(f"ssh-ed25519 AAAA{host} {host}\n")
        if host != "worker2":
            (layout.directory(host) / COMPLETE).touch()
    return layout
