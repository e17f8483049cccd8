"""Passwords of people: the rules, and argon2, a few at a time because each takes 64 MiB while it is computed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from pwdlib import PasswordHash

from control_api.errors import InvalidRequest, Overloaded

SHORTEST = 12
AT_ONCE = 2
PATIENCE = 5.0  # seconds; who waits longer is told to come again
HASHER = PasswordHash.recommended()
_turns = threading.BoundedSemaphore(AT_ONCE)


def require_good(password: str, username: str, *, field: str = "password") -> None:
    """Return when the password may be used by that user. Raises InvalidRequest, which names the field."""
    problem = _problem(password, username.lower())
    if problem:
        raise InvalidRequest(details=((field, problem),))


def hash_password(password: str) -> str:
    """Return what may be stored. Raises Overloaded."""
    with _turn():
        return HASHER.hash(password)


def matches(password: str, stored: str | None) -> bool:
    """Say whether the password is right; for an unknown user (None) it takes the same time to say no.

    Raises Overloaded.
    """
    with _turn():
        return HASHER.verify(password, stored or _nobody()) and stored is not None


def _problem(password: str, username: str) -> str | None:
    if len(password) < SHORTEST:
        return f"Use at least {SHORTEST} characters."
    if len(set(password)) < 5:
        return "Use at least 5 different characters."
    if username in password.lower() and len(password) - len(username) < SHORTEST // 2:
        return "Do not use the username with little else."
    return None


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=PATIENCE):
        raise Overloaded
    try:
        yield
    finally:
        _turns.release()


@lru_cache(maxsize=1)
def _nobody() -> str:
    return HASHER.hash("the password of nobody")
