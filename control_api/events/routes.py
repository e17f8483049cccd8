"""The events over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query

from control_api.envelope import Failure
from control_api.errors import Overloaded
from control_api.events.event_store import Kind
from control_api.events.http import EventStream
from control_api.http import Answers, BearerToken, Viewer, Wired, answers
from control_api.identity import gate

LARGEST = 2**63 - 1
REFUSED = {"$ref": f"#/components/schemas/{Failure.__name__}"}
router = APIRouter(prefix="/api")
Position = Annotated[int | None, Query(ge=0, le=LARGEST, description="Begin behind this event.")]
STREAM = """: still here
id: 41

event: worker.transition
data: {"id":42,"kind":"worker.transition","at":"2026-11-24T12:01:35+00:00","workerId":"…","hostname":"w1",\
"name":"w1","from":"ACTIVE","to":"INACTIVE","reason":"not heard for 91 s","actor":"monitor","evidence":{}}
id: 42
"""


def refusals(documented: Answers) -> Answers:
    """Return the failures with the schema written out; a model would be documented as the media type of the stream."""
    return {
        status: {
            "description": answer["description"],
            "content": {kind: {"schema": REFUSED, **content} for kind, content in answer["content"].items()},
        }
        for status, answer in documented.items()
    }


def reachable(service: Wired) -> None:
    """Refuse a stream that would have nothing to tell. Raises DatabaseUnavailable."""
    service.database.ping()


@router.get(
    "/events",
    dependencies=[Depends(reachable)],
    response_class=EventStream,
    status_code=200,
    responses={
        200: {
            "description": "Server-sent events; the stream does not end by itself.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM}},
        },
        **refusals(answers(Overloaded)),
    },
)
async def events(
    *,
    _viewer: Viewer,
    service: Wired,
    token: BearerToken,
    last_event_id: Annotated[int | None, Header(ge=0, le=LARGEST)] = None,
    after: Position = None,
    worker: UUID | None = None,
    kind: Annotated[list[Kind], Query()] = [],  # noqa: B006 - FastAPI copies it
) -> EventStream:
    """Stream what happens to the workers, as it happens.

    Begins behind `Last-Event-ID` (or `after`) without a gap and without a repetition; without either, now.
    """
    return EventStream(
        service.events,
        after=after if last_event_id is None else last_event_id,
        worker=worker,
        kinds=kind,
        admit=lambda: gate.identify(service, token, service.clock()),
    )
