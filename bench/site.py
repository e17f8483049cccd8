"""How long `site.yml` takes on three hosts of a lab of its own: bare ones, and again on what it has built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench.report import Options, Section, verdict

ROOT = Path(__file__).parent.parent
NAME = "bench"
HOSTS = ("master", "worker1", "worker2")
FIRST, SECOND = 180.0, 25.0  # seconds
ENVIRONMENT = {
    **os.environ,
    "MUSTER_LAB": NAME,
    "NO_COLOR": "1",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_roles",
}
LINE = re.compile(r"^(\w[\w. ]*?) -{3,} +([0-9.]+)s$", flags=re.MULTILINE)
Times = Mapping[str, float]


def run(options: Options) -> Section:
    """Build three bare hosts once; then run again, several times."""
    _lab("down")
    try:
        _lab("up", *HOSTS)
        first, *again = [_site() for _ in range(1 + options.runs)]
    finally:
        _lab("down")
    second = {name: median(times.get(name, 0.0) for times in again) for name in again[0]}
    return section(first, second, options.runs)


def _lab(*arguments: str) -> None:
    command = [sys.executable, "-m", "lab", *arguments]
    if subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False, stdout=sys.stderr).returncode:
        raise SystemExit("site: there is no lab to measure on, the lines above say why.")


def _site() -> Times:
    """Return the seconds of every role, and of all."""
    playbook = Path(sys.executable).parent / "ansible-playbook"
    command = [str(playbook), "-i", f"/var/lib/muster-lab/{NAME}/inventory", "site.yml"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    whole = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"site: the run failed.\n{done.stdout[-6000:]}\n{done.stderr}")
    return {**by_role(done.stdout), "whole": whole}


def by_role(output: str) -> dict[str, float]:
    """In: what the callback profile_roles prints. Out: role, or module outside of roles -> seconds."""
    return {name: float(seconds) for name, seconds in LINE.findall(output) if name != "total"}


def section(first: Times, second: Times, runs: int) -> Section:
    """Lay the runs side by side; first what takes longest when nothing is left to do."""
    names = sorted(first.keys() | second.keys(), key=lambda name: -second.get(name, 0.0))
    return Section(
        "site.yml",
        f"Three hosts of a lab: {', '.join(HOSTS)}, with the lab's own K3s. Packages come from the lab's cache, "
        "the dependencies "
        "of the control API from where pip finds them. Seconds by role, all hosts together, as the callback "
        "`profile_roles` counts them; "
        f"the second run is the median of {runs}.",
        ("role", "first run, s", "second run, s"),
        [(name, f"{first.get(name, 0.0):.1f}", f"{second.get(name, 0.0):.1f}") for name in names],
        [
            verdict(f"first run {first['whole']:.0f} s", f"≤ {FIRST:g} s", first["whole"] <= FIRST),
            verdict(f"second run {second['whole']:.0f} s", f"≤ {SECOND:g} s", second["whole"] <= SECOND),
        ],
    )
