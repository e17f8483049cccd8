"""Progress of long work: what is done now, how long each phase took, and one sentence when one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from lab.errors import LabError

STARTED = "MUSTER_UP_STARTED"


@dataclass
class Phases:
    """The phases of one command, in order, with their seconds."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    def count_what_went_before(self, now: float) -> None:
        """The Makefile says in MUSTER_UP_STARTED (seconds since the epoch) when the user's command began."""
        started = os.environ.get(STARTED, "")
        if started.isdigit():
            self.seconds["virtual environment"] = max(0.0, now - int(started))

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Announce and time one phase. What fails in it is told as its failure."""
        self.console.print(f"[bold]==> {name}[/bold]: {what}", highlight=False, soft_wrap=True)
        started = time.monotonic()
        try:
            yield
        except OSError as exc:
            raise LabError(
                f"The phase '{name}' failed ({exc}): `muster lab down` clears up; then try again."
            ) from exc
        self.seconds[name] = time.monotonic() - started

    def table(self) -> Table:
        table = Table("phase", "seconds", box=None, pad_edge=False)
        table.columns[1].justify = "right"
        for name, seconds in {**self.seconds, "total": sum(self.seconds.values())}.items():
            table.add_row(name, f"{seconds:.1f}")
        return table
