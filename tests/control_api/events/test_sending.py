"""Where webhooks may go: which URLs, which addresses, and whose certificate counts."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from control_api.events import sending
from control_api.events.sending import Answer, Resolve, Verdict

WRONG = "needs a host and, if any, a port that exists, and has neither a user nor a fragment"


@pytest.mark.parametrize(
    ("url", "local", "wrong"),
    [
        ("https://hooks.example.org/x?y=z", False, None),
        ("https://10.0.0.7:8443/", False, None),
        ("http://hooks.example.org/", False, "must begin with https://"),
        ("http://127.0.0.1:9000/", True, None),
        ("ftp://example.org/", True, "must begin with https://"),
        ("file:///etc/passwd", True, "must begin with https://"),
        ("https://user:secret@example.org/", False, WRONG),
        ("https://user@example.org/", False, WRONG),
        ("https://example.org/#part", False, WRONG),
        ("https:///x", False, WRONG),
        ("https://example.org:0/", False, WRONG),
        ("https://[::1", False, "is not a URL"),
        ("https://example.org:70000/", False, WRONG),
    ],
)
def test_which_urls_are_refused(url: str, local: bool, wrong: str | None) -> None:
    assert sending.refuse_url(url, local=local) == wrong


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("203.0.113.7", True),
        ("10.1.2.3", True),
        ("fd00::7", True),
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("::", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_which_addresses_are_refused(address: str, fine: bool) -> None:
    assert (sending.refuse_address(address, local=False) is None) == fine


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN),
        (204, Verdict.TAKEN),
        (302, Verdict.REFUSED),
        (400, Verdict.REFUSED),
        (500, Verdict.REFUSED),
        (429, Verdict.AWAY),
        (503, Verdict.AWAY),
        (410, Verdict.GONE),
    ],
)
def test_what_an_answer_says(status: int, verdict: Verdict) -> None:
    assert sending.verdict(status) is verdict


def names(*addresses: str) -> Resolve:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


async def post(
    url: str, *addresses: str, local: bool = False, trusted: ssl.SSLContext | None = None
) -> Answer:
    async with sending.client(trusted or ssl.create_default_context()) as client:
        return await sending.post(client, url, b"{}", {}, resolve=names(*addresses), local=local)


async def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_spoken_to() -> None:
    answer = await post("https://innocent.example.org/", "127.0.0.1", "::1")
    assert answer == (Verdict.AWAY, "the receiver is this machine")


async def test_the_real_resolver_is_asked_and_believed_about_this_machine() -> None:
    assert set(sending.addresses("localhost", 443)) <= {"127.0.0.1", "::1"}


async def test_a_name_without_an_address_is_a_failure_with_words() -> None:
    assert await post("https://example.org/") == (Verdict.AWAY, "the receiver's name has no address")

    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    async with sending.client(ssl.create_default_context()) as client:
        answer = await sending.post(client, "https://x.invalid/", b"", {}, resolve=unknown, local=False)
    assert answer == (Verdict.AWAY, "OSError: [Errno -2] Name or service not known")


# ---- a receiver with TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hooks.example.org with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "receiver.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *(
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=hooks.example.org",
                "-keyout",
                str(path),
                "-out",
                str(path),
            ),
            *("-addext", "subjectAltName=DNS:hooks.example.org"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text())
    return path


class Tls:
    """A receiver with TLS on loopback."""

    def __init__(self, certificate: Path) -> None:
        self.hosts: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.hosts.append(self.headers["host"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def tls(certificate: Path) -> Iterator[Tls]:
    receiver = Tls(certificate)
    yield receiver
    receiver.close()


async def test_the_certificate_must_be_that_of_the_name_in_the_url(tls: Tls, certificate: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate))
    told = await post(f"https://hooks.example.org:{tls.port}/", "127.0.0.1", local=True, trusted=trusted)
    assert (told, tls.hosts) == ((Verdict.TAKEN, "HTTP 204"), [f"hooks.example.org:{tls.port}"])
    other = await post(f"https://other.example.org:{tls.port}/", "127.0.0.1", local=True, trusted=trusted)
    assert other.verdict is Verdict.AWAY
    assert "certificate verify failed" in other.text
    stranger = await post(f"https://hooks.example.org:{tls.port}/", "127.0.0.1", local=True)
    assert "certificate verify failed" in stranger.text
    assert len(tls.hosts) == 1


async def test_an_address_that_does_not_answer_is_followed_by_the_next(tls: Tls, certificate: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate))
    url = f"https://hooks.example.org:{tls.port}/"
    answer = await post(url, "::1", "127.0.0.1", local=True, trusted=trusted)
    assert answer == (Verdict.TAKEN, "HTTP 204")
