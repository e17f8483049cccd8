"""Commands of this machine, run to their end, with one clear sentence when they fail."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lab.errors import LabError


def run(
    *command: str | Path,
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
    otherwise: str = "",
) -> str:
    """Run a command and return what it printed.

    `otherwise` is what the user should do when it fails; LabError then says that after the command's last line.
    """
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(
            arguments,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as exc:
        raise LabError(f"The command {arguments[0]} is missing: `muster lab up` installs it.") from exc
    if done.returncode != 0:
        raise LabError(" ".join(filter(None, [failure(arguments, done.stderr or done.stdout), otherwise])))
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """True when the command ends with 0; it is silent either way, and a command that is missing does not succeed."""
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def failure(arguments: list[str], said: str) -> str:
    shown = " ".join(arguments[:5]) + (" …" if len(arguments) > 5 else "")
    return f"`{shown}` failed: {last_line(said).rstrip('.')}."


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
