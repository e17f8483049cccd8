"""The bootstrap token of the settings: the one place that decides whether a token may register a machine."""

from __future__ import annotations

import hashlib
import hmac

from control_api.errors import InvalidRegistrationToken


class Bootstrap:
    """Knows the token by its hash only."""

    def __init__(self, token: str) -> None:
        """Accept this token."""
        self._digest = _digest(token)

    def admit(self, token: str) -> None:
        """Return when the token may register a machine; takes the same time for every wrong one.

        Raises InvalidRegistrationToken.
        """
        if not hmac.compare_digest(self._digest, _digest(token)):
            raise InvalidRegistrationToken


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
