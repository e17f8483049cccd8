"""The table of statuses, cell by cell, and what must hold between the cells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.workers.lifecycle import LIVE, Intent, Moment, Rules, Status, health, last_heard, status, why

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
        "registered_at": NOW - timedelta(days=1),
        "last_heartbeat_at": NOW - timedelta(seconds=seconds),
        "at": Moment(NOW, RULES, facts.pop("grace_until", None)),
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


@pytest.mark.parametrize(
    ("new", "left_reason", "silence", "first", "sentence"),
    [
        (Status.PENDING, None, 0, True, "registered"),
        (Status.PENDING, None, 0, False, "registered again, not ready yet"),
        (Status.ACTIVE, None, 1, False, "heard, its node is ready"),
        (Status.NOT_READY, None, 1, False, "heard, but its node is not ready"),
        (Status.INACTIVE, None, 93.4, False, "not heard for 93 s"),
        (Status.INACTIVE, "", 1, False, "said goodbye"),
        (Status.INACTIVE, "shutdown", 1, False, "said goodbye: shutdown"),
        (Status.MAINTENANCE, None, 1, False, "an operator put it into maintenance"),
    ],
)
def test_every_change_has_a_reason(
    new: Status, left_reason: str | None, silence: float, first: bool, sentence: str
) -> None:
    assert why(new, left_reason=left_reason, silence=timedelta(seconds=silence), first=first) == sentence


@pytest.mark.parametrize(("first", "said"), [(True, "registered"), (False, "registered again")])
def test_a_worker_that_waits_for_approval_has_that_as_its_reason(first: bool, said: str) -> None:
    sentence = why(Status.PENDING, left_reason=None, silence=timedelta(0), first=first, approved=False)
    assert sentence == f"{said}, waits for approval"


FACTS = st.fixed_dictionaries(
    {
        "recorded": st.sampled_from(Status),
        "ever_ready": st.booleans(),
        "left": st.booleans(),
        "node_ready": st.booleans(),
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
        assert not facts["left"]
        assert facts["silent_for"] <= 90
