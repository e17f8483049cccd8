"""Where the lab's K3s comes from: a real binary when one is given, otherwise the stand-in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.commands import run
from lab.errors import LabError
from lab.k3s_stand_in import build, version
from lab.layout import CACHE

GIVEN = "K3S_BINARY"


@dataclass(frozen=True)
class Binary:
    """A K3s for the hosts: its file on this machine, its version, and whether it only plays K3s."""

    file: Path
    version: str
    is_stand_in: bool


def choose() -> Binary:
    """The binary that the environment variable K3S_BINARY names, or the stand-in, packed from this checkout."""
    given = os.environ.get(GIVEN)
    if not given:
        file = CACHE / "k3s-stand-in"
        build(file)
        return Binary(file, version.VERSION, is_stand_in=True)
    file = Path(given).resolve()
    if not file.is_file():
        raise LabError(f"{GIVEN} names {file}, where no file is: give the path of a K3s binary.")
    told = re.search(r"k3s version (\S+)", run(file, "--version"))
    if told is None:
        raise LabError(f"{file} does not tell its version: {GIVEN} must name a K3s binary for this machine.")
    return Binary(file, told[1], is_stand_in=told[1] == version.VERSION)
