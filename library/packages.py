#!/usr/bin/python3
"""Packages of Debian that are installed; apt is asked only when one of them is missing.

Standard library only, Python 3.8 or newer: it runs on the host.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, List, Tuple

DOCUMENTATION = r"""
module: packages
short_description: Installs packages of Debian or Ubuntu that are missing
description:
  - Looks into dpkg's own table first, in a few milliseconds; M(ansible.builtin.apt) reads the lists of all packages.
  - Finishes an installation that was interrupted, by a power cut for example, since apt refuses all work until then.
    Waits while another apt is at work.
options:
  names: {type: list, elements: str, required: true, description: Names of the packages.}
  recommends: {type: bool, default: true, description: Whether to install what they recommend too.}
  lists_seconds: {type: int, default: 86400, description: Age from which the lists of packages are fetched anew first.}
author: Muster
"""
EXAMPLES = r"""
- name: Install nginx
  packages:
    names: [nginx]
"""
RETURN = r"""
missing:
  description: The packages that were not there.
  type: list
  returned: always
"""

JOURNAL = Path("/var/lib/dpkg/updates")
LISTS = Path("/var/lib/apt/lists")
QUERY = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"]
KEEP = ["--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"]
APT = ["apt-get", "--quiet=2", "--yes", *KEEP]
CONFIGURE = ["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"]
LOCKED = "Could not get lock"  # apt waits for one of its locks only
PATIENCE = 300  # seconds that another apt may take, as on a machine that has just booted
PAUSE = 5
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "LC_ALL": "C"}


def missing(names: List[str], table: str) -> List[str]:
    """In: what is wanted, and what dpkg-query(1) shows of it. Out: what is not installed, or only half."""
    installed = [line.split()[0] for line in table.splitlines() if line.endswith(" installed")]
    return [name for name in names if name not in installed]


def are_old(lists: Path, seconds: int, now: float) -> bool:
    """Whether the lists of packages were fetched longer ago, or never."""
    indices = [*lists.glob("*Packages*"), *lists.glob("*InRelease")]
    return not indices or now - lists.stat().st_mtime > seconds


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "recommends": {"type": "bool", "default": True},
            "lists_seconds": {"type": "int", "default": 86_400},
        },
        supports_check_mode=True,
    )
    given = module.params
    wanted = missing(given["names"], said_by([*QUERY, "--", *given["names"]]))
    interrupted = said_by(["dpkg", "--audit"]) + "".join(file.name for file in JOURNAL.glob("[0-9]*"))
    if not module.check_mode:
        if interrupted:
            repair(module)
        if wanted:
            install(module, wanted, recommends=given["recommends"], lists_seconds=given["lists_seconds"])
    module.exit_json(
        changed=bool(wanted or interrupted),
        missing=wanted,
        diff={"before": "", "after": "".join(f"{name}\n" for name in wanted)},
    )


def said_by(command: List[str]) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, check=False
    )
    return done.stdout


def repair(module: Any) -> None:
    """Finish what was interrupted."""
    module.run_command(CONFIGURE, environ_update=QUIET)  # what is only half there dpkg alone cannot finish
    tell(module, "An interrupted installation cannot be finished", [*APT, "--fix-broken", "install"])


def install(module: Any, wanted: List[str], *, recommends: bool, lists_seconds: int) -> None:
    """Install the packages. Where the lists name what the archive no longer has, they are fetched anew."""
    trouble = f"{', '.join(wanted)} cannot be installed"
    command = [*APT, *([] if recommends else ["--no-install-recommends"]), "install", "--", *wanted]
    if not are_old(LISTS, lists_seconds, time.time()) and run(module, command)[0] == 0:
        return
    tell(module, trouble, [*APT, "update"])
    os.utime(LISTS)
    tell(module, trouble, command)


def tell(module: Any, trouble: str, command: List[str]) -> None:
    """Run apt; fail with what it says."""
    code, said = run(module, command)
    if code:
        module.fail_json(msg=f"{trouble}: {said}")


def run(module: Any, command: List[str], sleep: Callable[[float], None] = time.sleep) -> Tuple[int, str]:
    """Run apt once no other one is at work; return its exit status and what it says."""
    for pause in [PAUSE] * (PATIENCE // PAUSE) + [0]:
        code, out, said = module.run_command(command, environ_update=QUIET)
        if LOCKED not in said:
            break
        sleep(pause)
    return code, (said or out).strip()


if __name__ == "__main__":
    main()
