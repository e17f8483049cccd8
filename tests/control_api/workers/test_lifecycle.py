"""The table of statuses, cell by cell, and what must hold between the cells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.workers.lifecycle import (
    LIVE,
    NODES_FRESH,
    Intent,
    Moment,
    Node,
    Rules,
    Status,
    health,
    last_heard,
    status,
    why,
    why_first,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RULES = Rules(timeout=timedelta(seconds=90), join_grace=timedelta(minutes=10))
HEARD = {"just now": 0, "at the timeout": 90, "just past it": 90.001, "at the grace": 600, "past it": 600.001}


def derive(**facts: Any) -> Status:
    """Derive the status of a healthy worker, but for what `facts` change."""
    seconds = facts.pop("silent_for", 0)
    values: dict[str, Any] = {
        "approved": True,
        "recorded": Status.ACTIVE,
        "ever_ready": True,
        "left": False,
        "node_ready": True,
        "node": None,
        "registered_at": NOW - timedelta(days=1),
        "last_heartbeat_at": NOW - timedelta(seconds=seconds),
        "at": Moment(NOW, RULES, facts.pop("grace_until", None), facts.pop("nodes_seen_at", None)),
        **facts,
    }
    intent = values.pop("intent", Intent.ACTIVE)
    return status(intent, health(**values))


# fmt: off
TABLE = [
    # never ready: PENDING until it has been silent for the join grace
    (False, True,  "just now",       Status.PENDING),
    (False, True,  "at the timeout", Status.PENDING),
    (False, True,  "just past it",   Status.PENDING),
    (False, True,  "at the grace",   Status.PENDING),
    (False, True,  "past it",        Status.INACTIVE),
    (False, False, "just now",       Status.PENDING),
    (False, False, "at the timeout", Status.PENDING),
    (False, False, "just past it",   Status.PENDING),
    (False, False, "at the grace",   Status.PENDING),
    (False, False, "past it",        Status.INACTIVE),
    # once ready: ACTIVE or NOT_READY while it is heard, INACTIVE past the timeout
    (True,  True,  "just now",       Status.ACTIVE),
    (True,  True,  "at the timeout", Status.ACTIVE),
    (True,  True,  "just past it",   Status.INACTIVE),
    (True,  True,  "at the grace",   Status.INACTIVE),
    (True,  True,  "past it",        Status.INACTIVE),
    (True,  False, "just now",       Status.NOT_READY),
    (True,  False, "at the timeout", Status.NOT_READY),
    (True,  False, "just past it",   Status.INACTIVE),
    (True,  False, "at the grace",   Status.INACTIVE),
    (True,  False, "past it",        Status.INACTIVE),
]
# fmt: on


@pytest.mark.parametrize(("ever_ready", "node_ready", "heard", "expected"), TABLE)
@pytest.mark.parametrize("recorded", Status)
def test_signals_of_the_machine_give_its_status(
    ever_ready: bool, node_ready: bool, heard: str, expected: Status, recorded: Status
) -> None:
    got = derive(ever_ready=ever_ready, node_ready=node_ready, silent_for=HEARD[heard], recorded=recorded)
    assert got is expected


@pytest.mark.parametrize(("ever_ready", "node_ready", "heard", "_expected"), TABLE)
@pytest.mark.parametrize("left", [False, True])
def test_maintenance_covers_whatever_the_health_is(
    ever_ready: bool, node_ready: bool, heard: str, _expected: Status, left: bool
) -> None:
    facts = {"ever_ready": ever_ready, "node_ready": node_ready, "silent_for": HEARD[heard], "left": left}
    assert derive(intent=Intent.MAINTENANCE, **facts) is Status.MAINTENANCE


@pytest.mark.parametrize(("ever_ready", "node_ready", "heard", "_expected"), TABLE)
def test_a_worker_that_said_goodbye_is_inactive_at_once(
    ever_ready: bool, node_ready: bool, heard: str, _expected: Status
) -> None:
    got = derive(ever_ready=ever_ready, node_ready=node_ready, silent_for=HEARD[heard], left=True)
    assert got is Status.INACTIVE


@pytest.mark.parametrize(("ever_ready", "node_ready", "heard", "_expected"), TABLE)
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("recorded", Status)
def test_a_worker_that_nobody_approved_is_pending_whatever_it_says(
    ever_ready: bool, node_ready: bool, heard: str, _expected: Status, left: bool, recorded: Status
) -> None:
    signals = {"ever_ready": ever_ready, "node_ready": node_ready, "silent_for": HEARD[heard], "left": left}
    assert derive(approved=False, recorded=recorded, **signals) is Status.PENDING


# fmt: off
WITH_K3S = [
    # heard, and K3s was asked: both words count, and the worse one decides
    (True,  True,  Node.READY,     Status.ACTIVE),
    (True,  True,  Node.NOT_READY, Status.NOT_READY),
    (True,  True,  Node.MISSING,   Status.NOT_READY),
    (True,  True,  None,           Status.PENDING),
    (True,  False, Node.READY,     Status.NOT_READY),
    (True,  False, Node.NOT_READY, Status.NOT_READY),
    (True,  False, Node.MISSING,   Status.NOT_READY),
    (True,  False, None,           Status.PENDING),
    # never ready: PENDING, whatever a node of that name may be
    (False, True,  Node.READY,     Status.PENDING),
    (False, True,  Node.NOT_READY, Status.PENDING),
    (False, True,  Node.MISSING,   Status.PENDING),
    (False, True,  None,           Status.PENDING),
    (False, False, Node.READY,     Status.PENDING),
    (False, False, Node.NOT_READY, Status.PENDING),
    (False, False, Node.MISSING,   Status.PENDING),
    (False, False, None,           Status.PENDING),
]
# fmt: on


@pytest.mark.parametrize(("ever_ready", "node_ready", "node", "expected"), WITH_K3S)
@pytest.mark.parametrize("recorded", Status)
def test_a_worker_is_active_only_if_it_and_k3s_say_so(
    ever_ready: bool, node_ready: bool, node: Node | None, expected: Status, recorded: Status
) -> None:
    facts = {"ever_ready": ever_ready, "node_ready": node_ready, "node": node, "recorded": recorded}
    assert derive(**facts, nodes_seen_at=NOW) is expected
    assert derive(**facts, nodes_seen_at=NOW - NODES_FRESH) is expected


@pytest.mark.parametrize(("ever_ready", "node_ready", "heard", "expected"), TABLE)
@pytest.mark.parametrize("node", [*Node, None])
@pytest.mark.parametrize("seen", [None, NODES_FRESH + timedelta(microseconds=1)])
def test_what_k3s_does_not_say_or_said_long_ago_changes_nothing(
    ever_ready: bool,
    node_ready: bool,
    heard: str,
    expected: Status,
    node: Node | None,
    seen: timedelta | None,
) -> None:
    facts = {"ever_ready": ever_ready, "node_ready": node_ready, "silent_for": HEARD[heard], "node": node}
    assert derive(**facts, nodes_seen_at=None if seen is None else NOW - seen) is expected


@pytest.mark.parametrize(("ever_ready", "node_ready", "heard", "expected"), TABLE)
@pytest.mark.parametrize("node", [*Node, None])
def test_a_ready_node_does_not_make_up_for_silence(
    ever_ready: bool, node_ready: bool, heard: str, expected: Status, node: Node | None
) -> None:
    got = derive(
        ever_ready=ever_ready,
        node_ready=node_ready,
        silent_for=HEARD[heard],
        node=node,
        nodes_seen_at=NOW,
    )
    assert (got is Status.INACTIVE) == (expected is Status.INACTIVE) or node is None


@pytest.mark.parametrize("recorded", LIVE)
@pytest.mark.parametrize(
    ("ever_ready", "node_ready", "expected"),
    [
        (True, True, Status.ACTIVE),
        (True, False, Status.NOT_READY),
        (False, True, Status.PENDING),
        (False, False, Status.PENDING),
    ],
)
def test_nobody_alive_expires_in_the_monitors_grace(
    recorded: Status, ever_ready: bool, node_ready: bool, expected: Status
) -> None:
    facts = {"recorded": recorded, "ever_ready": ever_ready, "node_ready": node_ready, "silent_for": 86400}
    assert derive(grace_until=NOW + timedelta(seconds=1), **facts) is expected
    assert derive(grace_until=NOW, **facts) is Status.INACTIVE


@pytest.mark.parametrize("recorded", [Status.INACTIVE, Status.MAINTENANCE])
def test_grace_does_not_revive_the_dead(recorded: Status) -> None:
    assert derive(recorded=recorded, silent_for=91, grace_until=NOW + timedelta(hours=1)) is Status.INACTIVE


def test_a_registration_counts_as_being_heard() -> None:
    assert derive(ever_ready=False, last_heartbeat_at=None, registered_at=NOW) is Status.PENDING
    long_ago = NOW - timedelta(days=3)
    assert last_heard(NOW, long_ago) == NOW
    assert last_heard(long_ago, NOW) == NOW
    assert last_heard(NOW, None) == NOW


def test_a_worker_that_never_beat_is_inactive_after_the_join_grace() -> None:
    facts = {"ever_ready": False, "node_ready": False, "last_heartbeat_at": None}
    assert derive(registered_at=NOW - timedelta(minutes=10), **facts) is Status.PENDING
    assert derive(registered_at=NOW - timedelta(minutes=10, seconds=1), **facts) is Status.INACTIVE


def test_a_heartbeat_from_the_future_is_not_silence() -> None:
    assert derive(last_heartbeat_at=NOW + timedelta(hours=1)) is Status.ACTIVE


# fmt: off
UNASKED, LATELY, LONG_AGO = None, timedelta(seconds=5), timedelta(minutes=5)
REASONS = [
    (Status.PENDING,   {}, "registered again, not ready yet"),
    (Status.PENDING,   {"approved": False}, "registered again, waits for approval"),
    (Status.INACTIVE,  {"silence": 93.4}, "not heard for 93 s"),
    (Status.INACTIVE,  {"left_reason": ""}, "said goodbye"),
    (Status.INACTIVE,  {"left_reason": "shutdown"}, "said goodbye: shutdown"),
    (Status.MAINTENANCE, {}, "an operator put it into maintenance"),
    (Status.ACTIVE,    {}, "heard, its node is ready"),
    (Status.ACTIVE,    {"seen": LATELY, "node": Node.READY}, "heard, its node is ready, as K3s says too"),
    (Status.ACTIVE,    {"seen": LONG_AGO, "node": Node.NOT_READY},
                       "heard, its node is ready by its own word; K3s does not answer"),
    (Status.NOT_READY, {"node_ready": False}, "heard, but it says that its node is not ready"),
    (Status.NOT_READY, {"node_ready": False, "seen": LATELY, "node": Node.READY},
                       "heard, but it says that its node is not ready"),
    (Status.NOT_READY, {"node_ready": False, "seen": LONG_AGO, "node": Node.NOT_READY},
                       "heard, but it says that its node is not ready"),
    (Status.NOT_READY, {"seen": LATELY, "node": Node.NOT_READY},
                       "heard, but K3s says that its node is not ready"),
    (Status.NOT_READY, {"node_ready": False, "seen": LATELY, "node": Node.NOT_READY},
                       "heard, but K3s says that its node is not ready, and so does it"),
    (Status.NOT_READY, {"seen": LATELY, "node": Node.MISSING}, "heard, but K3s has no node of its name"),
]
# fmt: on


@pytest.mark.parametrize(("new", "facts", "sentence"), REASONS)
def test_every_change_has_a_reason_that_names_whose_word_it_is(
    new: Status, facts: dict[str, Any], sentence: str
) -> None:
    seen = facts.get("seen")
    got = why(
        new,
        approved=facts.get("approved", True),
        left_reason=facts.get("left_reason"),
        silence=timedelta(seconds=facts.get("silence", 1)),
        node_ready=facts.get("node_ready", True),
        node=facts.get("node"),
        at=Moment(NOW, RULES, nodes_seen_at=None if seen is None else NOW - seen),
    )
    assert got == sentence


def test_a_worker_becomes_known_by_registering() -> None:
    assert why_first(approved=True) == "registered"
    assert why_first(approved=False) == "registered, waits for approval"


FACTS = st.fixed_dictionaries(
    {
        "recorded": st.sampled_from(Status),
        "ever_ready": st.booleans(),
        "left": st.booleans(),
        "node_ready": st.booleans(),
        "node": st.sampled_from([*Node, None]),
        "nodes_seen_at": st.sampled_from([None, NOW, NOW - timedelta(minutes=5)]),
        "silent_for": st.floats(min_value=0, max_value=1000),
        "intent": st.sampled_from(Intent),
        "approved": st.booleans(),
    }
)


@given(FACTS, st.floats(min_value=0, max_value=1e6))
def test_more_silence_never_brings_a_worker_back(facts: dict[str, Any], more: float) -> None:
    before = derive(**facts)
    after = derive(**{**facts, "silent_for": facts["silent_for"] + more})
    assert after is before or after is Status.INACTIVE


@given(FACTS)
def test_maintenance_is_seen_exactly_when_it_is_wanted(facts: dict[str, Any]) -> None:
    assert (derive(**facts) is Status.MAINTENANCE) == (facts["intent"] is Intent.MAINTENANCE)


@given(FACTS, st.floats(min_value=-1000, max_value=1000))
def test_grace_only_ever_spares(facts: dict[str, Any], grace: float) -> None:
    without = derive(**facts)
    spared = derive(**facts, grace_until=NOW + timedelta(seconds=grace))
    assert spared is without or without is Status.INACTIVE


@given(FACTS)
def test_only_a_worker_that_is_heard_and_ready_is_active(facts: dict[str, Any]) -> None:
    if derive(**facts) is Status.ACTIVE:
        assert facts["approved"]
        assert facts["ever_ready"]
        assert facts["node_ready"]
        assert facts["node"] is Node.READY or facts["nodes_seen_at"] != NOW
        assert not facts["left"]
        assert facts["silent_for"] <= 90
