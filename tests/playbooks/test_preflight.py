"""What is said before anything is changed, by the real ansible-playbook; no host but this machine is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = {
    "ansible_connection": "local",
    "ansible_host": "192.0.2.10",
    "ansible_python_interpreter": sys.executable,
}
NOBODY = {"ansible_host": "127.0.0.1", "ansible_port": 1}


def preflight(directory: Path, masters: dict[str, Any], workers: dict[str, Any]) -> tuple[int, str]:
    """Run the checks over an inventory of these hosts; the exit status and what was said."""
    inventory = directory / "hosts.yml"  # JSON is YAML
    inventory.write_text(json.dumps({"masters": {"hosts": masters}, "workers": {"hosts": workers}}))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "playbooks/preflight.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, " ".join(done.stdout.split())


def test_every_host_that_cannot_be_reached_is_named_in_one_sentence(tmp_path: Path) -> None:
    status, said = preflight(tmp_path, {"m1": HERE}, {"w1": NOBODY, "w2": NOBODY})
    assert "Nothing was changed, because w1, w2 cannot be reached: repair the connection" in said
    assert "Check the host" not in said
    assert status != 0


@pytest.mark.parametrize("masters", [{}, {"m1": HERE, "m2": HERE}])
def test_an_inventory_has_one_master(tmp_path: Path, masters: dict[str, Any]) -> None:
    status, said = preflight(tmp_path, masters, {"w1": HERE})
    assert f"must have one host in the group 'masters'; it has {len(masters)}." in said
    assert "Gather facts" not in said
    assert status != 0


def test_what_is_wrong_with_a_host_is_said_by_name(tmp_path: Path) -> None:
    status, said = preflight(tmp_path, {"m1": HERE}, {"w1": {**HERE, "cluster_address": "fe80::1"}})
    assert "w1: set cluster_address to the IPv4 address that the other nodes reach this host by" in said
    assert "Check the inputs" not in said
    assert status != 0
