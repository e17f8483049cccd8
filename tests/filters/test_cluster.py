"""The filters, as tables of cases."""

from __future__ import annotations

from typing import Any

import pytest

from filter_plugins.cluster import FilterModule, is_address, node_addresses, subject_alt_names


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        ([], []),
        ([{"ansible_host": "10.0.0.2"}], ["10.0.0.2"]),
        ([{"ansible_host": "10.0.0.10"}, {"ansible_host": "10.0.0.9"}], ["10.0.0.9", "10.0.0.10"]),
        ([{"ansible_host": "203.0.113.7", "cluster_address": "10.0.0.2"}], ["10.0.0.2", "203.0.113.7"]),
        ([{"ansible_host": "worker.example.org", "cluster_address": "10.0.0.2"}], ["10.0.0.2"]),
        ([{"ansible_host": "10.0.0.2"}, {"ansible_host": "10.0.0.2"}, {}], ["10.0.0.2"]),
    ],
)
def test_nodes_are_reached_by_the_addresses_of_the_inventory(
    hosts: list[dict[str, Any]], addresses: list[str]
) -> None:
    assert node_addresses(hosts) == addresses


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("10.0.0.1", True),
        ("10.0.0", False),
        ("example.org", False),
        ("-oProxyCommand=x", False),
        (None, False),
    ],
)
def test_only_ipv4_notation_is_an_address(value: object, is_one: bool) -> None:
    assert is_address(value) is is_one


def test_a_certificate_names_addresses_and_domains_apart() -> None:
    assert subject_alt_names(["paas.example.org", "10.0.0.1"]) == ["DNS:paas.example.org", "IP:10.0.0.1"]


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {"node_addresses", "subject_alt_names"}
