"""What the fleet page shows of workers at a moment: values in, values out."""

from __future__ import annotations

from typing import Any

import pytest

from control_api.dashboard.fleet_view import Column, Fleet, Tile, Total, fleet
from control_api.dashboard.view import Badge, Doubts
from control_api.dashboard.words import Gauge
from control_api.workers import wire
from control_api.workers.lifecycle import Moment, Rules, Status
from control_api.workers.listing import Order, Sort
from control_api.workers.store import Tally
from control_api.workers.wire import ListQuery
from tests.control_api.dashboard.conftest import seen
from tests.control_api.world import START

AT = Moment(START, Rules())
WELL = Doubts(ticked_at=START)
ACTIVE, INACTIVE = Badge("active", "ACTIVE"), Badge("inactive", "INACTIVE")
STATS = wire.stats(
    [
        Tally(Status.ACTIVE, 1200, 9600, 2**44, 2**45, 2400.0, 2.0**43, 2.0**45 * 0.95, 7000, 28_000),
        Tally(Status.NOT_READY, 1, 8, 0, 0, 0.0, 0.0, 0.0, 0, 0),
    ],
    AT,
    cluster_is_configured=False,
)


def page(asked: ListQuery, *workers: wire.WorkerView, **changes: Any) -> Fleet:
    given = {"stats": STATS, "doubts": WELL, "at": AT, "next_cursor": None, **changes}
    return fleet(asked, workers, **given)


def test_the_counts_filter_and_the_current_one_takes_its_filter_away() -> None:
    assert page(ListQuery(status=[Status.ACTIVE])).tiles == (
        Tile(ACTIVE, "1,200", "/fleet", True),
        Tile(Badge("not-ready", "NOT READY"), "1", "/fleet?status=ACTIVE&status=NOT_READY", False),
        Tile(INACTIVE, "0", "/fleet?status=ACTIVE&status=INACTIVE", False),
        Tile(Badge("pending", "PENDING"), "0", "/fleet?status=ACTIVE&status=PENDING", False),
        Tile(Badge("maintenance", "MAINTENANCE"), "0", "/fleet?status=ACTIVE&status=MAINTENANCE", False),
    )


def test_the_fleet_in_use() -> None:
    assert page(ListQuery()).totals == (
        Total("CPU", Gauge(25, "25 %", "2,400.0 of 9,608 cores", "ok")),
        Total("Memory", Gauge(50, "50 %", "8.0 TiB of 16.0 TiB", "ok")),
        Total("Disk", Gauge(95, "95 %", "30.4 TiB of 32.0 TiB", "full")),
        Total("Pods", Gauge(25, "25 %", "7,000 of 28,000", "ok")),
    )


def test_a_column_sorts_and_sorts_back() -> None:
    asked = ListQuery(search="rack1", sort=Sort.CPU_CORES, order=Order.ASC, cursor="x")
    columns = {column.key: column for column in page(asked).columns}
    assert columns["cpu"] == Column("cpu", "CPU", "/fleet?search=rack1&sort=cpuCores&order=desc", "ascending")
    assert columns["worker"] == Column("worker", "Worker", "/fleet?search=rack1", "none")
    assert columns["heartbeat"] == Column("heartbeat", "Heartbeat", None, "none")
    down = page(asked.model_copy(update={"order": Order.DESC})).columns[4]
    assert down == Column("cpu", "CPU", "/fleet?search=rack1&sort=cpuCores", "descending")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (ListQuery(), "1,201 workers"),
        (ListQuery(status=[Status.NOT_READY, Status.NOT_READY]), "1 of 1,201 workers"),
        (ListQuery(status=[Status.ACTIVE, Status.INACTIVE]), "1,200 of 1,201 workers"),
        (ListQuery(search="w"), "1 worker on this page"),
    ],
)
def test_it_says_how_many_there_are(asked: ListQuery, found: str) -> None:
    assert page(asked, seen()).found == found


def test_pages_lead_forth_and_to_the_first() -> None:
    first = page(ListQuery(sort=Sort.STATUS), next_cursor="abc")
    assert (first.first_href, first.next_href) == (None, "/fleet?sort=status&cursor=abc")
    last = page(ListQuery(sort=Sort.STATUS, cursor="abc"))
    assert (last.first_href, last.next_href) == ("/fleet?sort=status", None)


def test_an_empty_fleet_is_not_a_search_that_finds_nobody() -> None:
    assert page(ListQuery(), stats=wire.stats([], AT, cluster_is_configured=False)).is_empty
    nobody = page(ListQuery(search="x"))
    assert (nobody.is_empty, nobody.is_filtered, nobody.search, nobody.rows) == (False, True, "x", ())


def test_a_search_keeps_the_filters_and_the_order() -> None:
    asked = ListQuery(status=[Status.ACTIVE], label=["gpu"], search="w", sort=Sort.STATUS, cursor="x")
    assert page(asked).hidden == (("status", "ACTIVE"), ("label", "gpu"), ("sort", "status"))
