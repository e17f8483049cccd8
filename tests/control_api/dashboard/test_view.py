"""What both pages show: a worker as a line, and what weakens the page."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from control_api.dashboard import view
from control_api.dashboard.view import Badge, Doubts, Notice, Row
from control_api.dashboard.words import Gauge, When, when
from control_api.workers.lifecycle import Intent, Moment, Node, Rules, Status
from tests.control_api.dashboard.conftest import ID, seen
from tests.control_api.world import START

WELL = Doubts(ticked_at=START)
ACTIVE, INACTIVE = Badge("active", "ACTIVE"), Badge("inactive", "INACTIVE")


def test_a_worker_is_a_line_of_the_list() -> None:
    assert view.row(seen(), START) == Row(
        id=ID,
        name="w1",
        hostname="w1",
        address="192.0.2.11",
        badge=ACTIVE,
        hint="",
        heard=When("2026-11-24T12:00:00.000Z", "2026-11-24 12:00:00 UTC", "now"),
        node=Badge("ready", "Ready"),
        cpu=Gauge(12, "12 %", "8 cores", "ok"),
        memory=Gauge(91, "91 %", "16.0 GiB", "full"),
        disk=Gauge(None, "–", "–", "none"),
        pods="3",
        is_old=False,
    )


def test_a_worker_that_was_never_heard_says_so() -> None:
    never = seen(
        last_heartbeat=None,
        node_state=None,
        cpu_usage=None,
        memory_usage=None,
        current_pods=None,
        status=Status.PENDING,
    )
    row = view.row(never, START)
    assert (row.badge, row.heard, row.node) == (
        Badge("pending", "PENDING"),
        None,
        Badge("unknown", "not known"),
    )
    assert (row.cpu, row.pods) == (Gauge(None, "–", "8 cores", "none"), "–")


def test_the_numbers_of_a_silent_worker_are_old() -> None:
    row = view.row(seen(status=Status.INACTIVE), START + timedelta(minutes=5))
    assert (row.badge, row.is_old) == (INACTIVE, True)
    assert row.heard is not None
    assert row.heard.ago == "5 min ago"


@pytest.mark.parametrize(("is_ready", "health"), [(True, "healthy"), (False, "not healthy")])
def test_maintenance_does_not_hide_the_health(is_ready: bool, health: str) -> None:
    resting = seen(status=Status.MAINTENANCE, intent=Intent.MAINTENANCE, is_ready=is_ready)
    assert view.row(resting, START).hint == health


@pytest.mark.parametrize(
    ("state", "badge"),
    [
        (Node.READY, Badge("ready", "Ready")),
        (Node.NOT_READY, Badge("not-ready", "Not ready")),
        (Node.MISSING, Badge("not-ready", "Missing")),
        (None, Badge("unknown", "not known")),
    ],
)
def test_what_k3s_says_of_the_node_is_shown(state: Node | None, badge: Badge) -> None:
    assert view.row(seen(node_state=state), START).node == badge


def test_a_worker_that_waits_for_approval_says_so() -> None:
    assert view.row(seen(status=Status.PENDING, approved=False), START).hint == "not approved"


def test_time_alone_changes_no_line() -> None:
    assert view.row(seen(), START) == view.row(seen(), START + timedelta(minutes=1))


def notices(doubts: Doubts, *, grace_until: datetime | None = None) -> tuple[Notice, ...]:
    return view.notices(doubts, Moment(START, Rules(), grace_until))


def test_a_service_that_is_well_says_nothing() -> None:
    assert notices(Doubts(ticked_at=START, nodes_expected=True, nodes_known=True)) == ()
    assert notices(WELL, grace_until=START) == ()


def test_a_monitor_that_doubts_itself_is_named_with_the_end_of_its_doubt() -> None:
    until = START + timedelta(seconds=90)
    text = (
        "Nobody is declared silent now: the monitor has just begun, or doubts what it sees. It judges again"
    )
    (notice,) = notices(WELL, grace_until=until)
    assert notice == Notice("doubt", text, when(until, START))
    assert notice.until is not None
    assert notice.until.ago == "in 90 s"


def test_a_monitor_that_does_not_look_is_named() -> None:
    late = START - timedelta(seconds=21)
    text = "The monitor does not look: statuses here are right, but no change is recorded. It last looked"
    assert notices(Doubts(ticked_at=late)) == (Notice("degraded", text, when(late, START)),)
    assert notices(Doubts(ticked_at=None)) == (Notice("degraded", text, None),)


def test_degraded_features_and_a_silent_k3s_are_named() -> None:
    doubts = Doubts(ticked_at=START, degraded=("eventFanOut",), nodes_expected=True, nodes_known=False)
    assert notices(doubts) == (
        Notice("degraded", "K3s does not answer: a status rests on the worker's own word about its node."),
        Notice("degraded", "Degraded: eventFanOut."),
    )
