"""Following the history: whatever order transactions commit in, nothing is lost and nothing comes twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.orm import Session

from control_api.db import Database
from control_api.events.tail import Gap, Tail, settle
from control_api.workers import history_store
from tests.control_api.world import START

NOBODY: frozenset[str] = frozenset()
WRITER = frozenset({"3/17"})


def note(session: Session, text: str) -> None:
    history_store.record_note(session, text, evidence={}, now=START)


def write(database: Database, text: str) -> None:
    with database.transaction() as session:
        note(session, text)


def heard(tail: Tail, database: Database) -> list[str]:
    """Return what the tail tells until it has no reason to look again."""
    told = []
    while True:
        with database.reading() as session:
            news = tail.look(session)
        told += [event.data["reason"] for event in news.events]
        if not news.again:
            return told


@contextmanager
def open_transaction(database: Database) -> Iterator[Session]:
    """A transaction that the test ends itself."""
    session = Session(database.engine)
    yield session
    session.close()


@pytest.fixture
def postgres(postgresql_url: str) -> Iterator[Database]:
    database = Database(postgresql_url)
    yield database
    database.close()


@pytest.mark.parametrize(
    ("settled", "ids", "gap", "writers", "final"),
    [
        (0, [], None, NOBODY, 0),
        (0, [1, 2, 3], None, NOBODY, 3),
        (0, [1, 3], None, NOBODY, 1),
        (1, [3], Gap(3, WRITER), WRITER, 1),
        (1, [3], Gap(3, WRITER), NOBODY, 3),
        (1, [3, 4, 6], Gap(3, WRITER), frozenset({"9/1"}), 4),
        (1, [2, 3, 4], Gap(3, WRITER), WRITER, 4),
        (1, [], Gap(3, WRITER), NOBODY, 3),
        # A full page does not show all that lies below the gap's end.
        (1, [2, 4, 5, 7, 8, 9, 11, 12, 13, 14], Gap(20, WRITER), NOBODY, 14),
    ],
)
def test_what_is_final(
    settled: int, ids: list[int], gap: Gap | None, writers: frozenset[str], final: int
) -> None:
    assert settle(settled, ids, gap, writers, page=10) == final


def test_it_begins_at_the_end_and_tells_what_follows_in_order(database: Database) -> None:
    write(database, "before")
    tail = Tail()
    assert heard(tail, database) == []
    for text in ("one", "two"):
        write(database, text)
    assert heard(tail, database) == ["one", "two"]
    assert heard(tail, database) == []


def test_a_row_that_commits_after_a_later_one_is_neither_lost_nor_out_of_order(postgres: Database) -> None:
    tail = Tail()
    assert heard(tail, postgres) == []
    with open_transaction(postgres) as slow:
        note(slow, "first, commits last")
        write(postgres, "second, commits first")
        assert heard(tail, postgres) == []
        slow.commit()
    assert heard(tail, postgres) == ["first, commits last", "second, commits first"]


def test_a_rolled_back_row_stops_nobody(postgres: Database) -> None:
    tail = Tail()
    heard(tail, postgres)
    with open_transaction(postgres) as slow:
        note(slow, "never")
        write(postgres, "told")
        assert heard(tail, postgres) == []
        slow.rollback()
    assert heard(tail, postgres) == ["told"]


def test_writers_that_came_after_the_gap_do_not_keep_it_open(postgres: Database) -> None:
    tail = Tail()
    heard(tail, postgres)
    with open_transaction(postgres) as first, open_transaction(postgres) as second:
        note(first, "never")
        write(postgres, "two")
        assert heard(tail, postgres) == []
        note(second, "three")
        first.rollback()
        assert heard(tail, postgres) == ["two"]
        write(postgres, "four")
        assert heard(tail, postgres) == []
        second.commit()
    assert heard(tail, postgres) == ["three", "four"]


def test_a_row_that_is_being_written_when_it_begins_is_not_lost(postgres: Database) -> None:
    with open_transaction(postgres) as slow:
        note(slow, "first")
        write(postgres, "second")
        tail = Tail()
        assert heard(tail, postgres) == []
        assert tail.settled is None
        slow.commit()
    assert heard(tail, postgres) == []
    assert tail.settled == 2  # whoever asks for what follows 0 gets both from the table


def test_readers_of_other_tables_and_long_readers_do_not_matter(postgres: Database) -> None:
    tail = Tail()
    heard(tail, postgres)
    with open_transaction(postgres) as reader, open_transaction(postgres) as writer:
        reader.connection().exec_driver_sql("SELECT * FROM transitions")
        writer.connection().exec_driver_sql("UPDATE users SET username = username")
        writer.connection().exec_driver_sql("SELECT pg_current_xact_id()")
        with open_transaction(postgres) as gone:
            note(gone, "never")
            gone.rollback()
        write(postgres, "told")
        assert heard(tail, postgres) == ["told"]


def test_more_rows_below_a_gap_than_a_page_holds_all_come(postgres: Database) -> None:
    tail = Tail(page=3)
    heard(tail, postgres)
    with open_transaction(postgres) as slow:
        for number in range(1, 8):
            note(slow, str(number))
        for number in range(8, 12):
            write(postgres, str(number))
        assert heard(tail, postgres) == []
        slow.commit()
    assert heard(tail, postgres) == [str(number) for number in range(1, 12)]


def test_any_order_of_commits_and_rollbacks_is_told_in_order_without_gap_or_repetition(
    postgres: Database,
) -> None:
    chance = random.Random(7)
    tail = Tail(page=4)
    told = heard(tail, postgres)
    sessions: list[Session] = []
    for _ in range(300):
        step = chance.random()
        if step < 0.4 and len(sessions) < 8:
            sessions.append(Session(postgres.engine))
        elif step < 0.7 and sessions:
            note(chance.choice(sessions), "x")
        elif step < 0.9 and sessions:
            session = sessions.pop(chance.randrange(len(sessions)))
            session.rollback() if chance.random() < 0.3 else session.commit()
            session.close()
        else:
            told += ids(tail, postgres)
    for session in sessions:
        session.commit()
        session.close()
    told += ids(tail, postgres)
    with postgres.reading() as session:
        stored = session.connection().exec_driver_sql("SELECT id FROM transitions ORDER BY id")
        assert told == [row[0] for row in stored]
    assert len(told) > 30


def ids(tail: Tail, database: Database) -> list[int]:
    told: list[int] = []
    while True:
        with database.reading() as session:
            news = tail.look(session)
        told += [event.id for event in news.events]
        if not news.again:
            return told
