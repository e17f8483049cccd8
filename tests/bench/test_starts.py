"""Every measurement starts, runs through and tells its results; how fast anything is, is no test's business."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import heartbeats, proxy, site
from bench.__main__ import PARTS
from bench.report import Section, verdict

pytestmark = pytest.mark.skipif(
    not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    reason="this machine has no PostgreSQL server (apt-get install postgresql)",
)
ROOT = Path(__file__).parent.parent.parent
TINY = ["--seconds", "2", "--workers", "50", "--runs", "1", "--connections", "10"]


def measure(part: str) -> str:
    done = subprocess.run(
        [ROOT / "bench/run", part, *TINY], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"heartbeats", "fleet", "site"}))
def test_part_starts(part: str) -> None:
    told = measure(part)
    assert f"`bench/run {part} " in told
    assert "(goal " in told


@pytest.mark.skipif(not proxy.available(), reason="this machine has no nginx (apt-get install nginx)")
def test_fleet_beats_through_nginx() -> None:
    told = measure("fleet")
    assert "| connections kept open by the fleet, TLS, all at once | 50 |" in told
    assert "| other answers | 0 |" in told


@pytest.mark.skipif(
    not heartbeats.available(),
    reason="this machine has no Node for the baseline (apt-get install nodejs npm)",
)
def test_heartbeats_are_compared_with_the_baseline() -> None:
    told = measure("heartbeats")
    assert all(f"| {kind} |" in told for kind in heartbeats.KINDS)


def test_a_goal_that_is_missed_is_said() -> None:
    assert verdict("4 s", "≤ 3 s", met=False) == "**NOT met** (goal ≤ 3 s): 4 s"


def test_a_section_is_a_table_under_its_command() -> None:
    shown = Section("Silence", "Once.", ("tick", "s"), [("all", "1")], ["**met**"]).markdown(
        "bench/run silence"
    )
    assert (
        shown
        == "## Silence\n\n`bench/run silence`. Once.\n\n| tick | s |\n| --- | --- |\n| all | 1 |\n\n- **met**\n"
    )


PROFILE = """
PLAY RECAP *********************************************************************
master                     : ok=10   changed=0    unreachable=0    failed=0

===============================================================================
k3s_server -------------------------------------------------------------- 4.80s
ansible.builtin.setup --------------------------------------------------- 1.25s
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
total ------------------------------------------------------------------- 6.05s
"""


def test_a_run_of_site_yml_is_told_by_role() -> None:
    times = site.by_role(PROFILE)
    assert times == {"k3s_server": 4.8, "ansible.builtin.setup": 1.25}
    shown = site.section({**times, "whole": 190.0}, {"k3s_server": 2.0, "whole": 20.0}, runs=3)
    assert shown.rows[0] == ("whole", "190.0", "20.0")
    assert ("k3s_server", "4.8", "2.0") in shown.rows
    assert [line.split(" (")[0] for line in shown.verdicts] == ["**NOT met**", "**met**"]
