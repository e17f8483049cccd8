"""The stream in one process: places, replay, filters, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from control_api.db import Database
from control_api.errors import Overloaded
from control_api.events import event_store, hub
from control_api.events.event_store import Kind
from control_api.events.hub import Events, Place, StreamEnded
from control_api.workers import history_store
from tests.control_api.events.test_tail import write
from tests.control_api.world import START, Api

PATIENCE = 10


@pytest.fixture
async def events(database: Database) -> AsyncIterator[Events]:
    events = Events(database)
    database.on_news = events.call
    events.start()
    await settled(events, 0)  # a test that writes at once would be before its first look
    yield events
    await events.close()


async def settled(events: Events, position: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while events.settled is None or events.settled < position:  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.01)


async def take(place: Place, count: int) -> list[str]:
    """Return the reasons of the next events, in chunks as they come, until there are `count`."""
    found: list[str] = []
    while len(found) < count:
        some = await place.take(PATIENCE)
        assert some, f"only {found}"
        found += [event.data.get("reason", event.kind) for event in some]
    return found


async def test_a_reader_hears_at_once_what_is_committed_after_it_came(
    events: Events, database: Database
) -> None:
    write(database, "before")
    await settled(events, 1)
    with events.place() as place:
        assert await place.take(0) == []
        write(database, "one")
        async with asyncio.timeout(hub.POLL / 2):  # it is called, it does not wait for the next look
            assert await take(place, 1) == ["one"]


async def test_what_another_process_commits_is_heard_within_a_second_or_so(
    events: Events, database: Database
) -> None:
    with events.place() as place:
        assert await place.take(0) == []
        await settled(events, 0)
        database.on_news = lambda: None
        write(database, "from elsewhere")
        async with asyncio.timeout(hub.POLL + 1):
            assert await take(place, 1) == ["from elsewhere"]


async def test_a_reader_that_comes_back_is_told_what_it_missed_and_then_what_follows(
    events: Events, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RECENT", 5)  # so that some of it comes from the table
    for number in range(1, 21):
        write(database, str(number))
    await settled(events, 20)
    with events.place(3) as place:
        assert await take(place, 17) == [str(number) for number in range(4, 21)]
        write(database, "21")
        assert await take(place, 1) == ["21"]


async def test_readers_that_come_while_much_is_written_get_everything_once(
    events: Events, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RECENT", 7)
    monkeypatch.setattr(hub, "TAKEN", 3)
    wanted = [str(number) for number in range(120)]

    async def read(delay: float) -> list[str]:
        await asyncio.sleep(delay)
        with events.place(0) as place:
            return await take(place, len(wanted))

    readers = [asyncio.create_task(read(delay / 50)) for delay in range(8)]
    for number in wanted:
        await asyncio.to_thread(write, database, number)
    assert [await reader for reader in readers] == [wanted] * 8
    assert events.readers == 0


async def test_memory_is_bounded_though_a_reader_takes_nothing(
    events: Events, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RECENT", 10)
    with events.place(0) as place:
        for number in range(40):
            write(database, str(number))
        await settled(events, 40)
        assert len(events._recent) == 10
        assert len(await take(place, 40)) == 40


async def test_a_reader_of_one_worker_or_one_kind_hears_nothing_else(api: Api) -> None:
    first = await api.register()
    second = await api.register(hostname="w2", ipAddress="192.0.2.12")
    await api.beat(second)
    write(api.service.database, "mass silence")
    await settled(api.service.events, 4)
    seen = {}
    for name, worker, kinds in (
        ("first", first, []),
        ("second", second, []),
        ("came", None, [Kind.REGISTERED]),
        ("changed", second, [Kind.TRANSITION]),
        ("notes", None, [Kind.NOTE]),
        ("gone", None, [Kind.REMOVED]),
    ):
        identity = UUID(worker["workerId"]) if worker else None
        with api.service.events.place(0, worker=identity, kinds=kinds) as place:
            seen[name] = [event.id for event in await place.take(0)]
            assert place.position == 4
    assert seen == {"first": [1], "second": [2, 3], "came": [1, 2], "changed": [3], "notes": [4], "gone": []}


async def test_the_filters_say_the_same_of_the_table_and_of_memory(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = api.service.events
    with (
        events.place() as live,
        events.place(kinds=list(Kind)) as every,
        events.place(kinds=[Kind.NOTE]) as notes,
    ):
        for place in (live, every, notes):
            assert await place.take(0) == []
        await settled(events, 0)
        worker = await api.register()
        await api.beat(worker)
        write(api.service.database, "a note")
        await settled(events, 3)
        from_memory = [await place.take(PATIENCE) for place in (live, every, notes)]
    events._recent.clear()
    events._floor = 3
    for place, wanted in zip(([], list(Kind), [Kind.NOTE]), from_memory, strict=True):
        with events.place(0, kinds=place) as again:
            assert await again.take(PATIENCE) == wanted


async def test_a_place_before_the_beginning_of_history_is_told_where_history_begins(
    events: Events, database: Database
) -> None:
    for number in range(1, 4):
        write(database, str(number))
    with database.transaction() as session:
        for text in ("4", "5"):
            history_store.record_note(session, text, evidence={}, now=START + timedelta(days=1))
    with database.transaction() as session:
        assert event_store.forget(session, 0, START + timedelta(days=1)) == (3, 3)
    await settled(events, 5)
    with events.place(1) as place:
        (told,) = await place.take(PATIENCE)
        assert (told.id, told.kind, told.data["beginsAt"]) == (None, "stream.history", 4)
        assert await take(place, 2) == ["4", "5"]
    with events.place(3) as place:
        assert await take(place, 2) == ["4", "5"]


async def test_a_place_in_the_future_is_told_so_and_goes_on_from_the_end(
    events: Events, database: Database
) -> None:
    write(database, "one")
    await settled(events, 1)
    with events.place(900) as place:
        (told,) = await place.take(PATIENCE)
        assert told.data["message"] == "There is no event 900 here; the stream goes on behind event 1."
        write(database, "two")
        assert await take(place, 1) == ["two"]


async def test_more_readers_than_the_bound_are_turned_away(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "READERS", 2)
    # a part of the service is not kept out by its clients
    with events.place(), events.place(), events.place(own=True), pytest.raises(Overloaded):
        events.place().__enter__()
    with events.place(), events.place(own=True):
        assert events.readers == 1


async def test_every_stream_ends_with_the_service(events: Events) -> None:
    with events.place() as place:
        waiting = asyncio.create_task(place.take(PATIENCE))
        await asyncio.sleep(0)
        events.end()
        with pytest.raises(StreamEnded, match="shutdown"):
            await waiting
    with pytest.raises(Overloaded):
        events.place().__enter__()


async def test_subscribing_is_an_iterator(events: Events, database: Database) -> None:
    for text in ("one", "two"):
        write(database, text)
    stream = events.subscribe(0)
    assert [(await anext(stream)).data["reason"] for _ in range(2)] == ["one", "two"]
    events.end()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert events.readers == 0
