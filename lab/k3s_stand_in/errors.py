"""What can go wrong, one class per cause.

StandInError          a sentence for the journal or the terminal
├── UsageError        the command line or the configuration is wrong; the program ends
├── TokenError        a join token cannot be read
├── Unreachable       no answer from the server
├── Refused           the server answered with an error
└── ApiError          what the server answers, as a Kubernetes Status
"""

from __future__ import annotations

from typing import Any


class StandInError(Exception):
    """A sentence for the journal or the terminal."""


class UsageError(StandInError):
    """The command line or the configuration is wrong."""


class TokenError(StandInError):
    """A join token cannot be read."""


class Unreachable(StandInError):  # noqa: N818 - reads as a word in `except`
    """No answer from the server."""


class Refused(StandInError):  # noqa: N818
    """The server answered `status` (HTTP); `reason` is that of its Status, if it sent one."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ApiError(StandInError):
    """An answer to a client; `reason` is one of Kubernetes' StatusReasons."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    def status(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(message: str) -> ApiError:
    return ApiError(403, "Forbidden", message)


def not_found(resource: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: str, name: str) -> ApiError:
    return ApiError(
        409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name, "kind": resource}
    )


def conflict(resource: str, name: str) -> ApiError:
    message = (
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, {"name": name, "kind": resource})


def invalid(kind: str, name: str, message: str) -> ApiError:
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {message}', {"name": name, "kind": kind})
