"""Pages of the list, on both databases; and on PostgreSQL, that an index leads to each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.orm import Session

from bench.list_pages import fill
from control_api.db import Database
from control_api.workers import list_store, store
from control_api.workers.lifecycle import Intent, Moment, Node, Rules, Status
from control_api.workers.listing import Label, Listing, NodeState, Order, Sort, cursor, position
from control_api.workers.models import Watch, Worker
from tests.control_api.servers import PostgreSQL
from tests.control_api.workers.test_store import add, ago
from tests.control_api.world import START

AT = Moment(START, Rules())
ASKED = Moment(START, Rules(), nodes_seen_at=START)  # K3s was
FRESH = Watch(id=1, ticked_at=ago(4), grace_until=ago(1000))
STUCK = Watch(id=1, ticked_at=ago(16), grace_until=ago(1000))
AHEAD = Watch(id=1, ticked_at=ago(-16), grace_until=ago(1000))
INACTIVE = Listing(statuses=(Status.INACTIVE,))


def names(session: Session, wanted: Listing, watch: Watch | None = FRESH, at: Moment = AT) -> list[str]:
    """Return the hostnames of every page, one page after the other, each asked for by the cursor before."""
    found: list[str] = []
    while True:
        page = list_store.page(session, at, watch, wanted)
        assert len(page.workers) == wanted.limit or page.after is None
        found += [worker.hostname for worker in page.workers]
        if page.after is None:
            return found
        text = cursor(wanted.sort, wanted.order, page.after)
        wanted = replace(wanted, after=position(text, wanted.sort, wanted.order))


def add_seven(session: Session) -> None:
    """Add workers of which some are alike, some lack a value, and four have an address and a label of subnet 9."""
    for number in range(7):
        subnet = 9 if number in {1, 4, 5, 6} else 8
        values: dict[str, Any] = {
            "name": f"n{(number * 3) % 7}",
            "cpu_cores": 4 + number % 2,
            "total_memory_bytes": None if number in {2, 5} else number // 2,
            "total_storage_bytes": None,
            "created_at": ago(number // 3),
            "ip_address": f"10.{subnet}.0.{number}",
            "labels": {"subnet": str(subnet)},
        }
        add(session, f"w{number}", **values)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("statuses", [(), (Status.ACTIVE,), tuple(Status)])
def test_pages_follow_each_other_without_gaps_in_every_order(
    database: Database, sort: Sort, order: Order, statuses: tuple[Status, ...], limit: int
) -> None:
    """Equal values and missing ones among them: the pages are the whole list, cut."""
    with database.transaction() as session:
        add_seven(session)
        rows = session.scalars(select(Worker)).all()

        column = "status" if sort is Sort.STATUS else list_store.COLUMNS[sort].key

        def key(row: Worker) -> tuple[Any, str]:
            return getattr(row, column), row.hostname if sort is Sort.STATUS else row.id.hex

        def ordered(some: list[Worker], by: Callable[[Worker], Any]) -> list[Worker]:
            return sorted(some, key=by, reverse=order is Order.DESC)

        filled = ordered([row for row in rows if getattr(row, column) is not None], key)
        empty = ordered([row for row in rows if getattr(row, column) is None], lambda row: row.id.hex)
        expected = filled + empty
        wanted = Listing(sort=sort, order=order, limit=limit, statuses=statuses)
        for watch in (FRESH, None):
            assert names(session, wanted, watch) == [row.hostname for row in expected]


@pytest.mark.parametrize("few", [0, 1, 2, 6, 7])
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("statuses", [(), (Status.ACTIVE,), tuple(Status)])
def test_a_search_or_a_label_lists_whom_the_whole_list_has_in_the_same_order_wherever_they_are(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    sort: Sort,
    order: Order,
    statuses: tuple[Status, ...],
    few: int,
) -> None:
    monkeypatch.setattr(list_store, "FEW", few)
    monkeypatch.setattr(list_store, "NEAR", few)
    with database.transaction() as session:
        add_seven(session)
        wanted = Listing(sort=sort, order=order, statuses=statuses)
        expected = [name for name in names(session, wanted) if name in {"w1", "w4", "w5", "w6"}]
        assert len(expected) == 4
        for limit in (1, 3, 4, 9):
            assert names(session, replace(wanted, search="10.9.", limit=limit)) == expected
            assert names(session, replace(wanted, labels=(Label("subnet", "9"),), limit=limit)) == expected


def test_a_worker_that_comes_between_two_pages_shifts_nothing(database: Database) -> None:
    with database.transaction() as session:
        for name in ("b", "d", "f"):
            add(session, name)
        first = list_store.page(session, AT, FRESH, Listing(limit=2))
        add(session, "a")
        add(session, "e")
        session.execute(update(Worker).where(Worker.hostname == "b").values(removed_at=START))
        second = list_store.page(session, AT, FRESH, Listing(limit=2, after=first.after))
    assert [worker.hostname for worker in second.workers] == ["e", "f"]


@pytest.mark.parametrize("watch", [None, STUCK, AHEAD])
@pytest.mark.parametrize("sort", Sort)
def test_without_a_monitor_the_filter_goes_by_the_status_of_this_moment(
    database: Database, watch: Watch | None, sort: Sort
) -> None:
    """Its recorded statuses are old news: nobody is listed as ACTIVE because nobody wrote down that he is not."""
    with database.transaction() as session:
        add(session, "fine")
        add(session, "silent", received_at=ago(95))
        add(session, "back", status=Status.INACTIVE)
        assert names(session, replace(INACTIVE, sort=sort), watch) == ["silent"]
        active = Listing(statuses=(Status.ACTIVE,), sort=Sort.HOSTNAME)
        assert names(session, active, watch) == ["back", "fine"]


@pytest.mark.parametrize("sort", Sort)
def test_while_the_monitor_looks_a_status_is_the_recorded_one_and_never_a_wrong_one(
    database: Database, sort: Sort
) -> None:
    with database.transaction() as session:
        add(session, "fine")
        add(session, "known", status=Status.INACTIVE, received_at=ago(95))
        add(session, "silent-since-the-last-look", received_at=ago(91))
        add(session, "back-since-the-last-look", status=Status.INACTIVE)
        assert names(session, replace(INACTIVE, sort=sort)) == ["known"]
        assert names(session, Listing(statuses=(Status.ACTIVE,), sort=sort)) == ["fine"]
        store.record_changes(session, AT, actor="monitor")
        session.expire_all()
        assert set(names(session, replace(INACTIVE, sort=sort))) == {"known", "silent-since-the-last-look"}
        both = Listing(statuses=(Status.INACTIVE, Status.ACTIVE), limit=2)
        assert names(session, both) == sorted(names(session, Listing()))


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("a-1", ["a-1"]),
        ("192.0.2.7", ["b-2"]),
        ("chosen", ["b-2"]),
        ("%", []),
        ("_", []),
        ("\\", []),
        ("'", []),
        ("", ["a-1", "b-2"]),
        ("nothing", []),
        ("hose", ["b-2"]),
        ("ho", []),
        ("ch", ["b-2"]),
        ("a", ["a-1"]),
        ("-2", ["b-2"]),
        ("7", ["b-2"]),
        (".7", ["b-2"]),
        ("2.7", ["b-2"]),
        ("-", []),
        ("...", []),
    ],
)
def test_search_finds_names_and_addresses_literally_and_less_than_three_letters_where_a_word_begins(
    database: Database, search: str, expected: list[str]
) -> None:
    with database.transaction() as session:
        add(session, "a-1")
        add(session, "b-2", ip_address="192.0.2.7", name="chosen")
        assert names(session, Listing(search=search)) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([("zone", "a")], ["w1", "w2"]),
        ([("zone", None)], ["w1", "w2", "w3"]),
        ([("zone", "a"), ("example.org/disk", "nvme")], ["w2"]),
        ([("zone", "")], []),
        ([("empty", "")], ["w3"]),
        ([("empty", None)], ["w3"]),
        ([("missing", None)], []),
        ([("e", None)], []),
    ],
)
def test_labels_select_workers(
    database: Database, labels: list[tuple[str, str | None]], expected: list[str]
) -> None:
    with database.transaction() as session:
        add(session, "w1", labels={"zone": "a"})
        add(session, "w2", labels={"zone": "a", "example.org/disk": "nvme"})
        add(session, "w3", labels={"zone": "b", "empty": ""})
        add(session, "w4")
        assert names(session, Listing(labels=tuple(Label(*label) for label in labels))) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Listing(intent=Intent.MAINTENANCE), ["w2"]),
        (Listing(intent=Intent.ACTIVE), ["w1", "w3", "w4"]),
        (Listing(architecture="arm64"), ["w3"]),
        (Listing(architecture="riscv64"), []),
        (Listing(node_state=NodeState.READY), ["w1"]),
        (Listing(node_state=NodeState.NOT_READY), ["w2"]),
        (Listing(node_state=NodeState.MISSING), ["w4"]),
        (Listing(node_state=NodeState.UNKNOWN), ["w3"]),
        (Listing(statuses=(Status.MAINTENANCE,), search="w", architecture="amd64"), ["w2"]),
        (Listing(statuses=(Status.MAINTENANCE,), search="w", architecture="arm64"), []),
    ],
)
def test_filters_narrow_the_list(database: Database, wanted: Listing, expected: list[str]) -> None:
    with database.transaction() as session:
        add(session, "w1", architecture="amd64", node_state="Ready")
        maintained = {"intent": Intent.MAINTENANCE, "status": Status.MAINTENANCE}
        add(session, "w2", architecture="amd64", node_state="NotReady", **maintained)
        add(session, "w3", architecture="arm64")
        add(session, "w4", node_state="Missing")
        add(session, "gone", removed_at=START)
        assert names(session, wanted, at=ASKED) == expected


def test_without_news_from_k3s_every_node_is_unknown(database: Database) -> None:
    with database.transaction() as session:
        for state in Node:
            add(session, state.lower(), node_state=state)
        assert names(session, Listing(node_state=NodeState.READY)) == []
        assert len(names(session, Listing(node_state=NodeState.UNKNOWN))) == 3


# ---- plans


ROWS = 20_000
PAGE = 100
COMMON = {
    "all": Listing(),
    "active": Listing(statuses=(Status.ACTIVE,)),
    "live": Listing(statuses=(Status.ACTIVE, Status.NOT_READY, Status.PENDING)),
    "amd64": Listing(architecture="amd64"),
    "a tenth by label": Listing(labels=(Label("zone", "z3"),)),
    "found by two letters": Listing(search="no"),
    "found by half an address": Listing(search="10.1."),
}
RARE = {
    **{status: Listing(statuses=(status,)) for status in Status if status is not Status.ACTIVE},
    "in trouble": Listing(statuses=(Status.INACTIVE, Status.NOT_READY)),
    "in trouble, by label": Listing(statuses=(Status.INACTIVE,), labels=(Label("zone", "z1"),)),
    "maintenance": Listing(intent=Intent.MAINTENANCE),
    "riscv64": Listing(architecture="riscv64"),
    "a rack": Listing(labels=(Label("rack", "r7"),)),
    "an exotic label": Listing(labels=(Label("gpu", None),)),
    "an exact name": Listing(search="node-c4ca4238a0b9"),
    "a middle of a name": Listing(search="4238a0b92382"),
    "an address": Listing(search="10.1.77.7"),
    "nobody": Listing(search="no-such-host"),
    "nobody by a letter": Listing(search="q"),
}


@pytest.fixture(scope="module")
def fleet(postgresql: PostgreSQL) -> Iterator[Database]:
    """A database with many workers; one in a thousand has each of the rare statuses."""
    postgresql.admin("CREATE DATABASE {} TEMPLATE {}", "fleet", "muster")
    database = Database(postgresql.url("fleet"))
    fill(database, ROWS, START)
    yield database
    database.close()
    postgresql.admin("DROP DATABASE {} WITH (FORCE)", "fleet")


def explained(
    session: Session, wanted: Listing, at: Moment = AT
) -> tuple[list_store.Page, list[dict[str, Any]]]:
    """Return the page, and every node of the plans of the queries that it took, with what they really read."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(session.get_bind(), "before_cursor_execute", note)
    page = list_store.page(session, at, FRESH, wanted)
    event.remove(session.get_bind(), "before_cursor_execute", note)
    assert asked
    nodes: list[dict[str, Any]] = []
    for statement, parameters in asked:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        plan = session.connection().exec_driver_sql(explain, parameters).scalar_one()
        nodes += unfold(plan[0]["Plan"])
    return page, nodes


def unfold(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from unfold(child)


def read(nodes: list[dict[str, Any]]) -> int:
    """Return how many rows the scans of the plans came across, kept or not."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        (node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"]
        for node in nodes
        if "Scan" in node["Node Type"]
    )


def whole_tables(nodes: list[dict[str, Any]]) -> list[str]:
    return [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]


def in_orders(wanted: dict[str, Listing], sorts: Iterable[Sort]) -> list[Any]:
    """Return the lists in these orders; a search by status is a join, which of few workers is made of whole tables."""
    return [
        pytest.param(replace(listing, sort=sort), id=f"{name}-{sort}")
        for name, listing in wanted.items()
        for sort in sorts
        if sort is not Sort.STATUS or not (listing.search or listing.labels)
    ]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("wanted", in_orders(COMMON, Sort))
def test_a_page_of_what_many_have_walks_an_index_and_stops(
    fleet: Database, wanted: Listing, order: Order
) -> None:
    with fleet.reading() as session:
        first, plans = explained(session, replace(wanted, order=order))
        second, more = explained(session, replace(wanted, order=order, after=first.after))
    assert (len(first.workers), len(second.workers)) == (PAGE, PAGE)
    assert whole_tables(plans + more) == []
    assert max(read(plans), read(more)) < ROWS / 2


@pytest.mark.parametrize("wanted", in_orders(RARE, [Sort.HOSTNAME, Sort.CREATED_AT, Sort.TOTAL_MEMORY_BYTES]))
def test_a_page_of_what_few_have_reads_only_them(fleet: Database, wanted: Listing) -> None:
    with fleet.reading() as session:
        page, plans = explained(session, wanted)
    begun = 2 * (list_store.FEW if wanted.search else list_store.NEAR if wanted.labels else 0)
    assert len(page.workers) <= 40
    assert whole_tables(plans) == []
    assert read(plans) < ROWS / 20 + begun


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACTIVE])
def test_a_rare_status_in_the_order_of_statuses_reads_only_those_who_have_it(
    fleet: Database, status: Status, order: Order
) -> None:
    wanted = Listing(statuses=(status, Status.PENDING), sort=Sort.STATUS, order=order, limit=25)
    with fleet.reading() as session:
        _, plans = explained(session, wanted)
    assert whole_tables(plans) == []
    assert read(plans) < ROWS / 20


@pytest.mark.parametrize("sort", [Sort.HOSTNAME, Sort.NAME])
def test_a_page_of_what_many_have_far_down_the_order_does_not_walk_there(fleet: Database, sort: Sort) -> None:
    with fleet.reading() as session:
        page, plans = explained(session, Listing(search="node-f", sort=sort))
    found = [worker.hostname for worker in page.workers]
    assert len(found) == PAGE
    assert found == sorted(found)
    assert read([node for node in plans if node.get("Relation Name") == "workers"]) < ROWS / 2


def test_the_plan_of_a_bad_query_would_be_noticed(fleet: Database) -> None:
    """The same measure on what no index helps with: all workers are read for a page."""
    with fleet.reading() as session:
        _, plans = explained(session, Listing(node_state=NodeState.READY), ASKED)
    assert whole_tables(plans) or read(plans) >= ROWS


def test_recording_a_status_writes_no_index_of_the_workers(fleet: Database) -> None:
    """A HOT update: the reason why statuses have an index in a table of their own."""
    query = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'workers'")
    later = Moment(START + timedelta(seconds=95), Rules())
    with fleet.transaction() as session:
        changes = store.record_changes(session, later, actor="monitor")
        updated, hot = session.execute(query).one()
        session.rollback()
    changed = sum(change.workers for change in changes)
    assert changed > ROWS * 0.9
    assert (updated, hot) == (changed, changed)
