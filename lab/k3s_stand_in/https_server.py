"""A bounded, threaded HTTPS server with optional client certificates."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from . import errors, journal
from .api import Answer, Call

Application = Callable[[Mapping[str, Any] | None, Call], Answer]
MAX_BODY = 3 * 1024 * 1024  # what the Kubernetes API takes
MAX_CONNECTIONS = 256
HANDSHAKE_SECONDS, IDLE_SECONDS = 10, 60
NEVER = 86400.0  # seconds between looks at a shutdown flag that nobody sets


class HttpsServer(ThreadingHTTPServer):
    """Serves `application` on one address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, application: Application) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)
        self.context = context
        self.application = application
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def serve_in_background(self) -> None:
        """Serve until the process ends; its threads need no farewell, as every change is one transaction."""
        threading.Thread(target=self.serve_forever, args=(NEVER,), name="https", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off or fails the handshake is its own affair."""


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive between requests."""

    protocol_version = "HTTP/1.1"
    server_version = "k3s-stand-in"
    sys_version = ""
    timeout = IDLE_SECONDS
    wbufsize = -1
    disable_nagle_algorithm = True
    server: HttpsServer

    def setup(self) -> None:
        # The handshake happens here, in the connection's own thread, so that a slow client holds nobody up.
        self.request.settimeout(HANDSHAKE_SECONDS)
        wrapped = self.server.context.wrap_socket(
            self.request, server_side=True, do_handshake_on_connect=False
        )
        self.request = wrapped
        try:
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """No line per request in the journal."""

    def _serve(self) -> None:
        length = self._length()
        if length is None:
            self.close_connection = True
            self._send(
                Answer(errors.ApiError(413, "RequestEntityTooLarge", "request body too large").status(), 413)
            )
            return
        self._send(self._answer(self.rfile.read(length)))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _length(self) -> int | None:
        text = self.headers.get("Content-Length", "0")
        acceptable = text.isdigit() and int(text) <= MAX_BODY and "Transfer-Encoding" not in self.headers
        return int(text) if acceptable else None

    def _answer(self, body: bytes) -> Answer:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers, body)
        try:
            return self.server.application(self.request.getpeercert(), call)
        except errors.ApiError as exc:
            return Answer(exc.status(), exc.code)
        except Exception as exc:
            journal.error(f"{self.command} {url.path}: {type(exc).__name__}: {exc}")
            return Answer(
                errors.ApiError(500, "InternalError", "Internal error, see the journal").status(), 500
            )

    def _send(self, answer: Answer) -> None:
        is_object = isinstance(answer.body, dict)
        content = json.dumps(answer.body).encode() if isinstance(answer.body, dict) else answer.body
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json" if is_object else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
