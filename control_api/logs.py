"""The log: lines for people on a terminal, JSON for everything else, and never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = ("token", "secret", "password", "authorization", "credential", "cookie")
HARMLESS = ("token_id",)
# A JWT, an API key, an enrolment token, a worker's credential, what follows Bearer, the user and password of a URL.
SHAPE = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]*\.[\w-]*|muster_[\w-]{16,}|met_[0-9a-f]{32}_\w+|[0-9a-f-]{36}\.[0-9]+\.[\w-]+"
    r"|(?<=[Bb]earer )[^\s'\"]+|(?<=://)[^/\s@:]*:[^/\s@]+(?=@)"
)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Black out whatever is named like a secret."""
    for name in event:
        if name not in HARMLESS and any(word in name.lower() for word in SECRET):
            event[name] = "[redacted]"
    return event


def scrub(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Black out what looks like a secret wherever it stands, also in an exception's text."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = SHAPE.sub("[redacted]", value)
    return event


def configure() -> None:
    """Send structlog and the libraries' logging the same way, to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    terminal = sys.stderr.isatty()
    last: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ]  # no local variables
        if terminal
        else [structlog.processors.JSONRenderer(default=str)]
    )
    last = [structlog.processors.format_exc_info, scrub, *last]
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for chatty in ("httpx2", "httpcore2", "alembic.runtime.migration"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
