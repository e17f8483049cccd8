"""Pure filters of the role postgresql: settings from the machine's memory, and passwords as the server stores them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any

ITERATIONS = 4096  # PostgreSQL's own default
VERIFIER = re.compile(r"SCRAM-SHA-256\$(?P<iterations>\d+):(?P<salt>[A-Za-z0-9+/=]+)\$")
STEP = 256  # MB; another kernel on the same machine reports a few MB more or less, and must change nothing


def memory_settings(memory_mb: int, max_connections: int) -> dict[str, str]:
    """Sizes of PostgreSQL's caches for a machine that it shares with K3s and the control API.

    In: the machine's memory in MB, and the connections that are accepted. Out, of the memory rounded down to 256 MB:

    - `shared_buffers`: an eighth, from 128 MB to 4 GB (half of what a machine of its own would get);
    - `effective_cache_size`: a half, for the planner only;
    - `maintenance_work_mem`: a thirty-second part, from 64 MB to 1 GB;
    - `work_mem`: a sixteenth, shared by all connections, from 4 MB to 64 MB each.
    """
    memory = max(memory_mb // STEP, 1) * STEP
    sizes = {
        "shared_buffers": bounded(memory // 8, 128, 4096),
        "effective_cache_size": max(memory // 2, 128),
        "maintenance_work_mem": bounded(memory // 32, 64, 1024),
        "work_mem": bounded(memory // 16 // max_connections, 4, 64),
    }
    return {name: f"{size}MB" for name, size in sizes.items()}


def bounded(value: int, least: int, most: int) -> int:
    """The value, or the bound that it would cross."""
    return min(max(value, least), most)


def scram_verifier(password: str, stored: str = "", salt: bytes | None = None) -> str:
    """The password as PostgreSQL stores it (RFC 5803), so that the server never sees it in the clear.

    In: the password; the verifier that the server has, empty if none; a salt, random unless given.
    Out: `stored` when it is of this password, so that a second run changes nothing; else a new verifier.
    ValueError for a password that is not plain ASCII, because PostgreSQL would normalise it first (SASLprep).
    """
    if not (password.isascii() and password.isprintable()):
        raise ValueError("The password of a database may have printable ASCII characters only.")
    known = VERIFIER.match(stored)
    if known and stored == _verifier(password, base64.b64decode(known["salt"]), int(known["iterations"])):
        return stored
    return _verifier(password, salt or secrets.token_bytes(16), ITERATIONS)


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"postgresql_memory_settings": memory_settings, "scram_verifier": scram_verifier}
