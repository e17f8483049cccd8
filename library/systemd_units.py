#!/usr/bin/python
"""Units of systemd that are enabled and run with what is written now: whatever became of the run that has written it.

Standard library only, Python 3.8 or newer: it runs on the host, without Ansible's library (docs/adr/0010).
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import Any, Dict, Iterator, List, NoReturn, Tuple

DOCUMENTATION = r"""
module: systemd_units
short_description: Enables and starts units, and restarts those that have begun before what they read was written
description:
  - A handler is lost with a run that ends before it, by a failure, a lost connection or a kill; the next run finds the
    file as it should be. This looks at what is, each time, and needs no handler.
  - systemd reads unit files anew where that is due; those in C(/etc/systemd/system) count as what the unit reads when
    it starts. In check mode it tells what it would do.
options:
  units:
    description: In this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {type: str, required: true, description: Name of the unit.}
      reads:
        description: >-
          What the unit reads when it starts. Of a link, the link and the file behind it; of a directory, its list of
          names; of a pattern, each that matches. What is not there is passed over.
        type: list
        elements: path
      reads_on_reload: {type: list, elements: path, description: What it reads when it is reloaded too.}
      check: {type: list, elements: str, description: Command that must succeed before it is restarted or reloaded.}
      started: {type: bool, default: true, description: Whether it is to run.}
      wait: {type: bool, default: true, description: Whether to wait until systemd has started it.}
      restart:
        description: What to do with a unit that must be restarted; C(report) names it in C(stale).
        choices: [now, report, never]
        default: now
        type: str
  written:
    description: Files that this run has written, or would have in check mode.
    type: list
    elements: path
author: Muster
"""
EXAMPLES = r"""
- name: Ensure that Redis runs with them
  systemd_units:
    units: [{name: redis-server, reads: [/etc/redis/redis.conf]}]
    written: "{{ __redis_files.written }}"
"""
RETURN = r"""
done:
  description: What systemctl(1) was told, in this order.
  type: list
  returned: always
stale:
  description: The units that were left running with what they have read before.
  type: list
  returned: always
"""

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
USUAL = {"reads": [], "reads_on_reload": [], "check": [], "started": True, "wait": True, "restart": "now"}
RESTARTS = ("now", "report", "never")
RUNNING = ("active", "activating", "reloading")
BEGAN = "InactiveExitTimestamp"
TOLD = "StateChangeTimestamp"
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    BEGAN,
    TOLD,
)
OWN = "/etc/systemd/system/"
SHOW = ["systemctl", "show", "--timestamp=us+utc", "--property=" + ",".join(PROPERTIES)]

Unit = Dict[str, Any]


def verbs(show: str, unit: Unit, written: Dict[str, float]) -> List[str]:
    """In: what systemctl(1) shows of a unit, how it is wanted, when its files were written. Out: what it is told."""
    shown = properties(show)
    unknown = shown.get("LoadState") == "not-found"
    told = ["daemon-reload"] if unknown or shown.get("NeedDaemonReload") == "yes" else []
    if unknown or shown.get("UnitFileState") == "disabled":
        told.append("enable")
    if shown.get("ActiveState") not in RUNNING:
        return told + ["start"] * unit["started"]

    def older(event: str, paths: List[str]) -> bool:
        return any(written.get(path, 0) > seconds(shown[event]) for path in paths)

    if unit["restart"] != "never" and older(BEGAN, own_files(shown) + unit["reads"]):
        return [*told, "restart"]
    return told + ["reload"] * older(TOLD, unit["reads_on_reload"])


def properties(show: str) -> Dict[str, str]:
    return dict(line.split("=", 1) for line in show.splitlines() if "=" in line)


def own_files(shown: Dict[str, str]) -> List[str]:
    """The files of the unit that no package has brought: packages restart what they change."""
    files = [shown.get("FragmentPath", ""), *shown.get("DropInPaths", "").split()]
    return [file for file in files if file.startswith(OWN)]


def seconds(timestamp: str) -> float:
    """In: `Sun 2026-11-29 20:11:47.123456 UTC`. Out: seconds since the epoch."""
    _, date, time, _ = timestamp.split()
    return datetime.strptime(f"{date} {time} +0000", "%Y-%m-%d %H:%M:%S.%f %z").timestamp()


def when_written(patterns: List[str]) -> Dict[str, float]:
    """When each that is there was changed last: its inode, for a rename keeps the time of the content."""
    found = {pattern: list(change_times(pattern)) for pattern in patterns}
    return {pattern: max(times) for pattern, times in found.items() if times}


def change_times(pattern: str) -> Iterator[float]:
    for path in map(Path, glob(pattern)):
        yield path.lstat().st_ctime
        if path.is_file():
            yield path.stat().st_ctime


def main(arguments: str = ARGUMENTS) -> None:
    """See to every unit, and tell."""
    given = json.loads(arguments)
    check, written = given["_ansible_check_mode"], given.get("written") or []
    units = [{**USUAL, **unit} for unit in given.get("units") or []]
    if wrong := list(what_is_wrong(given, units)):
        fail(f"The task is wrong: {', '.join(wrong)}.")
    ahead = dict.fromkeys(written, float("inf")) if check else {}
    done: List[str] = []
    stale: List[str] = []

    def do(verb: str, unit: Unit) -> None:
        if not check:
            tell(verb, unit)
        done.append(verb if verb == "daemon-reload" else f"{verb} {unit['name']}")

    # systemd may not have noticed yet.
    if any(path.startswith(OWN) for path in written):
        do("daemon-reload", units[0])
    for unit in units:
        code, show, said = run([*SHOW, "--", unit["name"]])
        if code:
            fail(f"systemd does not tell of {unit['name']}: {said.strip()}")
        read = own_files(properties(show)) + unit["reads"] + unit["reads_on_reload"]
        for verb in verbs(show, unit, {**when_written(read), **ahead}):
            if verb == "restart" and unit["restart"] == "report":
                stale.append(unit["name"])
            else:
                do(verb, unit)
    print(json.dumps({"changed": bool(done or stale), "done": done, "stale": stale}))


def what_is_wrong(given: Unit, units: List[Unit]) -> Iterator[str]:
    """Yield what a task may not say."""
    own = (name for name in given if not name.startswith("_ansible_"))
    yield from (f"there is no {name}" for name in own if name not in ("units", "written"))
    for unit in units:
        yield from (f"a unit has no {name}" for name in unit if name not in ("name", *USUAL))
        for name, usual in USUAL.items():
            if not isinstance(unit.get(name, usual), type(usual)):
                yield f"{name} of a unit must be a {type(usual).__name__}"
        if unit["restart"] not in RESTARTS:
            yield f"restart of a unit must be one of {', '.join(RESTARTS)}"
        if "name" not in unit:
            yield "a unit has no name"


def fail(sentence: str) -> NoReturn:
    """Tell why something could not be done."""
    print(json.dumps({"failed": True, "msg": sentence}))
    sys.exit(1)


def run(command: List[str]) -> Tuple[int, str, str]:
    """Run it; return its exit status, its output and what it complains of."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def tell(verb: str, unit: Unit) -> None:
    """Give systemctl the verb; fail with one sentence."""
    name = unit["name"]
    if unit["check"] and verb in ("restart", "reload"):
        code, _, said = run(unit["check"])
        if code:
            fail(f"{name} was not told to {verb}, because of its configuration: {said.strip()}")
    command = ["systemctl", verb] + ([] if verb == "daemon-reload" else ["--", name])
    if not unit["wait"] and verb in ("start", "restart"):
        command.insert(2, "--no-block")
    code, _, said = run(command)
    if code:
        _, last, _ = run(["journalctl", "--unit", name, "--lines=5", "--output=cat", "--no-pager", "--quiet"])
        fail(f"systemctl {verb} {name}: {said.strip()} It said last: {last.strip() or 'nothing'}")


if __name__ == "__main__":
    main()
