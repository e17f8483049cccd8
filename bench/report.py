"""What a measurement is asked for and what it answers, and how that is written down."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How much to measure. seconds: of one run. connections: that the client keeps open."""

    seconds: float
    workers: int
    runs: int
    connections: int

    @property
    def warm_up(self) -> float:
        """Seconds of load before anything is counted."""
        return min(3.0, self.seconds / 2)

    @staticmethod
    @contextmanager
    def directory() -> Iterator[Path]:
        """Give a directory for the logs of one measurement."""
        with tempfile.TemporaryDirectory(prefix="muster-bench-") as made:
            yield Path(made)


@dataclass(frozen=True)
class Section:
    """A measurement: how it was made, a table of what was found, and each goal with whether it is met."""

    title: str
    how: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[str]

    def markdown(self, command: str) -> str:
        """Return the section as it stands in RESULTS.md."""
        lines = [f"## {self.title}", "", f"`{command}`. {self.how}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (self.head, ["---"] * len(self.head), *self.rows)]
        lines += ["", *(f"- {line}" for line in self.verdicts), ""]
        return "\n".join(lines)


def verdict(found: str, goal: str, met: bool) -> str:
    """Return a line that holds what was found against its goal."""
    return f"{'**met**' if met else '**NOT met**'} (goal {goal}): {found}"
