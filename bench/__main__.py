"""`bench/run`: measure all parts, or those that are named."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import fleet, heartbeats, list_pages, silence, site, two_processes
from bench.machine import description
from bench.report import Options, Section

PARTS: dict[str, tuple[Callable[[Options], Section], Options]] = {
    "heartbeats": (heartbeats.run, Options(seconds=15, workers=10_000, runs=5, connections=1000)),
    "fleet": (fleet.run, Options(seconds=600, workers=100_000, runs=1, connections=0)),
    "silence": (silence.run, Options(seconds=0, workers=100_000, runs=3, connections=0)),
    "list_pages": (list_pages.run, Options(seconds=0, workers=100_000, runs=5, connections=0)),
    "two_processes": (two_processes.run, Options(seconds=600, workers=10_000, runs=1, connections=64)),
    "site": (site.run, Options(seconds=0, workers=0, runs=3, connections=0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__, allow_abbrev=False)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all without")
    parser.add_argument("--seconds", type=float, help="seconds of a run")
    parser.add_argument("--workers", type=int, help="workers of the fleet")
    parser.add_argument("--runs", type=int, help="how often to measure")
    parser.add_argument("--connections", type=int, help="connections of the client")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the results there too")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    given = {
        name: value
        for name in ("seconds", "workers", "runs", "connections")
        if (value := getattr(asked, name))
    }
    text = _head()
    for part in asked.parts or PARTS:
        measure, usual = PARTS[part]
        section = measure(replace(usual, **given))
        command = " ".join(["bench/run", part, *(f"--{name} {value:g}" for name, value in given.items())])
        print(shown := section.markdown(command), flush=True)
        text += "\n" + shown
        if asked.write:
            asked.write.write_text(text)


def _head() -> str:
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
    ).stdout.strip()
    lines = [*description(), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {revision}"]
    return "# Results\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


if __name__ == "__main__":
    main()
