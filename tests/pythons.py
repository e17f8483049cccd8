"""The Pythons of this machine that a host may have."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

PLACES = [
    *Path.home().glob(".pyenv/versions/3.*/bin/python"),
    *Path("/usr/bin").glob("python3*"),
    Path(sys.executable),
]


@cache
def pythons() -> dict[str, Path]:
    """Version -> interpreter, the newest of each from 3.8 on."""
    found: dict[str, Path] = {}
    for path in PLACES:
        if not re.fullmatch(r"python(3(\.\d+)?)?", path.name):
            continue
        asked = [str(path), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if version and tuple(map(int, version.split("."))) >= (3, 8):
            found.setdefault(version, path)
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))
