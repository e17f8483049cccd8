"""Whether a certificate still does for a key."""

from __future__ import annotations

from typing import Any

import pytest

from filter_plugins.certificates import certifies

KEY = {"fingerprint": {"sha256": "aa:bb"}}
GOOD: dict[str, Any] = {"valid_at": {"later": True}, "public_key_fingerprints": {"sha256": "aa:bb"}}


@pytest.mark.parametrize(
    ("certificate", "key", "does"),
    [
        (GOOD, KEY, True),
        (GOOD, {"fingerprint": {"sha256": "cc:dd"}}, False),
        ({**GOOD, "valid_at": {"later": False}}, KEY, False),
        ({"failed": True, "msg": "there is none"}, KEY, False),
        ({"failed": True}, {}, False),
        (GOOD, {"changed": True}, False),
    ],
)
def test_a_certificate_does_while_it_lasts_and_is_of_the_key(
    certificate: dict[str, Any], key: dict[str, Any], does: bool
) -> None:
    assert certifies(certificate, key) is does
