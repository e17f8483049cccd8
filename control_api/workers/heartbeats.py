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

from control_api.errors import BodyTooLarge, InternalError, InvalidCredential, InvalidRequest, MusterError
from control_api.workers import lifecycle
from control_api.workers.batcher import GroupCommit
from control_api.workers.beat_store import Beat, BeatStore, Outcome, Stored
from control_api.workers.credentials import Claim, Credentials
from control_api.workers.lifecycle import Moment, Rules, Status
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
    ) -> None:
        """Take heartbeats for `app`.

        record: records the changed statuses of these workers. failure: how the application answers an error.
        stopping: what the server calls when it begins to stop.
        durable: told of every batch, and how long its oldest heartbeat has waited. refused: told of every refusal.
        """
        self.stopping = stopping
        self.app = app
        self._store = store
        self._failure = failure
        self._credentials = credentials
        self._interval = interval_seconds
        self._refused = refused
        self._beats: GroupCommit[Beat, Outcome] = GroupCommit(
            store.write, lambda beat: beat.worker_id, committed=durable
        )
        self._changes: GroupCommit[UUID, None] = GroupCommit(record, lambda worker_id: worker_id, patience=0)
        self._recording: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to write; call it in the event loop that serves the requests."""
        self._beats.start()
        self._changes.start()

    async def close(self) -> None:
        """Write what has arrived, then stop."""
        await self._beats.close()
        if self._recording:
            await asyncio.wait(self._recording)
        await self._changes.close()
        await self._store.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = PATH.match(scope["path"]) if scope["type"] == "http" and scope["method"] == "PATCH" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is not None:
            await _send(send, await self.answer(found[1], scope["headers"], body))

    async def answer(self, path_id: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Take a heartbeat that came to the path of the worker `path_id`, and return what answers it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.take(path_id, headers, body, lambda answer: None if future.done() else future.set_result(answer))
        return await future

    def take(
        self,
        path_id: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        finish: Callable[[Answer], None],
    ) -> None:
        """Do the same without a task, which costs more than all the rest: `finish` gets what answers it."""
        try:
            claim = self._authenticate(path_id, headers)
            self._beats.add(_beat(claim, body), partial(self._finish, path_id, claim, finish))
        except Exception as exc:
            finish(self._refusal(path_id, exc))

    def _finish(
        self, path_id: str, claim: Claim, finish: Callable[[Answer], None], outcome: Outcome | Exception
    ) -> None:
        if not isinstance(outcome, Stored):
            finish(self._refusal(path_id, outcome if isinstance(outcome, Exception) else outcome()))
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

    def _refusal(self, path_id: str, exc: Exception) -> Answer:
        if not isinstance(exc, MusterError):
            log.error("heartbeat failed", worker=path_id, exc_info=exc)
            exc = InternalError()
        self._refused(exc)
        answer = self._failure(exc)
        if answer[0] == 409:
            log.warning("heartbeat refused", worker=path_id, reason=type(exc).__name__)
        return answer

    def _authenticate(self, path_id: str, headers: list[tuple[bytes, bytes]]) -> Claim:
        for name, value in headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                credential = value[7:].strip().decode("latin-1")
                claim = self._credentials.check(credential)
                if claim is not None and credential.startswith(f"{path_id}."):
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


async def _send(send: Send, answer: Answer) -> None:
    status, body, headers = answer
    base = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": base + headers})
    await send({"type": "http.response.body", "body": body})
