"""The last of what is done with the lab: `make down`, after every other file of this directory."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab


def test_make_down_leaves_nothing_behind(lab: Lab) -> None:
    lab.command("down")
    assert "e2e" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert (
        "muster-lab/e2e" not in subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
    )
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "e2e" not in tables
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "muster-lab/e2e" not in processes
