#!/usr/bin/python3
"""Whether a service has begun before what it reads was written: whatever became of the handler that would have told it.

Standard library only, Python 3.8 or newer: it runs on the host.
"""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Dict, Iterator, List

DOCUMENTATION = r"""
module: stale_unit
short_description: Tells whether a running service has begun before the files that it reads were written
description:
  - A run that ends between a task that changes a file and the handler that restarts the service, by a failure, a lost
    connection or a kill, loses the handler; the next run finds the file as it should be. This looks at what is, and is
    C(changed) when the service must be told, so that C(notify) does what was missed.
  - A service that does not run is not stale. Files that are not there are passed over.
options:
  unit:
    description: Name of the systemd unit.
    type: str
    required: true
  files:
    description: What the unit reads. Of a link, the link and the file behind it; of a directory, its list of names.
    type: list
    elements: path
    required: true
  reads_on_reload:
    description: Whether the unit reads them when it is reloaded, too.
    type: bool
    default: false
author: Muster
"""
EXAMPLES = r"""
- name: Look whether Redis runs with them
  stale_unit:
    unit: redis-server
    files: [/etc/redis/redis.conf]
  notify: Restart Redis
"""
RETURN = r"""
written:
  description: The files that were written after the service had begun; its unit file, if systemd has not read it anew.
  type: list
  returned: always
"""

RUNNING = ("active", "activating", "reloading")
BEGAN, TOLD = "InactiveExitTimestamp", "StateChangeTimestamp"
SHOW = ["systemctl", "show", "--timestamp=us+utc"]
SHOW += [f"--property={name}" for name in ("ActiveState", "FragmentPath", "NeedDaemonReload", BEGAN, TOLD)]


def written_since(show: str, written: Dict[str, float], *, reads_on_reload: bool) -> List[str]:
    """In: what systemctl(1) shows of the unit, and when each file was written. Out: what the unit has not read."""
    unit = dict(line.split("=", 1) for line in show.splitlines() if "=" in line)
    if unit.get("ActiveState") not in RUNNING:
        return []
    read = seconds(unit[TOLD if reads_on_reload else BEGAN])
    unread = [path for path, when in written.items() if when > read]
    return unread + ([unit["FragmentPath"]] if unit.get("NeedDaemonReload") == "yes" else [])


def seconds(timestamp: str) -> float:
    """In: `Sun 2026-11-29 20:11:47.123456 UTC`. Out: seconds since the epoch."""
    _, date, time, _ = timestamp.split()
    return datetime.strptime(f"{date} {time} +0000", "%Y-%m-%d %H:%M:%S.%f %z").timestamp()


def when_written(paths: List[str]) -> Dict[str, float]:
    """When each file that is there was changed last: its inode, for a rename keeps the time of the content."""
    found = {path: list(change_times(Path(path))) for path in paths}
    return {path: max(times) for path, times in found.items() if times}


def change_times(path: Path) -> Iterator[float]:
    if path.is_symlink() or path.exists():
        yield path.lstat().st_ctime
    if path.is_file():
        yield path.stat().st_ctime


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "required": True},
            "reads_on_reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    shown = subprocess.run(
        [*SHOW, "--", given["unit"]], stdout=subprocess.PIPE, universal_newlines=True, check=True
    ).stdout
    written = written_since(shown, when_written(given["files"]), reads_on_reload=given["reads_on_reload"])
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
