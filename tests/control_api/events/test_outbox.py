"""What is decided about deliveries: pauses, choice, end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_api.events import outbox
from control_api.events.event_store import Event
from control_api.events.models import Delivery, Webhook
from control_api.events.outbox import Due, body_of, choose, hopeless, pause, wants
from control_api.events.sending import Answer, Verdict
from tests.control_api.world import START


def webhook(**values: Any) -> Webhook:
    return Webhook(**{"kinds": [], "statuses": [], **values})


def event(number: int, kind: str = "worker.transition", to: str = "ACTIVE") -> Event:
    return Event(number, kind, {"id": number, "at": START.isoformat(), "to": to}, START)


def test_pauses_grow_to_ten_minutes_and_are_spread() -> None:
    seconds = [pause(attempts, 1).total_seconds() for attempts in (1, 2, 5, 9, 10, 99)]
    assert seconds == [2, 4, 32, 512, 600, 600]
    assert pause(5, 0) == timedelta(seconds=16)


@pytest.mark.parametrize(
    ("kinds", "statuses", "wanted"),
    [
        ([], [], [1, 2, 3, 4]),
        (["worker.transition"], [], [1, 2]),
        ([], ["INACTIVE"], [2, 3, 4]),  # a note and a removal are no change to a status
        (["worker.transition"], ["INACTIVE"], [2]),
    ],
)
def test_kinds_choose_events_and_statuses_choose_changes(
    kinds: list[str], statuses: list[str], wanted: list[int]
) -> None:
    events = [event(1), event(2, to="INACTIVE"), event(3, "worker.removed"), event(4, "monitor.note")]
    hook = webhook(kinds=kinds, statuses=statuses)
    assert [one.id for one in events if wants(hook, one)] == wanted


def test_no_more_is_chosen_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAGE", 3)
    page = [event(2), event(3), event(5)]
    hook = webhook()
    assert choose(hook, page, 9, 2) == ([2, 3], 3)
    assert choose(hook, page, 9, 3) == ([2, 3, 5], 5)
    assert choose(hook, page, 9, 9) == ([2, 3, 5], 5)  # a full page: there may be more behind it
    assert choose(hook, page[:2], 9, 9) == ([2, 3], 9)  # the last page: nothing more up to 9
    assert choose(webhook(kinds=["monitor.note"]), page[:2], 9, 9) == ([], 9)
    assert choose(hook, [], 9, 9) == ([], 9)


def test_what_is_sent_has_the_frame_of_standard_webhooks() -> None:
    assert body_of(event(7)) == (
        b'{"type":"worker.transition","timestamp":"2026-11-24T12:00:00+00:00",'
        b'"data":{"id":7,"at":"2026-11-24T12:00:00+00:00","to":"ACTIVE"}}'
    )


@pytest.mark.parametrize(
    ("verdict", "days", "over"),
    [
        (Verdict.AWAY, None, False),
        (Verdict.AWAY, 2.9, False),
        (Verdict.AWAY, 3.0, True),
        (Verdict.REFUSED, 3.0, True),
        (Verdict.GONE, None, True),
    ],
)
def test_when_a_receiver_is_given_up(verdict: Verdict, days: float | None, over: bool) -> None:
    since = None if days is None else START - timedelta(days=days)
    due = Due(webhook(failing_since=since), Delivery(), event(1))
    assert (hopeless(due, Answer(verdict, "HTTP 500"), START) is not None) == over
