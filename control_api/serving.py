"""Running the application under uvicorn, so that systemd knows when it is ready and when it stops."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import uvicorn

from control_api import systemd
from control_api.errors import BadSettings
from control_api.protocol import Protocol

KEEP_ALIVE = (
    90  # seconds: longer than the pause between two heartbeats, and than the proxy keeps its connections
)
BACKLOG = 4096  # connections that wait while the process is busy, as many as at the proxy
GRACEFUL = 10  # seconds for the requests under way: longer than any of them takes (see postgres_link)
DEAF = 30  # seconds that sent data may wait for a client before its connection is ended
GARBAGE = (100_000, 20, 20)  # objects and rounds between two collections
TURN = 0.0005  # seconds that a computing thread keeps the interpreter while heartbeats wait; Python's own are 5 ms
log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn that says READY once it listens, and ends what would never end by itself when it stops."""

    def __init__(self, config: uvicorn.Config, stopping: Sequence[Callable[[], None]]) -> None:
        """Prepare. stopping: called in the event loop before the requests under way are waited for."""
        super().__init__(config)
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            sys.setswitchinterval(TURN)
            spare_collections()
            systemd.notify("READY=1")
            log.info("ready", url=f"http://{self.config.host}:{self.config.port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell, answer what was accepted, then stop."""
        systemd.notify("STOPPING=1")
        log.info("stopping")
        for end in self._stopping:
            end()
        await super().shutdown(sockets)


def run(app: Any, host: str, port: int, stopping: Sequence[Callable[[], None]] = ()) -> None:
    """Serve until SIGTERM or SIGINT; then end the streams with `stopping`, answer what was accepted, and stop.

    Raises BadSettings when the service cannot start.
    """
    listening = _listen(host, port)
    server = Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            proxy_headers=False,  # the application does it behind the heartbeats, which do not need it
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACEFUL,
        ),
        stopping,
    )
    server.run(sockets=[listening])
    if not server.started:
        msg = "The service could not start; the lines above say why."
        raise BadSettings(msg)


def spare_collections() -> None:
    """Never look again at what is there for good, and seldom at the rest: heartbeats leave no cycles.

    With Python's own thresholds the collector takes a sixth of the time of a busy process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is begun."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Whoever takes nothing of what is sent is gone after a while; accepted connections inherit it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF * 1000)
        listening.bind(address)
    except OSError as exc:
        msg = f"The service cannot listen on {host}:{port}: {exc.strerror}."
        raise BadSettings(msg) from exc
    return listening
