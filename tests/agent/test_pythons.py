"""The agent on every Python of this machine that a worker may have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.pythons import pythons

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "roles/worker_agent/files/muster_agent.py"


@pytest.mark.parametrize("version", pythons())
def test_the_agent_works_on_this_python(version: str) -> None:
    command = [str(pythons()[version]), "-W", "error", str(ROOT / "tests/agent/compat_checks.py"), str(AGENT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
