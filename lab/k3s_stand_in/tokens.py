"""Join tokens: their forms, as docs.k3s.io/cli/token and pkg/clientaccess of K3s have them; pure."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from .errors import TokenError, UsageError

PREFIX = "K10"
BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
DEFAULT_GROUP = "system:bootstrappers:k3s:default-node-token"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Token:
    """A token taken apart; either `bootstrap` or `password` is set, `ca_hash` is empty in the short form."""

    ca_hash: str = ""
    username: str = ""
    password: str = ""
    bootstrap: str = ""


def parse(text: str) -> Token:
    """Raises TokenError with K3s' own sentence."""
    if not text:
        raise TokenError("token must not be empty")
    if not text.startswith(PREFIX):
        return _credentials("", text if BOOTSTRAP.fullmatch(text) else f":{text}")
    head, separator, rest = text[len(PREFIX) :].partition("::")
    if not separator:
        return _credentials("", head)
    if head and len(head) != hashlib.sha256().digest_size * 2:
        raise TokenError("invalid token CA hash length")
    return _credentials(head, rest)


def _credentials(ca_hash: str, text: str) -> Token:
    if BOOTSTRAP.fullmatch(text):
        return Token(ca_hash, bootstrap=text)
    username, separator, password = text.partition(":")
    if not separator or not password:
        raise TokenError("invalid token format")
    return Token(ca_hash, username, password)


def hash_of(ca: bytes) -> str:
    """K3s' hash of a self-signed CA: SHA-256 of the PEM file as it is."""
    return hashlib.sha256(ca).hexdigest()


def secure(credentials: str, ca: bytes) -> str:
    return f"{PREFIX}{hash_of(ca)}::{credentials}"


def generate() -> str:
    """A fresh bootstrap token, <id>.<secret>."""
    return f"{_random(6)}.{_random(16)}"


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def seconds(duration: str) -> float:
    """Seconds in a duration such as 10m, 1h30m or 0; raises UsageError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", duration)
    if duration == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise UsageError(f"'{duration}' is no duration; write it as 30s, 10m or 24h.")
    return sum(float(number) * UNITS[unit] for number, unit in parts)
