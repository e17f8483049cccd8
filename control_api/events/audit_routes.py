"""The audit log over HTTP: to read and to export; nothing changes it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from control_api import examples
from control_api.envelope import Moment, Success
from control_api.events import audit, audit_store, audit_wire
from control_api.events.audit_store import Filter
from control_api.events.models import AuditEntry, Outcome
from control_api.http import Auditor, Now, Peer, Wired, answers, success

MAX_PAGE = 500
JSON_LINES = "application/x-ndjson"
EXAMPLE = AuditEntry(
    id=41,
    at=datetime(2030, 1, 31, 18, tzinfo=UTC),
    actor="user:ann",
    action="worker.create",
    subject=f"worker:{examples.ID}",
    outcome=Outcome.DONE,
    peer="192.0.2.50",
    request_id="0f8fad5bd9cb469fa165708677289501",
    details={"hostname": "w1"},
)
router = APIRouter(prefix="/api/audit", tags=["audit"])


class Format(StrEnum):
    """How the export is written."""

    JSON_LINES = "jsonl"
    CSV = "csv"


Exact = Annotated[str | None, Query(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]


def filter_of(
    *,
    actor: Exact = None,
    action: Exact = None,
    subject: Exact = None,
    outcome: Outcome | None = None,
    since: Annotated[Moment | None, Query(description="The entry's moment or later.")] = None,
    until: Annotated[Moment | None, Query(description="Before that moment.")] = None,
) -> Filter:
    """Return which entries are asked for."""
    return Filter(actor, action, subject, outcome, since, until)


Wanted = Annotated[Filter, Depends(filter_of)]


@router.get("", responses=answers())
def entries(
    *,
    _auditor: Auditor,
    service: Wired,
    wanted: Wanted,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}$", description="nextCursor of a page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Success[audit_wire.AuditPage]:
    """List changes and refused attempts, the newest first."""
    before = int(cursor) if cursor else None
    with service.database.reading() as session:
        found = audit_store.page(session, wanted, before=before, limit=limit + 1)
    shown = [audit_wire.view(entry) for entry in found[:limit]]
    following = str(shown[-1].id) if len(found) > limit else None
    return success(f"{len(shown)} entries", audit_wire.AuditPage(entries=shown, next_cursor=following))


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Every entry, the oldest first. A download that breaks off is not complete.",
            "content": {
                JSON_LINES: {
                    "schema": {"type": "string"},
                    "example": "".join(audit_wire.json_lines([EXAMPLE])),
                },
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "".join(audit_wire.csv_lines([EXAMPLE])),
                },
            },
        },
        **answers(),
    },
)
def export(
    *,
    auditor: Auditor,
    service: Wired,
    wanted: Wanted,
    now: Now,
    peer: Peer,
    format: Format = Format.JSON_LINES,  # noqa: A002 - the parameter's name in the URL
) -> StreamingResponse:
    """Export changes and refused attempts as JSON lines or CSV, the oldest first."""
    with service.database.transaction() as session:
        audit.record(session, actor=auditor.actor, action="audit.export", peer=peer, now=now)
    rows = audit_store.export(service.database, wanted)
    lines = audit_wire.csv_lines(rows) if format is Format.CSV else audit_wire.json_lines(rows)
    kind = "text/csv" if format is Format.CSV else JSON_LINES
    name = f"muster-audit-{now:%Y%m%dT%H%M%SZ}.{format.value}"
    return StreamingResponse(
        lines, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
