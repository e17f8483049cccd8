"""The database: engine, transactions, types; the one home of what differs between PostgreSQL and SQLite."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    DateTime,
    Double,
    Engine,
    Enum,
    FromClause,
    MetaData,
    Select,
    String,
    Text,
    Uuid,
    case,
    cast,
    column,
    create_engine,
    event,
    func,
    literal,
    literal_column,
    make_url,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

from control_api import postgres_link
from control_api.errors import AlreadyRunning, BadSettings, DatabaseUnavailable, SchemaInUse
from control_api.postgres_link import BoundedConnection, is_gone

MIGRATION_SECONDS = 900  # for one statement of a migration
TABLE_SECONDS = (
    0.3  # how long it waits for a table, since others wait behind it; and in a deadlock with one of
)
# them it gives way, because PostgreSQL ends somebody's transaction only after a second
TABLE_IN_USE = ("55P03", "40P01")  # the lock was not to be had in time; a deadlock

# Keys of PostgreSQL's advisory locks; any number, as long as nobody else in this database uses it.
MIGRATION_LOCK = 0x6D757374_0001
MONITOR_LOCK = 0x6D757374_0002
SQLITE_BUSY = re.compile("locked|busy|unable to open|disk|readonly|full")
NEWS = "muster.news"
MANY = 10_000  # rows in one parameter
EXAMPLES = 10  # of the rows that were written together
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)
SESSION_ENDED = ("25P03", "25006")  # ended for idling in a transaction; read-only: not the primary any more


class Base(DeclarativeBase):
    """What every table has in common: the names of its constraints."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC; a naive one is refused, and SQLite gets its zone back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"naive datetime {value!r}"
            raise ValueError(msg)
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(postgresql.JSONB(), "postgresql")


def words(of: type[StrEnum], name: str) -> Enum:
    """Return the type of a column that holds one of the words of `of`, checked by the database too."""
    return Enum(
        of,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Database:
    """One engine and its transactions."""

    def __init__(self, url: str) -> None:
        """Prepare the engine for `url`; it connects when first used. Raises BadSettings."""
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self.on_news: Callable[[], None] = lambda: None  # called after a commit that was announced
        self._reader = self.engine.execution_options(muster_begin="BEGIN")
        one_moment = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._snapshots = self._reader.execution_options(**one_moment)
        self._away = False
        self._probing = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction that writes, commit it at the end. Raises DatabaseUnavailable."""
        with self.guard(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session
        self.tell(session)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads; on SQLite it waits for nobody. Raises DatabaseUnavailable."""
        with self.guard(), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Open a short one that reads all as of one moment: PostgreSQL keeps what is updated meanwhile."""
        with self.guard(), Session(self._snapshots, expire_on_commit=False) as session, session.begin():
            yield session

    def tell(self, session: Session) -> None:
        """Call `on_news` when the session, now committed, has announced something."""
        if session.info.pop(NEWS, False):
            self.on_news()

    @contextmanager
    def migrating(self) -> Iterator[Session]:
        """Open a transaction that changes the schema: one process at a time, however long its statements take.

        It waits only a moment for a table that others use: whoever comes after it waits as long as it does.
        Raises SchemaInUse, DatabaseUnavailable.
        """
        try:
            with self.transaction() as session:
                if not self.is_sqlite:  # there, BEGIN IMMEDIATE already lets one process in at a time
                    _link(session.connection()).patience = MIGRATION_SECONDS
                    session.execute(text(f"SET LOCAL statement_timeout = '{MIGRATION_SECONDS}s'"))
                    session.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_SECONDS}s'"))
                    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                    session.execute(text(f"SET LOCAL lock_timeout = '{TABLE_SECONDS}s'"))
                yield session
        except DatabaseUnavailable as exc:
            if getattr(getattr(exc.__cause__, "orig", None), "sqlstate", None) in TABLE_IN_USE:
                raise SchemaInUse from exc
            raise

    def ping(self) -> None:
        """Return when the database answers. Raises DatabaseUnavailable."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn the driver's errors into DatabaseUnavailable.

        While the database is away, one caller at a time finds out whether it is back; the others are refused at
        once, else they would wait for each other's timeouts.
        """
        with _unavailable():
            if self._away:
                self._probe()
        try:
            with _unavailable():
                yield
        except DatabaseUnavailable as exc:
            self._away = self._away or is_gone(getattr(exc.__cause__, "orig", None))
            raise

    def _probe(self) -> None:
        if not self._probing.acquire(blocking=False):
            raise DatabaseUnavailable
        try:
            with self.engine.connect():
                self._away = False
        finally:
            self._probing.release()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


class Leadership:
    """The right to judge the fleet: on PostgreSQL an advisory lock, held as long as its connection lives.

    The leader does its work on the connection that holds the lock, so a lost lock cannot be overlooked.
    """

    def __init__(self, database: Database, *, idle: float = 10, patience: float = 20) -> None:
        """Prepare; nothing is asked of the database yet.

        idle: seconds after which PostgreSQL ends the session of a leader that asks nothing: it is suspended, or
        its host or the way to it is gone without a word. patience: seconds that one of its statements may take.
        """
        self._database = database
        self._idle = idle
        self._patience = patience
        self._connection: Connection | None = None
        self._session_id: int | None = None

    @property
    def held(self) -> bool:
        """Say whether this process leads."""
        return self._connection is not None

    def acquire(self) -> bool:
        """Try to lead; say whether this process does. Raises DatabaseUnavailable."""
        if self._connection is not None:
            return True
        with self._database.guard():
            connection = self._database.engine.connect()
            try:
                won = self._database.is_sqlite or self._take(connection)
                connection.commit()
            except BaseException:
                _discard(connection)  # a lock that it may hold must not go back to the pool
                raise
        if won:
            self._connection = connection
        else:
            connection.close()
        return won

    def _take(self, connection: Connection) -> bool:
        key = {"key": MONITOR_LOCK}
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
            return False
        link = _link(connection)
        link.lead(self._idle, self._patience)
        self._session_id = link.info.backend_pid
        return True

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction on the leader's own connection; leadership ends when that connection is lost."""
        if self._connection is None:
            raise DatabaseUnavailable
        try:
            with (
                self._database.guard(),
                Session(self._connection, expire_on_commit=False) as session,
                session.begin(),
            ):
                self._require_own_session(session)
                yield session
        except DatabaseUnavailable:
            self._drop()
            raise
        self._database.tell(session)

    def _require_own_session(self, session: Session) -> None:
        """Go on only in the session that took the lock, whatever a pool or a proxy has put in its place."""
        if self._database.is_sqlite:
            return
        if session.scalar(text("SELECT pg_backend_pid()")) != self._session_id:
            raise DatabaseUnavailable

    def release(self) -> None:
        """Stop leading, so that another process may at once; safe to call twice."""
        if self._connection is not None and not self._database.is_sqlite:
            with suppress(*UNAVAILABLE), self._connection.begin():
                _link(self._connection).patience = postgres_link.PING
                self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MONITOR_LOCK})
        self._drop()

    def _drop(self) -> None:
        """Throw the connection away and ask nothing of it: the lock ends with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _discard(connection)


def utc_now() -> datetime:
    """Return this moment; the only clock of the service."""
    return datetime.now(UTC)


def parse_url(url: str) -> URL:
    """Return the URL with the driver that is used here. Raises BadSettings."""
    try:
        parsed = make_url(url)
    except Exception:
        msg = "DATABASE_URL is not a URL; escape the special characters of its password."
        raise BadSettings(msg) from None  # the cause would show the password
    backend = parsed.get_backend_name()
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite+pysqlite")
    msg = "DATABASE_URL must begin with postgresql:// or name a file with sqlite:///."
    raise BadSettings(msg)


def insert(session: Session, table: Any) -> Any:
    """Return the dialect's own INSERT, which knows ON CONFLICT."""
    sqlite_here = session.get_bind().dialect.name == "sqlite"
    return sqlite.insert(table) if sqlite_here else postgresql.insert(table)


def has_label(session: Session, labels: Any, key: str, value: str | None) -> ColumnElement[bool]:
    """Return the condition that the JSON object `labels` has this key, with this value unless it is None."""
    if session.get_bind().dialect.name == "sqlite":
        found = func.json_extract(labels, f'$."{key}"')
        return found.is_not(None) if value is None else found == value
    object_ = type_coerce(labels, postgresql.JSONB)
    return object_.has_key(key) if value is None else object_.contains({key: value})


def json_rows(session: Session, query: Select[Any], *, order_by: str) -> Select[str]:
    """Return a query for the rows of `query` as texts, each a JSON object with a member for every column."""
    rows = query.subquery("rows")
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    row = json_object(session, dict(rows.c)) if on_sqlite else func.row_to_json(rows.table_valued())
    return select(cast(row, String)).order_by(rows.c[order_by])


def json_object(session: Session, members: Mapping[str, Any]) -> ColumnElement[Any]:
    """Return a JSON object with these members."""
    if session.get_bind().dialect.name == "sqlite":
        parts = (part for key, value in members.items() for part in (key, _json(value)))
        return func.json_object(*parts, type_=JSON)
    parts = (part for key, value in members.items() for part in (literal(key, Text), value))
    return func.jsonb_build_object(*parts, type_=postgresql.JSONB)


def _json(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what SQLite makes the same JSON of as PostgreSQL, though it has neither booleans nor UUIDs."""
    if isinstance(value.type, Boolean):
        return func.json(case((value, "true"), else_="false"))
    if isinstance(value.type, JSON):
        return func.json(type_coerce(value, String))
    return func.muster_uuid(type_coerce(value, String)) if isinstance(value.type, Uuid) else value


def iso(session: Session, moment: Any) -> ColumnElement[str]:
    """Return a moment as text (ISO 8601), in UTC."""
    if session.get_bind().dialect.name == "sqlite":
        return func.replace(type_coerce(moment, String), " ", "T") + "+00:00"
    return func.to_char(func.timezone("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"', type_=String)


def seconds(session: Session, now: datetime, since: Any) -> ColumnElement[Any]:
    """Return the seconds from a moment of the database until now, to a thousandth."""
    moment = literal(now, UtcDateTime)
    if session.get_bind().dialect.name == "sqlite":
        return func.round((func.julianday(moment) - func.julianday(since)) * 86_400.0, 3, type_=Double)
    return func.round(func.extract("epoch", moment - since), 3)


def whole(number: Any) -> ColumnElement[str]:
    """Return a number rounded to a whole one, as text."""
    return cast(cast(func.round(number), BigInteger), String)


def row_hash(session: Session, *columns: Any) -> ColumnElement[int]:
    """Return a whole number that stands for the values of these columns, fit to be summed up over many rows."""
    if session.get_bind().dialect.name == "sqlite":
        return func.muster_hash(*columns, type_=BigInteger)
    # A record's hash is linear in those of its columns: rows that swap values would leave the sum as it was.
    return func.hashint8extended(func.hash_record_extended(func.row(*columns), 0), 0, type_=BigInteger)


def _hash(*values: object) -> int:
    """Do the same for SQLite, in 44 bits: the sum over a million rows is still one of its numbers."""
    digest = hashlib.blake2b(repr(values).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 20


def announce(session: Session) -> None:
    """Let those who follow the history look as soon as this transaction is committed."""
    session.info[NEWS] = True


def place(session: Session, table: str) -> ColumnElement[Any]:
    """Return where a table's rows lie, only to sort by: in that order, many are written page by page."""
    return literal_column(f"{table}.{'rowid' if session.get_bind().dialect.name == 'sqlite' else 'ctid'}")


def keep_in_memory(session: Session) -> None:
    """Let this transaction hold the rows of a whole fleet in memory; PostgreSQL would put them into files."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("SET LOCAL work_mem = '128MB'"))


def write_together(
    session: Session,
    source: Select[Any],
    writes: Callable[[FromClause], Sequence[Any]],
    *,
    kinds: Sequence[str],
    example: str,
) -> Sequence[tuple[Any, ...]]:
    """Run what `writes` makes of the query's rows; return how many they are, by the values of the columns `kinds`.

    A row of the answer: those values, the number of rows, and the column `example` of the first of them.
    On PostgreSQL it is one statement: all see the tables as the query does, and only the answer leaves the server.
    """
    if session.get_bind().dialect.name != "sqlite":
        rows = source.cte("source")
        done = [write.cte(f"write_{number}") for number, write in enumerate(writes(rows))]
        by = [rows.c[name] for name in kinds]
        examples = func.array_agg(rows.c[example], type_=postgresql.ARRAY(rows.c[example].type))
        return session.execute(
            select(*by, func.count(), examples[1:EXAMPLES]).add_cte(*done).group_by(*by)
        ).all()
    types = {str(column.key): column.type for column in source.selected_columns}
    as_kept = [type_coerce(column, NullType()).label(column.key) for column in source.selected_columns]
    shown = [source.selected_columns[name] for name in (*kinds, example)]
    found: dict[tuple[Any, ...], list[Any]] = {}
    for *kind, each in session.execute(source.with_only_columns(*shown, maintain_column_froms=True)):
        found.setdefault(tuple(kind), []).append(each)
    kept = session.execute(source.with_only_columns(*as_kept, maintain_column_froms=True)).all()
    for start in range(0, len(kept), MANY):
        for write in writes(table(session, kept[start : start + MANY], types)):
            session.execute(write.execution_options(synchronize_session=False))
    return [(*kind, len(those), those[:EXAMPLES]) for kind, those in found.items()]


def table(
    session: Session, rows: Iterable[Sequence[Any]], columns: Mapping[str, TypeEngine[Any]]
) -> FromClause:
    """Return rows of JSON's own values as something to select from: one parameter, however many there are.

    columns: their types.
    """
    sent = [list(row) for row in rows]
    cells: list[ColumnElement[Any]]
    if session.get_bind().dialect.name == "sqlite":
        each = func.json_each(json.dumps(sent)).table_valued("value")
        found = [func.json_extract(each.c.value, f"$[{place}]") for place in range(len(columns))]
        cells = [type_coerce(cell, kind) for cell, kind in zip(found, columns.values(), strict=True)]
    else:
        each = func.jsonb_array_elements(literal(sent, postgresql.JSONB)).table_valued(
            column("value", postgresql.JSONB)
        )
        kinds = enumerate(columns.values())
        cells = [cast(each.c.value[place].astext, kind) for place, kind in kinds]
    return select(*(cell.label(name) for cell, name in zip(cells, columns, strict=True))).subquery()


def members(session: Session, ids: Sequence[UUID]) -> Select[UUID]:
    """Return these ids as a query: one parameter, however many there are."""
    if session.get_bind().dialect.name == "sqlite":
        return select(table(session, ((each.hex,) for each in ids), {"id": Uuid()}).c.id)
    return select(func.unnest(literal(ids, postgresql.ARRAY(Uuid))))


def hold_file_lock(database: Database) -> int:
    """Lock a SQLite file for this process's life; return the lock's descriptor. Raises AlreadyRunning."""
    path = Path(f"{database.url.database}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning from None
    return descriptor


def _link(connection: Connection) -> BoundedConnection:
    """Return the driver's own connection."""
    link: BoundedConnection = connection.connection.dbapi_connection  # type: ignore[assignment]
    return link


def _discard(connection: Connection) -> None:
    connection.invalidate()
    connection.close()


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE as exc:
        if _is_fault_of_ours(exc):
            raise
        raise DatabaseUnavailable from exc
    except DBAPIError as exc:
        if getattr(exc.orig, "sqlstate", None) not in SESSION_ENDED:
            raise
        raise DatabaseUnavailable from exc


def _is_fault_of_ours(exc: Exception) -> bool:
    """Say whether SQLite complains of a statement; it does so with the class that also means a locked file."""
    cause = getattr(exc, "orig", None)
    return isinstance(cause, sqlite3.OperationalError) and not SQLITE_BUSY.search(str(cause))


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=3,
        connect_args=postgres_link.ARGUMENTS,
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Dialect, _record: Any, arguments: Any, options: Any) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **options)

    @event.listens_for(engine, "checkout")
    def _check(connection: Any, _record: Any, _proxy: Any) -> None:
        try:
            connection.ping()
        except psycopg.Error as exc:
            raise InvalidatePoolError from exc  # the others are dead too; the pool connects anew

    return engine


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": 15})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.create_function("muster_hash", -1, _hash, deterministic=True)
        connection.create_function("muster_uuid", 1, lambda value: str(UUID(value)), deterministic=True)
        connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: one that began by reading cannot be upgraded while another writes.
        connection.exec_driver_sql(connection.get_execution_options().get("muster_begin", "BEGIN IMMEDIATE"))

    return engine
