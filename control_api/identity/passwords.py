"""Passwords of people, hashed with argon2."""

from __future__ import annotations

from functools import lru_cache

from pwdlib import PasswordHash

HASHER = PasswordHash.recommended()


def hash_password(password: str) -> str:
    """Return what may be stored."""
    return HASHER.hash(password)


def matches(password: str, stored: str | None) -> bool:
    """Say whether the password is right; for an unknown user (None) it takes the same time to say no."""
    return HASHER.verify(password, stored or _nobody()) and stored is not None


@lru_cache(maxsize=1)
def _nobody() -> str:
    return HASHER.hash("the password of nobody")
