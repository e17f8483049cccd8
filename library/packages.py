#!/usr/bin/python
"""Packages of Debian that are installed; apt is asked only when one of them is missing.

Standard library only, Python 3.8 or newer: it runs on the host, without Ansible's library (docs/adr/0010).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Tuple

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

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
OPTIONS = {"names": list, "recommends": bool, "lists_seconds": int}
JOURNAL = Path("/var/lib/dpkg/updates")
LISTS = Path("/var/lib/apt/lists")
QUERY = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"]
KEEP = ["--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"]
APT = ["apt-get", "--quiet=2", "--yes", *KEEP]
CONFIGURE = ["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"]
LOCKED = "Could not get lock"  # apt waits for one of its locks only
PATIENCE = 300  # seconds that another apt may take, as on a machine that has just booted
PAUSE = 5
QUIET = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}


def missing(names: List[str], table: str) -> List[str]:
    """In: what is wanted, and what dpkg-query(1) shows of it. Out: what is not installed, or only half."""
    installed = [line.split()[0] for line in table.splitlines() if line.endswith(" installed")]
    return [name for name in names if name not in installed]


def are_old(lists: Path, seconds: int, now: float) -> bool:
    """Whether the lists of packages were fetched longer ago, or never."""
    indices = [*lists.glob("*Packages*"), *lists.glob("*InRelease")]
    return not indices or now - lists.stat().st_mtime > seconds


def main(arguments: str = ARGUMENTS) -> None:
    """Install what is missing, and tell."""
    given = json.loads(arguments)
    if wrong := list(what_is_wrong(given)):
        fail(f"The task is wrong: {', '.join(wrong)}.")
    wanted = missing(given["names"], run([*QUERY, "--", *given["names"]])[1])
    interrupted = run(["dpkg", "--audit"])[1] + "".join(file.name for file in JOURNAL.glob("[0-9]*"))
    if not given["_ansible_check_mode"]:
        if interrupted:
            repair()
        if wanted:
            install(
                wanted,
                recommends=given.get("recommends", True),
                lists_seconds=given.get("lists_seconds", 86_400),
            )
    diff = {"before": "", "after": "".join(f"{name}\n" for name in wanted)}
    print(json.dumps({"changed": bool(wanted or interrupted), "missing": wanted, "diff": diff}))


def what_is_wrong(given: Dict[str, Any]) -> Iterator[str]:
    """Yield what a task may not say."""
    own = (name for name in given if not name.startswith("_ansible_"))
    yield from (f"there is no {name}" for name in own if name not in OPTIONS)
    for name, kind in OPTIONS.items():
        if not isinstance(given.get(name, kind()), kind):
            yield f"{name} must be a {kind.__name__}"
    if "names" not in given:
        yield "names is missing"


def fail(sentence: str) -> NoReturn:
    """Tell why something could not be done."""
    print(json.dumps({"failed": True, "msg": sentence}))
    sys.exit(1)


def repair() -> None:
    """Finish what was interrupted."""
    run(CONFIGURE)  # what is only half there dpkg alone cannot finish
    tell("An interrupted installation cannot be finished", [*APT, "--fix-broken", "install"])


def install(wanted: List[str], *, recommends: bool, lists_seconds: int) -> None:
    """Install the packages. Where the lists name what the archive no longer has, they are fetched anew."""
    trouble = f"{', '.join(wanted)} cannot be installed"
    command = [*APT, *([] if recommends else ["--no-install-recommends"]), "install", "--", *wanted]
    if not are_old(LISTS, lists_seconds, time.time()) and when_free(command)[0] == 0:
        return
    tell(trouble, [*APT, "update"])
    os.utime(LISTS)
    tell(trouble, command)


def tell(trouble: str, command: List[str]) -> None:
    """Run apt; fail with what it says."""
    code, out, said = when_free(command)
    if code:
        fail(f"{trouble}: {(said or out).strip()}")


def run(command: List[str]) -> Tuple[int, str, str]:
    """Run it; return its exit status, its output and what it complains of."""
    done = subprocess.run(
        command,
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def when_free(
    command: List[str],
    run: Callable[[List[str]], Tuple[int, str, str]] = run,
    sleep: Callable[[float], None] = time.sleep,
) -> Tuple[int, str, str]:
    """Run apt once no other one is at work; return what `run` does."""
    for pause in [PAUSE] * (PATIENCE // PAUSE) + [0]:
        code, out, said = run(command)
        if LOCKED not in said:
            break
        sleep(pause)
    return code, out, said


if __name__ == "__main__":
    main()
