"""What goes into the base image."""

from __future__ import annotations

from lab import image


def certificate(name: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n"


def test_certificates_that_only_the_machine_trusts_are_added() -> None:
    machine = "# a comment\n" + certificate("public") + certificate("of this network")
    assert image.added_certificates(machine, certificate("public")) == [certificate("of this network")]
