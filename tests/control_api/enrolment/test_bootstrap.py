"""The bootstrap token lets in whoever shows it, and nobody else."""

from __future__ import annotations

import pytest

from control_api.enrolment.bootstrap import Bootstrap
from control_api.errors import InvalidRegistrationToken


def test_the_token_is_admitted() -> None:
    Bootstrap("the-token-of-this-test").admit("the-token-of-this-test")


@pytest.mark.parametrize(
    "token", ["", "the-token", "the-token-of-this-test ", "THE-TOKEN-OF-THIS-TEST", "ü", "\ud800"]
)
def test_everything_else_is_refused(token: str) -> None:
    with pytest.raises(InvalidRegistrationToken, match="not valid"):
        Bootstrap("the-token-of-this-test").admit(token)


def test_the_token_itself_is_not_kept() -> None:
    assert "the-token" not in str(vars(Bootstrap("the-token-of-this-test")))
