"""Who asks: client certificates, service account tokens, bootstrap tokens, K3s' node and server passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import tokens
from .errors import unauthorized
from .kinds import SECRETS, SERVICE_ACCOUNTS, Kind, Object

Read = Callable[[Kind, str, str], Object | None]
MASTERS, NODES, BOOTSTRAPPERS = "system:masters", "system:nodes", "system:bootstrappers"
AGENT_ROLE, SERVER_ROLE = "k3s:agent", "k3s:server"
NODE_PREFIX = "system:node:"
ACCOUNT_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105 - the name of a type
BOOTSTRAP_TOKEN = "bootstrap.kubernetes.io/token"  # noqa: S105


@dataclass(frozen=True)
class User:
    """An authenticated client."""

    name: str
    groups: frozenset[str]

    @property
    def node(self) -> str:
        """The node that this client is, or empty."""
        is_node = NODES in self.groups and self.name.startswith(NODE_PREFIX)
        return self.name.removeprefix(NODE_PREFIX) if is_node else ""


@dataclass(frozen=True)
class Authenticator:
    """Finds the user of a request; `read` gets an object or None."""

    read: Read
    server_password: str
    agent_password: str
    signing_key: bytes

    def user(self, certificate: Mapping[str, Any] | None, authorization: str, now: datetime) -> User:
        """`certificate` as getpeercert() gives it; it counts before the header. Raises ApiError 401."""
        scheme, _, value = authorization.partition(" ")
        found = of_certificate(certificate)
        if found is None and scheme.lower() == "bearer":
            found = self._of_bootstrap_token(value.strip(), now) or self._of_account_token(value.strip())
        if found is None and scheme.lower() == "basic":
            found = self._of_password(value.strip())
        if found is None:
            raise unauthorized()
        return User(found.name, found.groups | {"system:authenticated"})

    def _of_password(self, encoded: str) -> User | None:
        try:
            name, _, password = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return None
        # The server token joins agents too (docs.k3s.io/cli/token), whichever name the joiner gives itself.
        if name in {"node", "server"} and _same(password, self.server_password):
            return User(name, frozenset({AGENT_ROLE, SERVER_ROLE} if name == "server" else {AGENT_ROLE}))
        if name == "node" and _same(password, self.agent_password):
            return User(name, frozenset({AGENT_ROLE}))
        return None

    def _of_bootstrap_token(self, token: str, now: datetime) -> User | None:
        if not tokens.BOOTSTRAP.fullmatch(token):
            return None
        identifier, _, secret = token.partition(".")
        found = self.read(SECRETS, "kube-system", f"bootstrap-token-{identifier}")
        if found is None or found.get("type") != BOOTSTRAP_TOKEN or has_expired(found, now):
            return None
        data = texts(found)
        usable = data.get("usage-bootstrap-authentication") == "true" and data.get("token-id") == identifier
        if not usable or not _same(secret, data.get("token-secret", "")):
            return None
        extra = {group for group in data.get("auth-extra-groups", "").split(",") if group}
        return User(f"system:bootstrap:{identifier}", frozenset({BOOTSTRAPPERS} | extra))

    def _of_account_token(self, token: str) -> User | None:
        claims = _claims(token, self.signing_key)
        namespace, account = claims.get("namespace", ""), claims.get("account", "")
        found = self.read(SERVICE_ACCOUNTS, namespace, account)
        if found is None or found["metadata"]["uid"] != claims.get("uid"):
            return None
        if self.read(SECRETS, namespace, claims.get("secret", "")) is None:
            return None
        groups = {"system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
        return User(f"system:serviceaccount:{namespace}:{account}", frozenset(groups))


def texts(secret: Object) -> dict[str, str]:
    """The decoded data of a Secret."""
    data = secret.get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}


def has_expired(bootstrap_secret: Object, now: datetime) -> bool:
    """Whether its `expiration` (RFC 3339) has passed; one that cannot be read counts as passed."""
    expiration = texts(bootstrap_secret).get("expiration", "")
    if not expiration:
        return False
    try:
        end = datetime.fromisoformat(expiration)
    except ValueError:
        return True
    return now >= (end if end.tzinfo else end.replace(tzinfo=UTC))


def account_token(account: Object, secret_name: str, signing_key: bytes) -> str:
    """A JWT for a service account (signed with HMAC: only this server ever reads it)."""
    meta = account["metadata"]
    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        "namespace": meta["namespace"],
        "account": meta["name"],
        "uid": meta["uid"],
        "secret": secret_name,
    }
    payload = ".".join(
        _encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    )
    return f"{payload}.{_signature(payload, signing_key)}"


def _claims(token: str, signing_key: bytes) -> dict[str, str]:
    payload, _, signature = token.rpartition(".")
    if payload.count(".") != 1 or not _same(signature, _signature(payload, signing_key)):
        return {}
    body = payload.partition(".")[2]
    claims: dict[str, str] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def _signature(payload: str, key: bytes) -> str:
    return _encode(hmac.digest(key, payload.encode(), hashlib.sha256))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def of_certificate(certificate: Mapping[str, Any] | None) -> User | None:
    """The user that a client certificate names, as getpeercert() gives it."""
    pairs = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    names = [value for key, value in pairs if key == "commonName"]
    groups = frozenset(value for key, value in pairs if key == "organizationName")
    return User(names[0], groups) if names else None


def _same(left: str, right: str) -> bool:
    return bool(right) and hmac.compare_digest(left.encode(), right.encode())
