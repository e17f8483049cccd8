"""The filters of the role postgresql, as tables of cases."""

from __future__ import annotations

import pytest

from filter_plugins.postgresql import FilterModule, memory_settings


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


def test_ansible_finds_the_filters() -> None:
    assert set(FilterModule().filters()) == {"postgresql_memory_settings"}
