"""What the tests of the agent share: the agent, loaded by its path, and a control API that follows a script."""

from __future__ import annotations

import importlib.util
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[2] / "roles/worker_agent/files/muster_agent.py"


def load() -> Any:
    specification = importlib.util.spec_from_file_location("muster_agent", FILE)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["muster_agent"] = module
    specification.loader.exec_module(module)
    return module


agent: Any = load()

REGISTERED = {
    "workerId": "w1",
    "isRestart": True,
    "credential": "w1.2.new",
    "joinToken": None,
    "masterUrl": None,
    "heartbeat": {"url": "/api/workers/w1/heartbeat", "intervalSeconds": 30},
}
STATE = {
    "worker_id": "w1",
    "credential": "w1.1.old",
    "heartbeat_path": "/api/workers/w1/heartbeat",
    "interval_seconds": 30,
}


def beat(seconds: float, **more: Any) -> dict[str, Any]:
    return {"nextInSeconds": seconds, "status": "ACTIVE", **more}


class Refusal(NamedTuple):
    """An error answer in the control API's envelope."""

    status: int
    message: str
    details: tuple[dict[str, str], ...] = ()


class Raw(NamedTuple):
    """An answer that is not in the envelope; `hang_up` closes the connection after it, without saying so."""

    content: bytes
    status: int = 200
    hang_up: bool = False


class Asked(NamedTuple):
    method: str
    path: str
    token: str
    body: dict[str, Any]
    client: tuple[str, int]


class ScriptedApi(ThreadingHTTPServer):
    """Gives the scripted answers in order, the last one for ever; None is silence until it is released."""

    daemon_threads = True

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.answers = answers
        self.asked: list[Asked] = []
        self.news = threading.Condition()
        self.released = threading.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def next_answer(self, asked: Asked) -> Any:
        with self.news:
            self.asked.append(asked)
            self.news.notify_all()
            if asked.path.endswith("/leave"):
                return {"status": "INACTIVE"}
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def wait_for(self, requests: int, seconds: float = 20) -> list[Asked]:
        """The requests so far, once there are that many; fails when they do not come in time."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.asked) >= requests, seconds), self.asked
            return list(self.asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that do not trust the certificate hang up: no news."""


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedApi

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = self.headers["Authorization"].removeprefix("Bearer ")
        answer = self.server.next_answer(Asked(self.command, self.path, token, body, self.client_address))
        if answer is None:
            self.server.released.wait(60)
            self.close_connection = True
            return
        raw = answer if isinstance(answer, Raw) else envelope(answer)
        self.send_response(raw.status)
        self.send_header("Content-Length", str(len(raw.content)))
        self.end_headers()
        self.wfile.write(raw.content)
        if raw.hang_up:
            self.close_connection = True

    do_POST = do_PATCH = do_PUT = answer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def envelope(answer: dict[str, Any] | Refusal) -> Raw:
    if isinstance(answer, Refusal):
        error = {"code": "REFUSED", "details": list(answer.details)}
        failure = {"success": False, "message": answer.message, "error": error}
        return Raw(json.dumps(failure).encode(), answer.status)
    return Raw(json.dumps({"success": True, "message": "done", "data": answer}).encode())


class Certificate(NamedTuple):
    certificate: Path
    key: Path


def certificate(directory: Path, address: str = "127.0.0.1") -> Certificate:
    """A self-signed certificate for an address."""
    made = Certificate(directory / f"{address}.pem", directory / f"{address}.key")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName=IP:{address}"]
    command += ["-out", str(made.certificate), "-keyout", str(made.key)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@contextmanager
def control_api(*answers: Any, tls: Certificate | None = None) -> Iterator[ScriptedApi]:
    server = ScriptedApi(list(answers))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
