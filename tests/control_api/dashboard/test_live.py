"""The stream of a page: what it sends when something changes, and how it ends."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from control_api.dashboard import fleet_view, worker_view
from control_api.dashboard.fleet_view import Fleet
from control_api.dashboard.live import Streams, event, fleet_changes, follow, worker_changes
from control_api.dashboard.view import Doubts
from control_api.dashboard.worker_view import Worker
from control_api.errors import DatabaseUnavailable, TooManyStreams, Unauthorized, WorkerNotFound
from control_api.workers import wire
from control_api.workers.lifecycle import Moment, Rules, Status
from control_api.workers.store import Tally
from control_api.workers.wire import ListQuery, WorkerView
from tests.control_api.dashboard.conftest import ID, seen
from tests.control_api.world import START, Clock

LATER = START + timedelta(seconds=40)
ACTIVE = Tally(Status.ACTIVE, 2, 16, 2**34, 2**40, 2.0, 2.0**33, 2.0**39, 6, 0)
OTHER = UUID("5a1c8a52-0000-4000-8000-000000000002")
PUT = re.compile(r'event: (\w+)\n(?:data: (?:\n|<[^>]*?id="([^"]*)")?)*')
TWO = (seen(), seen(id=OTHER, name="w2", hostname="w2"))


def fleet(
    *workers: WorkerView,
    now: datetime = START,
    tallies: Sequence[Tally] = (ACTIVE,),
    doubts: Doubts | None = None,
) -> Fleet:
    known = doubts or Doubts(ticked_at=now)
    stats = wire.stats(list(tallies), Moment(now, Rules()), cluster_is_configured=False)
    return fleet_view.fleet(
        ListQuery(),
        workers,
        stats,
        known,
        Moment(now, Rules()),
        next_cursor=None,
    )


def worker(found: WorkerView, now: datetime = START) -> Worker:
    return worker_view.worker(found, [], Doubts(ticked_at=now), Moment(now, Rules()), may_operate=False)


def sent(events: Iterator[str]) -> list[str]:
    """Return the names of the events, with the id of the element that each puts in."""
    return [" ".join(filter(None, PUT.match(text).groups())) for text in events]


# ---- what is sent


def test_the_first_look_sends_the_whole_page() -> None:
    assert sent(fleet_changes(None, fleet(*TWO))) == ["put notices", "put tiles", "put totals", "put list"]
    whole = ["put notices", "put now", "put maintenance", "put facts", "put history"]
    assert sent(worker_changes(None, worker(seen()))) == whole


def test_time_alone_sends_nothing() -> None:
    assert sent(fleet_changes(fleet(*TWO), fleet(*TWO, now=LATER))) == []
    assert sent(worker_changes(worker(seen()), worker(seen(), LATER))) == []


def test_a_heartbeat_sends_its_line_only() -> None:
    beaten = seen(id=OTHER, name="w2", hostname="w2", last_heartbeat=LATER, cpu_usage=99.0)
    assert sent(fleet_changes(fleet(*TWO), fleet(TWO[0], beaten, now=LATER))) == [f"put w-{OTHER}"]
    assert sent(worker_changes(worker(seen()), worker(seen(last_heartbeat=LATER), LATER))) == ["put now"]


def test_a_worker_that_falls_silent_changes_its_line_and_the_counts_and_is_said_aloud() -> None:
    silent = seen(status=Status.INACTIVE)
    tallies = [ACTIVE._replace(workers=1), ACTIVE._replace(status=Status.INACTIVE, workers=1, cpu_cores=0)]
    events = list(fleet_changes(fleet(*TWO), fleet(silent, TWO[1], now=LATER, tallies=tallies)))
    assert sent(iter(events)) == ["put tiles", "put totals", f"put w-{ID}", "say"]
    assert events[-1] == "event: say\ndata: w1 is now INACTIVE\n\n"


def test_a_worker_that_appears_sends_the_list() -> None:
    assert sent(fleet_changes(fleet(TWO[0]), fleet(*TWO))) == ["put list"]


def test_many_changes_are_said_as_a_number() -> None:
    many = [seen(id=UUID(int=number), name=f"w{number}") for number in range(4)]
    fallen = [one.model_copy(update={"status": Status.INACTIVE}) for one in many]
    assert list(fleet_changes(fleet(*many), fleet(*fallen)))[-1] == event(
        "say", "4 workers on this page changed their status"
    )


def test_a_doubt_of_the_monitor_is_sent() -> None:
    doubt = fleet(*TWO, doubts=Doubts(ticked_at=START, degraded=("eventFanOut",)))
    assert sent(fleet_changes(fleet(*TWO), doubt)) == ["put notices"]


def test_an_event_has_one_data_line_a_line_whatever_ends_it() -> None:
    assert event("put", "a\r\nb\rc\n\nd\u2028e") == (
        "event: put\ndata: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: e\n\n"
    )
    assert event("say", "") == "event: say\ndata: \n\n"


# ---- how it goes


def looks(*outcomes: object) -> Callable[[datetime], Worker]:
    """Return a look that has these outcomes, one after the other: a page, or an error that it raises."""
    rest = iter(outcomes)

    def look(_now: datetime) -> Worker:
        outcome = next(rest)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Worker)
        return outcome

    return look


def pauses(clock: Clock, number: int) -> Callable[[], Awaitable[bool]]:
    """Return a pause of three seconds, after the given number of which the service ends."""
    count = itertools.count(1)

    async def pause() -> bool:
        clock.advance(3)
        return next(count) < number

    return pause


async def stream(clock: Clock, *outcomes: object) -> list[str]:
    """Return the events of a stream that looks once an outcome, without the elements that they put in."""
    pause = pauses(clock, len(outcomes))
    followed: AsyncIterator[str] = follow(looks(*outcomes), worker_changes, clock=clock, pause=pause)
    return [re.sub(r"event: put\n(data: .*\n)*\n", "", text) async for text in followed]


def current(seconds: int) -> str:
    return event("current", f"2026-11-24T12:00:{seconds:02}.000Z")


async def test_every_look_says_when_it_was_and_the_service_ends_it(clock: Clock) -> None:
    page = worker(seen())
    assert await stream(clock, page, page, page) == [current(0), current(3), current(6)]


async def test_a_database_that_does_not_answer_is_said_and_outlived(clock: Clock) -> None:
    page = worker(seen())
    trouble = event("trouble", "The database does not answer; try again in a few seconds.")
    assert await stream(clock, page, DatabaseUnavailable(), page) == [current(0), trouble, current(6)]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Unauthorized(), "Your session has ended; log in again."),
        (WorkerNotFound(), "There is no worker with this id."),
    ],
)
async def test_a_stream_ends_with_its_session_and_with_its_worker(
    clock: Clock, reason: Exception, said: str
) -> None:
    page = worker(seen())
    assert await stream(clock, page, reason, page) == [current(0), event("end", said)]


def test_the_number_of_streams_is_bounded() -> None:
    streams = Streams(most=1)
    streams.check()
    with streams.place(), pytest.raises(TooManyStreams):
        streams.check()
    streams.check()
