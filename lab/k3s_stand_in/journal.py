"""Lines for the journal in the form that K3s writes them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime


def info(message: str) -> None:
    _write("info", message)


def warning(message: str) -> None:
    _write("warning", message)


def error(message: str) -> None:
    _write("error", message)


def fatal(message: str) -> None:
    _write("fatal", message)


def _write(level: str, message: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    sys.stderr.write(f'time="{now}" level={level} msg="{quoted}"\n')
    sys.stderr.flush()
