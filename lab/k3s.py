"""Where the lab's K3s comes from: a real binary when one is given, otherwise the stand-in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.commands import run
from lab.errors import LabError
from lab.k3s_stand_in import build, version

GIVEN = "K3S_BINARY"


@dataclass(frozen=True)
class Binary:
    """A K3s for the hosts: its file on this machine, its version, and whether it only plays K3s."""

    file: Path
    version: str
    is_stand_in: bool


def choose(stand_in: Path, earlier: Path | None) -> Binary:
    """The binary that K3S_BINARY in the environment names, else the lab's earlier one, else the stand-in.

    The stand-in is packed from this checkout into the file `stand_in`.
    """
    given = os.environ.get(GIVEN)
    file = Path(given).resolve() if given else earlier or stand_in
    if file == stand_in:
        build(stand_in)
        return Binary(stand_in, version.VERSION, is_stand_in=True)
    if not file.is_file():
        raise LabError(f"K3s should be at {file}, where no file is: name a K3s binary in {GIVEN}.")
    told = re.search(r"k3s version (\S+)", run(file, "--version"))
    if told is None:
        raise LabError(f"{file} does not tell its version: {GIVEN} must name a K3s binary for this machine.")
    return Binary(file, told[1], is_stand_in=told[1] == version.VERSION)
