"""A small HTTPS client: one connection a request, a timeout on each."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from .errors import Refused, Unreachable

SECONDS = 10


@dataclass(frozen=True)
class Client:
    """Talks to one server; `headers` carry the credentials that `context` does not."""

    url: str
    context: ssl.SSLContext
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        """Status, reason phrase and body; raises Unreachable."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=SECONDS, context=self.context
        )
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.reason, answer.read()
        except (OSError, http.client.HTTPException) as exc:
            raise Unreachable(f'{method.capitalize()} "{self.url}{path}": {_reason(exc)}') from exc
        finally:
            connection.close()

    def text(self, path: str) -> bytes:
        """GET a path; raises Refused in K3s' words for an answer other than 200."""
        status, reason, content = self.raw("GET", path)
        if status != 200:
            raise Refused(status, f"{self.url}{path}: {status} {reason}")
        return content

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
        patch: str = "",
    ) -> dict[str, Any]:
        """Call the Kubernetes API; raises Refused with the message of its Status."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": patch or "application/json"}
        full = path + (f"?{urlencode(query)}" if query else "")
        status, reason, answer = self.raw(method, full, content, headers)
        try:
            parsed: dict[str, Any] = json.loads(answer)
        except ValueError as exc:
            raise Refused(status, f"{self.url}{path}: {status} {reason}") from exc
        if status >= 400:
            raise Refused(status, parsed.get("message", reason), parsed.get("reason", reason))
        return parsed


def trusting(ca: bytes) -> ssl.SSLContext:
    """Trusts this CA only."""
    return ssl.create_default_context(cadata=ca.decode())


def trusting_anyone() -> ssl.SSLContext:
    """For the one request that fetches the CA, which is checked by its hash afterwards, as K3s does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def with_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> ssl.SSLContext:
    context.load_cert_chain(certificate, key)
    return context


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {exc.verify_message}"
    if isinstance(exc, ConnectionRefusedError):
        return "dial tcp: connect: connection refused"
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
