"""How the audit log looks: as JSON in pages, as JSON lines, and as CSV that a spreadsheet can open safely."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from pydantic import Field

from control_api.envelope import Wire
from control_api.events.models import AuditEntry, Outcome

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so would be computed


class AuditView(Wire):
    """One change, or one refused attempt."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    outcome: Outcome
    peer: str | None
    request_id: str | None
    details: dict[str, Any] = Field(
        examples=[{"reason": "new disk", "until": "2030-01-31T18:00:00Z", "drain": True}]
    )


class AuditPage(Wire):
    """Entries, the newest first; nextCursor leads to older ones and is null on the last page."""

    entries: list[AuditView]
    next_cursor: str | None


def view(entry: AuditEntry) -> AuditView:
    """Return what is shown of an entry."""
    return AuditView.model_validate({name: getattr(entry, name) for name in AuditView.model_fields})


def json_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield a line of JSON an entry."""
    for entry in entries:
        yield view(entry).model_dump_json(by_alias=True) + "\n"


def csv_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield the names of the columns, then a row an entry; details are JSON in their cell."""
    names = [field.alias or name for name, field in AuditView.model_fields.items()]
    yield _row(names)
    for entry in entries:
        shown = view(entry).model_dump(mode="json", by_alias=True)
        yield _row([_cell(shown[name]) for name in names])


def _cell(value: Any) -> str:
    text = "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _row(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
