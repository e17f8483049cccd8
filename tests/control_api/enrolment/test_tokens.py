"""What an enrolment token is: its form, its hash, its status, its networks."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.enrolment import tokens
from control_api.enrolment.tokens import NOBODY, TokenStatus
from tests.control_api.world import START

LATER = START + timedelta(seconds=1)


def test_a_token_carries_its_id_and_a_secret_that_is_not_kept() -> None:
    minted = tokens.mint()
    assert tokens.id_of(minted.value) == minted.id
    assert tokens.digest(minted.value) == minted.digest
    secret = minted.value.rsplit("_", 1)[1]
    assert len(secret) == 48
    assert secret not in str(minted.id) + minted.digest.hex()


def test_no_two_tokens_are_alike() -> None:
    assert len({tokens.mint().value for _ in range(200)}) == 200


@given(st.text())
def test_any_text_has_an_id_to_ask_for_and_a_hash(text: str) -> None:
    assert isinstance(tokens.id_of(text), UUID)
    assert len(tokens.digest(text)) == 32


@pytest.mark.parametrize(
    "text", ["", "met_", "met_" + "0" * 32, "met_" + "0" * 32 + "_" + "0" * 47, "\ud800"]
)
def test_what_is_not_of_our_shape_has_nobodys_id(text: str) -> None:
    assert tokens.id_of(text) == NOBODY


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, TokenStatus.ACTIVE),
        ({"expires_at": LATER}, TokenStatus.ACTIVE),
        ({"expires_at": START}, TokenStatus.EXPIRED),
        ({"max_uses": 3, "uses": 2}, TokenStatus.ACTIVE),
        ({"max_uses": 3, "uses": 3}, TokenStatus.USED_UP),
        ({"revoked_at": START}, TokenStatus.REVOKED),
        ({"revoked_at": START, "expires_at": START, "max_uses": 1, "uses": 1}, TokenStatus.REVOKED),
        ({"expires_at": START, "max_uses": 1, "uses": 1}, TokenStatus.EXPIRED),
    ],
)
def test_a_tokens_status(facts: dict[str, object], expected: TokenStatus) -> None:
    values = {"revoked_at": None, "expires_at": None, "uses": 0, "max_uses": None, "now": START, **facts}
    assert tokens.status(**values) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cidrs", "peer", "expected"),
    [
        ([], "203.0.113.9", True),
        ([], None, True),
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["192.0.2.0/24"], None, False),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/24", "2001:db8::/32"], "2001:db8::7", True),
        (["192.0.2.0/24"], "2001:db8::7", False),
        (["0.0.0.0/0"], "2001:db8::7", False),
        (["::/0"], "192.0.2.7", False),
    ],
)
def test_a_tokens_networks_hold_the_observed_address(
    cidrs: list[str], peer: str | None, expected: bool
) -> None:
    assert tokens.covers(cidrs, peer) is expected
