"""The filters of the role postgresql, as tables of cases."""

from __future__ import annotations

import pytest

from filter_plugins.postgresql import FilterModule, memory_settings, scram_verifier

SALT = bytes.fromhex("5b6d99689d12358ec5a04b1422b0d98f")


@pytest.mark.parametrize(
    ("memory_mb", "connections", "sizes"),
    [
        (512, 100, ("128MB", "256MB", "64MB", "4MB")),
        (1968, 100, ("224MB", "896MB", "64MB", "4MB")),
        (7955, 100, ("992MB", "3968MB", "248MB", "4MB")),
        (24_000, 100, ("2976MB", "11904MB", "744MB", "14MB")),
        (24_000, 10, ("2976MB", "11904MB", "744MB", "64MB")),
        (257_000, 100, ("4096MB", "128384MB", "1024MB", "64MB")),
        (100, 100, ("128MB", "128MB", "64MB", "4MB")),
    ],
)
def test_caches_are_shares_of_the_memory_within_bounds(
    memory_mb: int, connections: int, sizes: tuple[str, ...]
) -> None:
    assert tuple(memory_settings(memory_mb, connections).values()) == sizes


def test_a_few_megabytes_more_or_less_change_nothing() -> None:
    assert memory_settings(7955, 100) == memory_settings(7936, 100)


def test_a_stored_verifier_of_the_password_stays() -> None:
    stored = scram_verifier("s3cret", salt=SALT)
    assert scram_verifier("s3cret", stored) == stored


@pytest.mark.parametrize("stored", ["", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$4096:YQ==$"])
def test_what_is_no_verifier_of_the_password_is_replaced(stored: str) -> None:
    assert scram_verifier("s3cret", stored, SALT) == scram_verifier("s3cret", salt=SALT)


def test_another_password_gets_another_verifier_with_a_salt_of_its_own() -> None:
    stored = scram_verifier("s3cret")
    assert scram_verifier("other", stored) != stored
    assert scram_verifier("s3cret") != stored


@pytest.mark.parametrize("password", ["pässword", "tab\there", "nul\0"])
def test_a_password_that_postgresql_would_normalise_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram_verifier(password)


def test_ansible_finds_the_filters() -> None:
    assert set(FilterModule().filters()) == {"postgresql_memory_settings", "scram_verifier"}
