"""The command line: `k3s server|agent|token|kubectl`, and kubectl by the name that it is called with."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .errors import Refused, StandInError
from .version import LINE, NOTICE, VERSION

if TYPE_CHECKING:
    from .paths import Paths
    from .settings import Settings

USAGE = f"""k3s: {NOTICE}

  k3s server | agent   [flags as K3s has them]
  k3s token            create | list | delete | generate
  k3s kubectl          get | delete | apply | patch | label | taint | cordon | uncordon | drain | wait | version
  k3s --version
"""


def main(argv: Sequence[str], out: TextIO) -> int:
    """Run one command and return its exit status."""
    called_kubectl = Path(argv[0]).name == "kubectl"
    command, arguments = (
        ("kubectl", list(argv[1:])) if called_kubectl else ("".join(argv[1:2]), list(argv[2:]))
    )
    if command in {"--version", "-v", "version"}:
        out.write(f"{LINE}\npython version {sys.version.split()[0]}\n")
        return 0
    if command in {"", "help", "-h", "--help"}:
        out.write(USAGE)
        return 0
    if command in {"server", "agent"}:
        return _serve(command, arguments)
    try:
        return _tool(command, arguments, out)
    except BrokenPipeError:
        return 1
    except StandInError as exc:
        reason = exc.reason if isinstance(exc, Refused) else ""
        sys.stderr.write(f"{f'Error from server ({reason})' if reason else 'error'}: {exc}\n")
        return 1


def _tool(command: str, arguments: list[str], out: TextIO) -> int:
    # Each command imports what it needs: kubectl starts faster without the server.
    if command == "kubectl":
        from . import kubectl  # noqa: PLC0415

        return kubectl.run(arguments, os.environ, out)
    if command == "token":
        from . import token_command  # noqa: PLC0415

        return token_command.run(arguments, os.environ, out)
    raise StandInError(f"The stand-in for K3s does not play `k3s {command}`.")


def _serve(command: str, arguments: list[str]) -> int:
    from . import journal, paths, settings  # noqa: PLC0415

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    journal.warning(NOTICE)
    try:
        given = settings.read(command, arguments, os.environ, paths.find(os.environ).config_file)
        files = paths.find(os.environ, given.text("data-dir"))
        journal.info(f"Starting k3s {command} {VERSION}")
        ignored = settings.unused(command, given)
        if ignored:
            journal.info(f"Accepted, without effect in the stand-in: {', '.join(ignored)}")
        _run(command, files, given, stop)
    except (StandInError, OSError) as exc:
        journal.fatal(str(exc))
        return 1
    return 0


def _run(command: str, files: Paths, given: Settings, stop: threading.Event) -> None:
    from . import agent, notify, server  # noqa: PLC0415

    if command == "server":
        server.run(files, given, stop, notify.ready)
        return
    token, url = agent.given_token(given, files), agent.given_server(given)
    agent.Agent(files, agent.from_settings(files, given), url, token, stop, notify.ready).run()
