"""Node passwords: a scrypt hash in an immutable Secret, in the format of K3s' pkg/authenticator/hash."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from .kinds import Object

COST, BLOCK, PARALLEL = 15, 8, 1
MEMORY = 64 * 1024 * 1024


def secret_name(node: str) -> str:
    return f"{node}.node-password.k3s".lower()


def secret(node: str, password: str) -> Object:
    """The Secret that pins `password` to the name `node`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(node), "namespace": "kube-system"},
        "type": "Opaque",
        "immutable": True,
        "data": {"hash": base64.b64encode(_hash(password, secrets.token_bytes(8)).encode()).decode()},
    }


def verify(kept: Object, password: str) -> bool:
    """Whether `password` is the one that the Secret was made for."""
    text = base64.b64decode((kept.get("data") or {}).get("hash", "")).decode()
    salt = text.split(":")[1] if text.count(":") == 5 else ""
    return bool(salt) and hmac.compare_digest(text, _hash(password, bytes.fromhex(salt)))


def _hash(password: str, salt: bytes) -> str:
    key = hashlib.scrypt(password.encode(), salt=salt, n=2**COST, r=BLOCK, p=PARALLEL, maxmem=MEMORY)
    return f"$1:{salt.hex()}:{COST}:{BLOCK}:{PARALLEL}:{base64.b64encode(key).decode().rstrip('=')}"
