"""What the role `control_api` prepares on the controller is for the host: by real runs of Ansible and pip."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
TAGS = [
    f"cp311-cp311-{tag}" for tag in ("manylinux_2_17_aarch64", "manylinux_2_17_x86_64", "macosx_11_0_arm64")
]
# Stands in for the role's module, which asks apt.
PACKAGES = """\
#!/usr/bin/python
import json
print(json.dumps({"changed": True}))
"""
PROJECT = """\
[project]
name = "demo"
version = "1.0"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
bypass-selection = true
"""


class Controller:
    """A directory as that of the project's build, and a package index with one package for many machines."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.index = home / "index"
        self.build = home / "source/build/control_api"
        self.modules = home / "modules"
        for directory in (self.index, self.modules, self.build):
            directory.mkdir(parents=True)
        (self.modules / "packages.py").write_text(PACKAGES)
        (home / "source/pyproject.toml").write_text(PROJECT)
        hashes = [self._wheel(tag) for tag in TAGS]
        self.requirements = f"demo==1.0 {' '.join(f'--hash=sha256:{each}' for each in hashes)}\n"

    def _wheel(self, tag: str) -> str:
        file = self.index / f"demo-1.0-{tag}.whl"
        with zipfile.ZipFile(file, "w") as wheel:
            wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
            wheel.writestr("demo-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            wheel.writestr("demo-1.0.dist-info/RECORD", "")
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def run(self, tasks: list[dict[str, Any]], *options: str, **given: Any) -> str:
        """Run tasks of the role against this machine, and return what was said."""
        variables = {
            "ansible_python_interpreter": sys.executable,
            "control_api_source": str(self.home / "source"),
            **given,
        }
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        (self.home / "play.json").write_text(json.dumps([play]))
        done = subprocess.run(
            [ANSIBLE, self.home / "play.json", "--extra-vars", json.dumps(variables), *options],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_LIBRARY": str(self.modules),
                "HOME": str(self.home),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.index),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def host(architecture: str) -> dict[str, Any]:
    """What Ansible tells of a host of Ubuntu 22.04."""
    facts = {
        "architecture": architecture,
        "python": {"executable": "/usr/bin/python3"},
        "python_version": "3.10.12",
    }
    return {"ansible.builtin.set_fact": {**facts, "cacheable": True}}


def role(tasks: str) -> dict[str, Any]:
    return {
        "ansible.builtin.import_role": {
            "name": "control_api",
            "tasks_from": tasks,
            "rolespec_validate": False,
        }
    }


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_a_host_gets_wheels_of_its_own_architecture_and_python(controller: Controller) -> None:
    machines = ["aarch64", "x86_64"]
    controller.run(
        [task for machine in machines for task in (host(machine), role("fetch"))],
        control_api_python="python3.11",
        __control_api_python_seen={"stdout": "3.11.0rc1"},
        __control_api_requirements=controller.requirements,
    )
    assert {file.name.rpartition("-")[0]: wheels(file) for file in controller.build.glob("*.tar")} == {
        f"py3.11.0-{machine}": [f"demo-1.0-cp311-cp311-manylinux_2_17_{machine}.whl"] for machine in machines
    }


def wheels(packed: Path) -> list[str]:
    with tarfile.open(packed) as archive:
        return [Path(name).name for name in archive.getnames() if name.endswith(".whl")]


def test_a_python_that_is_still_to_be_installed_does_not_fail_check_mode(controller: Controller) -> None:
    told = controller.run(
        [host("x86_64"), role("build"), {"ansible.builtin.debug": {"msg": "for {{ __control_api_wheels }}"}}],
        "--check",
        control_api_python="python3.99",
        __control_api_requirements="",
    )
    assert "for py3.99-x86_64-" in told
