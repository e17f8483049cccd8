"""Join tokens are read as K3s reads them."""

from __future__ import annotations

import hashlib

import pytest

from lab.k3s_stand_in import tokens
from lab.k3s_stand_in.errors import TokenError, UsageError
from lab.k3s_stand_in.tokens import Token

HASH = "a" * 64


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("secret", Token(password="secret")),
        ("abcdef.0123456789abcdef", Token(bootstrap="abcdef.0123456789abcdef")),
        (f"K10{HASH}::server:pass:word", Token(HASH, "server", "pass:word")),
        (f"K10{HASH}::node:password", Token(HASH, "node", "password")),
        (f"K10{HASH}::abcdef.0123456789abcdef", Token(HASH, bootstrap="abcdef.0123456789abcdef")),
    ],
)
def test_every_form_is_taken_apart(text: str, token: Token) -> None:
    assert tokens.parse(text) == token


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "token must not be empty"),
        ("K10abc::node:x", "invalid token CA hash length"),
        (f"K10{HASH}::node", "invalid token format"),
        (f"K10{HASH}::node:", "invalid token format"),
    ],
)
def test_what_is_no_token_is_refused_in_the_words_of_k3s(text: str, sentence: str) -> None:
    with pytest.raises(TokenError, match=sentence):
        tokens.parse(text)


def test_the_secure_form_carries_the_hash_of_the_pem_file() -> None:
    ca = b"-----BEGIN CERTIFICATE-----\n"
    assert tokens.secure("node:x", ca) == f"K10{hashlib.sha256(ca).hexdigest()}::node:x"


def test_generated_tokens_are_bootstrap_tokens() -> None:
    token = tokens.generate()
    assert tokens.parse(token) == Token(bootstrap=token)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("0", 0), ("300ms", 0.3), ("24h", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert tokens.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "ten", "5m?"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration"):
        tokens.seconds(text)
