"""Join tokens as K3s reads them: bootstrap-token Secrets and the secure form that names the cluster's CA."""

from __future__ import annotations

import hashlib
import secrets
import string
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

ALPHABET = string.ascii_lowercase + string.digits
LIFETIME = timedelta(minutes=10)
AGENTS = "system:bootstrappers:k3s:default-node-token"  # joins agents, never servers


class BootstrapToken(NamedTuple):
    """`<id>.<secret>`: six and sixteen characters."""

    id: str
    secret: str


def new_token() -> BootstrapToken:
    """Return a random token."""
    return BootstrapToken(_random(6), _random(16))


def secure_form(token: BootstrapToken, ca_pem: bytes) -> str:
    """Return `K10<sha256 of the CA file>::<id>.<secret>`: the joiner refuses a server with another CA.

    Source: K3s, docs/cli/token.md; the hash is of the PEM file for K3s's self-signed CA.
    """
    return f"K10{hashlib.sha256(ca_pem).hexdigest()}::{token.id}.{token.secret}"


def secret_name(token_id: str) -> str:
    """Return the name of the token's Secret."""
    return f"bootstrap-token-{token_id}"


def secret(token: BootstrapToken, worker_id: UUID, now: datetime) -> dict[str, Any]:
    """Return the Secret in kube-system that makes the token valid for ten minutes from `now`."""
    fields = {
        "token-id": token.id,
        "token-secret": token.secret,
        "description": f"worker:{worker_id}",
        "expiration": (now + LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": AGENTS,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(token.id)},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": fields,
    }


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
