"""The edge: which error is which HTTP status, who may ask, what every answer looks like."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import compile_path

from control_api import errors, middleware
from control_api.envelope import ErrorBody, ErrorDetail, Failure, Success
from control_api.events.audit import ANONYMOUS
from control_api.identity import gate
from control_api.identity.callers import Caller
from control_api.identity.roles import Role, Scope
from control_api.service import Service

RETRY_SECONDS = 5
Payload = TypeVar("Payload")
log = structlog.get_logger()

# The first row that fits counts, so a class stands before its root.
STATUS: Sequence[tuple[type[errors.MusterError], int]] = (
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.WorkerRemoved, 410),
    (errors.BodyTooLarge, 413),
    (errors.InvalidRequest, 422),
    (errors.TooManyAttempts, 429),
    (errors.DatabaseUnavailable, 503),
    (errors.Overloaded, 503),
    (errors.TooManyStreams, 503),
    (errors.ClusterUnavailable, 503),
)
PLAIN = {
    400: ("BAD_REQUEST", "The body cannot be read as JSON."),
    404: ("NOT_FOUND", "There is nothing at this path."),
    405: ("METHOD_NOT_ALLOWED", "This path does not know that method."),
    413: ("BODY_TOO_LARGE", str(errors.BodyTooLarge())),
}


def failure(exc: errors.MusterError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Return status, body and extra headers that answer the error."""
    status = next((number for kind, number in STATUS if isinstance(exc, kind)), 500)
    headers = []
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in {429, 503}:
        headers.append((b"retry-after", str(getattr(exc, "retry_after", RETRY_SECONDS)).encode()))
    return status, _failure_body(errors.code(type(exc)), str(exc), exc.details), headers


Answers = dict[int | str, dict[str, Any]]


def answers(*more: type[errors.MusterError]) -> Answers:
    """Return the failures of an operation that asks who one is, for OpenAPI: the usual ones, and `more` of its own."""
    return answers_to_anyone(errors.Unauthorized, errors.Forbidden, *more)


def answers_to_anyone(*more: type[errors.MusterError]) -> Answers:
    """Return the failures of an operation that nobody needs a login for: the usual ones, and `more` of its own."""
    name, message = PLAIN[400]
    unreadable = _documented(name, message, _failure_body(name, message))
    usual = (errors.BodyTooLarge, errors.InvalidRequest, errors.DatabaseUnavailable)
    return {400: unreadable, **failures(*usual, *more)}


def failures(*kinds: type[errors.MusterError]) -> Answers:
    """Return these failures for OpenAPI, each with an example, and the one that any operation has."""
    found: Answers = {}
    for kind in (*kinds, errors.InternalError):
        status, body, _ = failure(kind())
        answer = _documented(errors.code(kind), str(kind()), body)
        known = found.setdefault(status, answer)["content"]["application/json"]["examples"]
        known.update(answer["content"]["application/json"]["examples"])
    return found


def _documented(name: str, message: str, body: bytes) -> dict[str, Any]:
    examples = {name: {"value": json.loads(body)}}
    return {
        "model": Failure,
        "description": message,
        "content": {"application/json": {"examples": examples}},
    }


def success(message: str, data: Payload) -> Success[Payload]:
    """Put the data into the envelope."""
    return Success(message=message, data=data)


# ---- who asks

bearer_header = HTTPBearer(
    auto_error=False, description="A JWT, an API key, an enrolment token or a credential"
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_header)]


def service_of(request: Request) -> Service:
    """Return the wired parts."""
    service: Service = request.app.state.service
    return service


Wired = Annotated[Service, Depends(service_of)]


def now_of(service: Wired) -> datetime:
    """Read the clock, once a request."""
    return service.clock()


Now = Annotated[datetime, Depends(now_of)]


def peer_of(request: Request) -> str | None:
    """Return the client's address; a proxy on loopback is believed about it (see serving.py)."""
    return middleware.address(request.client.host) if request.client else None


Peer = Annotated[str | None, Depends(peer_of)]


def token_of(bearer: Bearer) -> str | None:
    """Return what stands behind `Bearer`."""
    return bearer.credentials if bearer else None


BearerToken = Annotated[str | None, Depends(token_of)]


def caller_of(request: Request, token: BearerToken, service: Wired, now: Now, peer: Peer) -> Caller:
    """Return who asks. Raises Unauthorized."""
    try:
        caller = gate.identify(service, token, now)
    except errors.Unauthorized as exc:
        note_refusal(request, service, exc, ANONYMOUS, peer, now)
        raise
    request.state.actor = caller.actor
    return caller


Someone = Annotated[Caller, Depends(caller_of)]


def allowed(role: Role, *scopes: Scope, person: bool = False) -> Callable[..., Caller]:
    """Return a dependency that lets in this role and those above, and API keys with one of these scopes.

    person: whether it must be a user who logged in. The dependency raises Unauthorized or Forbidden.
    """

    def check(request: Request, caller: Someone, service: Wired, now: Now, peer: Peer) -> Caller:
        if not caller.may(role, *scopes) or (person and caller.user_id is None):
            exc = errors.Forbidden()
            note_refusal(request, service, exc, caller.actor, peer, now)
            raise exc
        return caller

    return check


def operator_of(
    request: Request, token: str | None, service: Service, now: datetime, peer: str | None
) -> Caller:
    """Return the operator who asks where others may too. Raises Unauthorized, Forbidden."""
    caller = caller_of(request, token, service, now, peer)
    return allowed(Role.OPERATOR)(request, caller, service, now, peer)


def inventory_reader_of(
    request: Request, token: str | None, service: Service, now: datetime, peer: str | None
) -> Caller:
    """Return who may read the inventory where others may too. Raises Unauthorized, Forbidden."""
    caller = caller_of(request, token, service, now, peer)
    return allowed(Role.VIEWER, Scope.INVENTORY)(request, caller, service, now, peer)


Viewer = Annotated[Caller, Depends(allowed(Role.VIEWER))]
Operator = Annotated[Caller, Depends(allowed(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(allowed(Role.ADMIN))]
Person = Annotated[Caller, Depends(allowed(Role.VIEWER, person=True))]
AdminPerson = Annotated[Caller, Depends(allowed(Role.ADMIN, person=True))]
Auditor = Annotated[Caller, Depends(allowed(Role.ADMIN, Scope.AUDIT))]
Enroller = Annotated[Caller, Depends(allowed(Role.ADMIN, Scope.ENROLMENT))]
InventoryReader = Depends(allowed(Role.VIEWER, Scope.INVENTORY))


def note_refusal(
    request: Request,
    service: Service,
    exc: errors.MusterError,
    actor: str,
    peer: str | None,
    now: datetime,
) -> None:
    """Note that this request is refused."""
    subject = f"{request.method} {request.url.path}"
    service.refusals.note(exc, actor=actor, action="access", subject=subject, peer=peer, now=now)


# ---- every answer


def install(app: FastAPI) -> None:
    """Answer every error in the envelope."""
    app.add_exception_handler(errors.MusterError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _plain)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, lambda _, exc: unexpected(exc))  # of an answer that has begun


def _known(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, errors.MusterError)  # noqa: S101 - registered for this class
    status, body, headers = failure(exc)
    return Response(
        body, status, {name.decode(): value.decode() for name, value in headers}, "application/json"
    )


def _invalid(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for this class
    return _known(_request, invalid(exc.errors()))


def invalid(found: Sequence[Any]) -> errors.InvalidRequest:
    """Return the error that says what a validation has found."""
    return errors.InvalidRequest(details=tuple((_field(error["loc"]), _text(error)) for error in found))


def _plain(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, StarletteHTTPException)  # noqa: S101 - registered for this class
    name, message = PLAIN.get(exc.status_code, ("REQUEST_REFUSED", str(exc.detail)))
    headers = exc.headers
    if exc.status_code == 405 and (known := _methods(request)):
        headers = {"Allow": ", ".join(sorted(known))}
    return Response(_failure_body(name, message), exc.status_code, headers, "application/json")


def _methods(request: Request) -> set[str]:
    """Return every documented method of this path; the framework names those of one of its operations only.

    A path that is written down as it is wins over one with parameters that it fits too: /workers/stats.
    """
    paths, path = request.app.openapi()["paths"], request.url.path
    fitting = [operations for template, operations in paths.items() if compile_path(template)[0].match(path)]
    chosen = [paths[path]] if path in paths else fitting
    return {method.upper() for operations in chosen for method in operations}


def unexpected(exc: Exception) -> Response:
    """Answer a fault of ours, and log it."""
    log.error("unexpected error", exc_info=exc)
    message = "Something failed inside the control API; its log says what, under this answer's X-Request-Id."
    return Response(_failure_body("INTERNAL_ERROR", message), 500, media_type="application/json")


def _field(location: Sequence[str | int]) -> str:
    """Return the field's name as the client wrote it: without the `body` or `query` in front."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _text(error: dict[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _failure_body(name: str, message: str, details: Sequence[tuple[str, str]] = ()) -> bytes:
    shown = [ErrorDetail(field=field, message=text) for field, text in details]
    failed = Failure(message=message, error=ErrorBody(code=name, details=shown))
    return json.dumps(failed.model_dump(by_alias=True)).encode()
