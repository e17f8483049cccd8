"""Addresses of lists."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from control_api.dashboard import query
from control_api.workers.lifecycle import Status
from control_api.workers.listing import Order, Sort
from control_api.workers.wire import ListQuery

FULL = ListQuery(
    status=[Status.ACTIVE, Status.PENDING],
    search="a&b=c",
    label=["zone=a", "gpu"],
    sort=Sort.CPU_CORES,
    order=Order.DESC,
    cursor="abc",
)


def test_the_plain_list_has_the_plain_address() -> None:
    assert query.href(ListQuery()) == "/fleet"
    assert query.live(ListQuery()) == "/fleet/live"


def test_an_address_carries_all_that_was_asked_and_is_understood_again() -> None:
    address = urlsplit(query.live(FULL))
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(address.query):
        given.setdefault(name, []).append(value)
    alone = {"search", "sort", "order", "cursor"}
    assert address.path == "/fleet/live"
    assert ListQuery(**{name: value[0] if name in alone else value for name, value in given.items()}) == FULL


def test_a_changed_list_begins_at_its_first_page() -> None:
    address = query.href(FULL, status=[], label=[])
    assert address == "/fleet?search=a%26b%3Dc&sort=cpuCores&order=desc"


def test_the_size_of_a_page_is_not_in_the_address() -> None:
    assert query.href(ListQuery(limit=7)) == "/fleet"


@pytest.mark.parametrize(
    ("asked", "filtered", "counted"),
    [
        (ListQuery(), False, True),
        (ListQuery(sort=Sort.STATUS, cursor="x"), False, True),
        (ListQuery(status=[Status.ACTIVE]), True, True),
        (ListQuery(search="a"), True, False),
        (ListQuery(status=[Status.ACTIVE], label=["gpu"]), True, False),
    ],
)
def test_it_is_known_what_is_a_part_of_the_fleet_and_what_is_counted(
    asked: ListQuery, filtered: bool, counted: bool
) -> None:
    assert (query.is_filtered(asked), query.is_counted(asked)) == (filtered, counted)
