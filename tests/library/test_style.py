"""The modules of every role start fast: Ansible's own library takes longer to load than they take."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pythons import pythons

PLACE = "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"
ROOT = Path(__file__).parents[2]
SELDOM = ROOT / "roles/verify"  # its modules run on request only
MODULES = sorted(
    path
    for path in (*ROOT.glob("library/*.py"), *ROOT.glob("roles/*/library/*.py"))
    if SELDOM not in path.parents
)


@pytest.fixture(params=MODULES, ids=lambda path: path.stem)
def module(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_a_module_imports_nothing_but_the_standard_library(module: Path) -> None:
    tree = ast.parse(module.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_a_module_has_one_place_for_its_arguments(module: Path) -> None:
    assert module.read_text().count(PLACE) == 1


def test_a_module_runs_with_the_interpreter_that_is_set_for_the_host(module: Path) -> None:
    """Ansible puts `ansible_python_interpreter` into this line, and not into one of python3."""
    assert module.read_text().startswith("#!/usr/bin/python\n")


@pytest.mark.parametrize("version", pythons())
def test_a_module_runs_on_every_python_and_says_what_is_wrong(module: Path, version: str) -> None:
    source = module.read_text().replace(PLACE, '{"unheard_of": "\\"\\"\\"\\\\", "_ansible_check_mode": true}')
    done = subprocess.run(
        [pythons()[version], "-"], input=source, capture_output=True, text=True, check=False
    )
    assert "there is no unheard_of" in done.stdout, done.stderr
    assert done.returncode == 1
