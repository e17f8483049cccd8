"""Where the lab's K3s comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import k3s
from lab.errors import LabError


def binary(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{line}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K3S_BINARY", raising=False)


def test_a_given_binary_is_used_in_the_version_that_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = binary(tmp_path / "k3s", "k3s version v1.34.4+k3s1 (c6017918)")
    monkeypatch.setenv("K3S_BINARY", str(given))
    chosen = k3s.choose(tmp_path / "stand-in", earlier=tmp_path / "other")
    assert chosen == k3s.Binary(given, "v1.34.4+k3s1", is_stand_in=False)


def test_a_lab_keeps_the_binary_that_it_was_given_before(tmp_path: Path) -> None:
    given = binary(tmp_path / "k3s", "k3s version v1.34.4+k3s1 (c6017918)")
    assert k3s.choose(tmp_path / "stand-in", earlier=given).file == given


@pytest.mark.parametrize("again", [False, True])
def test_otherwise_the_stand_in_is_packed_and_says_what_it_is(tmp_path: Path, again: bool) -> None:
    stand_in = tmp_path / "stand-in"
    chosen = k3s.choose(stand_in, earlier=stand_in if again else None)
    assert (chosen.file, chosen.is_stand_in) == (stand_in, True)
    told = subprocess.check_output([chosen.file, "--version"], text=True)
    assert chosen.version in told
    assert "stand-in" in told


def test_a_binary_that_is_not_there_or_is_not_k3s_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K3S_BINARY", str(tmp_path / "absent"))
    with pytest.raises(LabError, match="where no file is: name a K3s binary in K3S_BINARY"):
        k3s.choose(tmp_path / "stand-in", None)
    monkeypatch.setenv("K3S_BINARY", str(binary(tmp_path / "other", "something else")))
    with pytest.raises(LabError, match="must name a K3s binary"):
        k3s.choose(tmp_path / "stand-in", None)
