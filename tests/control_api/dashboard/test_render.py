"""Templates and files: all of them are shipped, and a forgotten value is an error."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from control_api.dashboard.render import ASSETS, HERE, render

ROOT = Path(__file__).parents[3]


def test_the_wheel_carries_every_template_and_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    wanted = [path for kind in ("templates", "static") for path in (HERE / kind).iterdir()]
    assert len(wanted) > 15
    assert {str(path.relative_to(ROOT)) for path in wanted} <= shipped


def test_every_file_has_a_type_and_a_version_of_its_content() -> None:
    assert set(ASSETS) == {path.name for path in (HERE / "static").iterdir()}
    assert len({asset.href for asset in ASSETS.values()}) == len(ASSETS)


def test_a_value_that_is_missing_is_an_error_and_no_blank() -> None:
    with pytest.raises(UndefinedError):
        render("login.html", problem="")
