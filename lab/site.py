"""The cluster on the lab's hosts, built by playbooks/site.yml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab import apt
from lab.errors import LabError
from lab.host import Host
from lab.layout import REPOSITORY, Layout

PLAYBOOK = REPOSITORY / "playbooks/site.yml"


def build(layout: Layout) -> None:
    """Run site.yml on the lab; its output goes straight to the terminal."""
    playbook = Path(sys.executable).parent / "ansible-playbook"
    command = [str(playbook), "--inventory", str(layout.inventory), str(PLAYBOOK)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, check=False)
    for name in layout.hosts():
        apt.harvest(Host(layout, name).directory / "plain")
    if done.returncode != 0:
        raise LabError(
            "site.yml failed: the task above says why; look around with `muster lab ssh HOST`, "
            "and run the same command again when it is mended."
        )
