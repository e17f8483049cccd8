"""Taking heartbeats: a small ASGI callable in front of the application, since little else happens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from control_api import middleware
from control_api.errors import BodyTooLarge, InternalError, InvalidCredential, InvalidRequest, MusterError
from control_api.workers import lifecycle
from control_api.workers.batcher import GroupCommit
from control_api.workers.beat_store import Beat, BeatStore, Outcome, Stored
from control_api.workers.credentials import Claim, Credentials
from control_api.workers.lifecycle import Moment, Rules, Status
from control_api.workers.refused_beats import RefusedBeats
from control_api.workers.requests import Asked, Request
from control_api.workers.wire import HeartbeatReport

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]

PATH = re.compile(r"/api/workers/([^/]+)/heartbeat\Z")
LARGEST_BODY = 64 * 1024
log = structlog.get_logger()


class Heartbeats:
    """Answers `PATCH /api/workers/{id}/heartbeat` and hands everything else to the application."""

    def __init__(
        self,
        app: App,
        *,
        store: BeatStore,
        record: Callable[[Sequence[UUID]], Awaitable[Sequence[None]]],
        failure: Callable[[MusterError], Answer],
        credentials: Credentials,
        interval_seconds: int,
        stopping: Callable[[], None] = lambda: None,
        durable: Callable[[Sequence[Outcome], float], None] = lambda *_: None,
        refused: Callable[[MusterError], None] = lambda _: None,
        notes: RefusedBeats,
    ) -> None:
        """Take heartbeats for `app`.

        record: records the changed statuses of these workers. failure: how the application answers an error.
        stopping: what the server calls when it begins to stop.
        durable: told of every batch, and how long its oldest heartbeat has waited. refused: told of every refusal.
        notes: gets what belongs into the audit log.
        """
        self.stopping = stopping
        self.app = app
        self._store = store
        self._failure = failure
        self._credentials = credentials
        self._interval = interval_seconds
        self._refused = refused
        self._notes = notes
        self._beats: GroupCommit[Beat, Outcome] = GroupCommit(
            store.write, lambda beat: beat.worker_id, committed=durable
        )
        self._changes: GroupCommit[UUID, None] = GroupCommit(record, lambda worker_id: worker_id, patience=0)
        self._recording: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to write; call it in the event loop that serves the requests."""
        self._beats.start()
        self._changes.start()
        self._notes.start()

    async def close(self) -> None:
        """Write what has arrived, then stop."""
        await self._beats.close()
        if self._recording:
            await asyncio.wait(self._recording)
        await self._changes.close()
        await self._notes.close()
        await self._store.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = PATH.match(scope["path"]) if scope["type"] == "http" and scope["method"] == "PATCH" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is not None:
            headers = scope["headers"]
            asked = Request(found[1], headers, scope.get("client"), middleware.request_id(headers))
            await _send(send, await self.answer(asked, body), asked.request_id)

    async def answer(self, asked: Asked, body: bytes) -> Answer:
        """Take a heartbeat, and return what answers it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.take(asked, body, lambda answer: None if future.done() else future.set_result(answer))
        return await future

    def take(self, asked: Asked, body: bytes, finish: Callable[[Answer], None]) -> None:
        """Do the same without a task, which costs more than all the rest: `finish` gets what answers it."""
        claim = None
        try:
            claim = self._authenticate(asked)
            self._beats.add(_beat(claim, body), partial(self._finish, asked, claim, finish))
        except Exception as exc:
            self._refuse(asked, claim, finish, exc)

    def _finish(
        self, asked: Asked, claim: Claim, finish: Callable[[Answer], None], outcome: Outcome | Exception
    ) -> None:
        if not isinstance(outcome, Stored):
            exc = outcome if isinstance(outcome, Exception) else outcome()
            self._refuse(asked, claim, finish, exc)
            return
        status = _status(outcome)
        if status is outcome.recorded:
            finish(self._received(claim, status))
            return
        recording = asyncio.get_running_loop().create_task(self._record(claim.worker_id))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)
        recording.add_done_callback(lambda _: finish(self._received(claim, status)))

    def _received(self, claim: Claim, status: Status) -> Answer:
        if claim.outdated:
            renewed = self._credentials.issue(claim.worker_id, claim.epoch)
            data = {"nextInSeconds": self._interval, "status": status, "credential": renewed}
            return 200, _body_of(data), []
        return 200, _received(self._interval, status), []

    def _refuse(
        self, asked: Asked, claim: Claim | None, finish: Callable[[Answer], None], exc: Exception
    ) -> None:
        if not isinstance(exc, MusterError):
            request_id = asked.request_id.decode()
            log.error("heartbeat failed", worker=asked.worker, request_id=request_id, exc_info=exc)
            exc = InternalError()
        self._refused(exc)
        finish(self._failure(exc))
        self._notes.add(exc, asked, claim)

    def _authenticate(self, asked: Asked) -> Claim:
        for name, value in asked.headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                credential = value[7:].strip().decode("latin-1")
                claim = self._credentials.check(credential)
                if claim is not None and credential.startswith(f"{asked.worker}."):
                    return claim
        raise InvalidCredential

    async def _record(self, worker_id: UUID) -> None:
        try:
            await self._changes.submit(worker_id)
        except (
            MusterError
        ) as exc:  # the heartbeat is stored; the monitor records the change with its next tick
            log.warning("change of status not recorded yet", worker=str(worker_id), reason=type(exc).__name__)


@cache
def _status(stored: Stored) -> Status:
    """Return the status of a worker that is heard at this very moment, so that no clock decides."""
    now = datetime.max.replace(tzinfo=UTC)
    at = Moment(now, Rules(), nodes_seen_at=now if stored.knows_nodes else None)
    health = lifecycle.health(
        approved=stored.approved,
        recorded=stored.recorded,
        ever_ready=stored.ever_ready,
        left=False,
        node_ready=stored.node_ready,
        node=stored.node,
        registered_at=at.now,
        last_heartbeat_at=at.now,
        at=at,
    )
    return lifecycle.status(stored.intent, health)


def _beat(claim: Claim, body: bytes) -> Beat:
    if len(body) > LARGEST_BODY:
        raise BodyTooLarge
    try:
        report = HeartbeatReport.model_validate_json(body or b"{}")
    except ValidationError as exc:
        details = tuple(
            (".".join(map(str, error["loc"])) or "body", error["msg"].removeprefix("Value error, "))
            for error in exc.errors(include_input=False, include_url=False, include_context=False)
        )
        raise InvalidRequest(details=details) from None
    return Beat(
        claim.worker_id,
        claim.epoch,
        report.boot_id,
        report.seq,
        report.node_ready is not False,
        report.cpu_usage,
        report.memory_usage,
        report.disk_usage,
        report.current_pods,
        report.load_average,
    )


async def _body(receive: Receive) -> bytes | None:
    """Return the body, or what there is of it once it is too large; None when the client has gone."""
    body: bytes = b""
    while len(body) <= LARGEST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


@cache
def _received(interval: int, status: Status) -> bytes:
    return _body_of({"nextInSeconds": interval, "status": status})


def _body_of(data: dict[str, Any]) -> bytes:
    body: str = json.dumps({"success": True, "message": "Heartbeat received", "data": data})
    return body.encode()


async def _send(send: Send, answer: Answer, request_id: bytes) -> None:
    status, body, headers = answer
    base = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    around = [*middleware.HEADERS, (b"x-request-id", request_id)]
    await send({"type": "http.response.start", "status": status, "headers": base + headers + around})
    await send({"type": "http.response.body", "body": body})
