"""Numbers as people read them: ages, sizes, shares, moments. Pure; static/live.js counts ages the same way."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

AGES = ((172800, 86400, "d"), (7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))  # from this age on: unit
SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
HIGH, FULL = 75, 90  # percent


@dataclass(frozen=True)
class When:
    """A moment: `iso` for machines, `clock` in UTC, `ago` as seen now, which makes no difference to two moments."""

    iso: str
    clock: str
    ago: str = field(compare=False)


@dataclass(frozen=True)
class Gauge:
    """A share of something: `percent` is None when nobody told; `of` says of how much."""

    percent: int | None
    text: str
    of: str
    level: str


def when(moment: datetime, now: datetime) -> When:
    """Return the moment as it is shown."""
    iso = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return When(iso, clock(moment), ago((now - moment).total_seconds()))


def clock(moment: datetime) -> str:
    """Return a moment to the second: `2026-11-24 12:00:00 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(seconds: float) -> str:
    """Return how long ago that is, or how far ahead: `12 s ago`, `in 3 min`, `now`."""
    size = int(abs(seconds))
    if size == 0:
        return "now"
    _, unit, name = next(row for row in AGES if size >= row[0])
    return f"{size // unit} {name} ago" if seconds > 0 else f"in {size // unit} {name}"


def size(number: int | float | None) -> str:
    """Return bytes in the largest unit that leaves at least 1: `31.3 GiB`; a dash when nobody told."""
    if number is None:
        return "–"
    left, units = float(number), iter(SIZES)
    unit = next(units)
    while left >= 1024 and unit != SIZES[-1]:
        left, unit = left / 1024, next(units)
    return f"{left:.0f} {unit}" if unit == "B" or left >= 100 else f"{left:.1f} {unit}"


def gauge(percent: float | None, of: str) -> Gauge:
    """Return a share as it is drawn: 75 % is high, 90 % is full."""
    if percent is None:
        return Gauge(None, "–", of, "none")
    shown = min(100, max(0, round(percent)))
    return Gauge(shown, f"{shown} %", of, "full" if shown >= FULL else "high" if shown >= HIGH else "ok")


def share(used: float, total: float) -> float | None:
    """Return used of total in percent; None when there is nothing to use."""
    return 100 * used / total if total else None


def plural(count: int, noun: str) -> str:
    """Return `1 worker`, `2 workers`, `100,000 workers`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def pairs(evidence: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a JSON object as names and readable values."""
    return tuple((name, _value(value)) for name, value in sorted(evidence.items()))


def _value(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    try:
        moment = datetime.fromisoformat(value)
        return clock(moment) if moment.tzinfo else value
    except (ValueError, OverflowError):  # most texts are no moments, and some moments are beyond the calendar
        return value
