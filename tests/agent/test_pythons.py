"""The agent on every Python of this machine that a worker may have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "roles/worker_agent/files/muster_agent.py"
PLACES = [
    *Path.home().glob(".pyenv/versions/3.*/bin/python"),
    *Path("/usr/bin").glob("python3*"),
    Path(sys.executable),
]


def pythons() -> dict[str, Path]:
    """Version -> interpreter, the newest of each from 3.8 on."""
    found: dict[str, Path] = {}
    for path in PLACES:
        if not re.fullmatch(r"python(3(\.\d+)?)?", path.name):
            continue
        asked = [str(path), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if version and tuple(map(int, version.split("."))) >= (3, 8):
            found.setdefault(version, path)
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


@pytest.mark.parametrize("version", pythons())
def test_the_agent_works_on_this_python(version: str) -> None:
    command = [str(pythons()[version]), "-W", "error", str(ROOT / "tests/agent/compat_checks.py"), str(AGENT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
