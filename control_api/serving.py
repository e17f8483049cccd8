"""Running the application under uvicorn, so that systemd knows when it is ready and when it stops."""

from __future__ import annotations

import socket
from typing import Any

import structlog
import uvicorn

from control_api import systemd
from control_api.errors import BadSettings

KEEP_ALIVE = (
    90  # seconds: longer than the pause between two heartbeats, and than the proxy keeps its connections
)
GRACEFUL = 10
log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn that says READY once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            systemd.notify("READY=1")
            log.info("ready", url=f"http://{self.config.host}:{self.config.port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell, then stop."""
        systemd.notify("STOPPING=1")
        log.info("stopping")
        await super().shutdown(sockets)


def run(app: Any, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises BadSettings when the service cannot start."""
    listening = _listen(host, port)
    server = Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips="127.0.0.1",  # nginx on this machine; nobody else is believed
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACEFUL,
        )
    )
    server.run(sockets=[listening])
    if not server.started:
        msg = "The service could not start; the lines above say why."
        raise BadSettings(msg)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is begun."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as exc:
        msg = f"The service cannot listen on {host}:{port}: {exc.strerror}."
        raise BadSettings(msg) from exc
    return listening
