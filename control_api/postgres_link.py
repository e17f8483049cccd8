"""Connections to PostgreSQL that never wait for ever: a server that is frozen or cut off is an error in seconds."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

Result = TypeVar("Result")
CONNECT = 3  # seconds for a new connection
PING = 2.0  # seconds for a kept connection to show that it lives
ANSWER = 8.0  # seconds for a statement with its rows; longer than the server's own limits below
SERVER_LIMITS = {
    "statement_timeout": "7s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "20s",
    "client_connection_check_interval": "2s",  # stop working for a client that is gone
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8s",
}
ARGUMENTS: dict[str, Any] = {
    "connect_timeout": CONNECT,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
    "options": " ".join(
        ["-c timezone=UTC", *(f"-c {name}={value}" for name, value in SERVER_LIMITS.items())]
    ),
}
# What the server says when it, or the way to it, is gone; the client's own errors have no code at all.
GONE = ("08", "57P")


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection on which nothing takes longer than `patience` seconds; then it is closed."""

    patience = ANSWER

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        """Wait for an answer. Raises OperationalError, and closes the connection, when none comes."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            _close_if_unanswered(self)
            raise

    def ping(self) -> None:
        """Return when the server answers, at once. Raises OperationalError."""
        self.patience, self.autocommit = PING, True
        self.execute("SELECT 1")
        self.autocommit = False
        del self.patience

    def lead(self, idle: float, patience: float) -> None:
        """Let this session die when it is idle for `idle` seconds, and give its statements `patience` seconds.

        A leader that is suspended or cut off is told apart from one that works by its silence alone.
        """
        self.patience = patience
        for name, seconds in (
            ("idle_session_timeout", idle),
            ("idle_in_transaction_session_timeout", patience),
            ("statement_timeout", patience),
        ):
            self.execute("SELECT set_config(%s, %s, false)", [name, f"{round(1000 * seconds)}ms"])


class BoundedAsyncConnection(psycopg.AsyncConnection[TupleRow]):
    """The same for an event loop."""

    patience = ANSWER

    async def wait(  # the driver's own signature
        self,
        gen: PQGen[Result],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Result:
        """Wait for an answer. Raises OperationalError, and closes the connection, when none comes."""
        try:
            return await super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            _close_if_unanswered(self)
            raise


def is_gone(exc: BaseException | None) -> bool:
    """Say whether the error means that the server is away, and not that it refused one statement."""
    return isinstance(exc, psycopg.Error) and (exc.sqlstate is None or exc.sqlstate.startswith(GONE))


def _close_if_unanswered(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
        connection.pgconn.finish()
