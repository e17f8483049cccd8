"""What the facts of a certificate say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def certifies(certificate: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """True if a certificate is of this key and still good `later`.

    In: what x509_certificate_info tells of it with `valid_at: {later: …}`, and openssl_privatekey of the key.
    """
    lasts = bool(certificate.get("valid_at", {}).get("later"))
    of_key = certificate.get("public_key_fingerprints", {}).get("sha256")
    return lasts and of_key == key.get("fingerprint", {}).get("sha256", "none")


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certifies": certifies}
