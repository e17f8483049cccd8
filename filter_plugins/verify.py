"""Pure filters of the report on a built cluster: rows of what was looked at, into a table that a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

STATES = {"ok": "ok", "impossible": "NOT SHOWN", "fault": "FAULT"}
HEADS = ("check", "host", "state", "")
Row = Mapping[str, str]


def rows(result: Mapping[str, Any], host: str) -> list[dict[str, str]]:
    """The rows of a task's result, each with a host; what could not be asked is a fault, and what was skipped nothing.

    host: whom the rows are about that name none.
    """
    if result.get("skipped"):
        return []
    if "rows" not in result:
        said = " ".join(str(result.get("msg", "")).removeprefix("Task failed: ").split())
        says = f"it cannot be {'reached' if result.get('unreachable') else 'looked at'}: {said}"
        return [{"check": "contact", "host": host, "state": "fault", "says": says}]
    return [{**row, "host": row.get("host") or host} for row in result["rows"]]


def faults(found: Iterable[Row]) -> list[Row]:
    """The rows of what is wrong."""
    return [row for row in found if row["state"] == "fault"]


def report(found: Iterable[Row]) -> str:
    """The rows as a table, and how many say what."""
    found = list(found)
    lines = [HEADS, *((row["check"], row["host"], STATES[row["state"]], row["says"]) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS) - 1)]
    table = ["  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in lines]
    return "\n".join([*table, "", _sum(Counter(row["state"] for row in found))])


def _sum(counts: Counter[str]) -> str:
    parts = [f"{counts['ok']} ok"]
    parts += [f"{counts['impossible']} cannot be shown here"] if counts["impossible"] else []
    faulty = counts["fault"]
    parts += [f"{faulty} fault{'' if faulty == 1 else 's'}"] if faulty else ["no fault"]
    return ", ".join(parts) + "."


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"verify_faults": faults, "verify_report": report, "verify_rows": rows}
