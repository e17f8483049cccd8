"""The executable is the same, byte for byte, whenever it is built from the same sources."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from lab.k3s_stand_in import build


def test_two_builds_are_equal_and_executable(tmp_path: Path) -> None:
    checksums = {build(tmp_path / name) for name in ("one", "two")}

    assert checksums == {hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest()}
    assert os.access(tmp_path / "one", os.X_OK)


def test_an_equal_file_is_left_alone(tmp_path: Path) -> None:
    build(tmp_path / "k3s")
    before = (tmp_path / "k3s").stat()
    build(tmp_path / "k3s")

    assert (tmp_path / "k3s").stat().st_ino == before.st_ino
