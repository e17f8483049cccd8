"""Bring the schema of the database to this version; safe to run twice, and by several processes at once."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from control_api import migrations
from control_api.cluster import models as cluster_models
from control_api.db import Base, Database
from control_api.enrolment import models as enrolment_models
from control_api.errors import BadSettings, SchemaInUse
from control_api.events import models as event_models
from control_api.identity import models as identity_models
from control_api.workers import models as worker_models

TABLES = (
    cluster_models.JoinToken,
    enrolment_models.EnrolmentToken,
    event_models.AuditEntry,
    identity_models.User,
    worker_models.Worker,
)  # importing the modules is what fills the metadata
metadata = Base.metadata

MISSING_GRANT = text("""
SELECT format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)
WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
""")
ATTEMPTS = 20


def upgrade(database: Database, *, pause: float = 1.0) -> tuple[str | None, str | None]:
    """Apply what is missing, all or nothing, and return the revisions before and after.

    A table that is in use is tried for again, twenty times with `pause` seconds in between, in which the service
    that uses it works on. Raises SchemaInUse, DatabaseUnavailable.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(SchemaInUse):
            return _upgrade(database)
        time.sleep(pause)
    return _upgrade(database)


def _upgrade(database: Database) -> tuple[str | None, str | None]:
    with database.migrating() as session:
        connection = session.connection()
        before, head = revision(connection), _head(connection)
        if before != head:
            if not database.is_sqlite:
                _lock_tables(connection)
            command.upgrade(config(connection), "head")
        return before, head


def _lock_tables(connection: Connection) -> None:
    """Take every table at the start, in one order, so that no later statement waits with some of them in hand."""
    there = set(inspect(connection).get_table_names())
    names = [table.name for table in metadata.sorted_tables if table.name in there]
    if names:
        connection.execute(text(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE"))


def _head(connection: Connection) -> str | None:
    return ScriptDirectory.from_config(config(connection)).get_current_head()


def revision(connection: Connection) -> str | None:
    """Return the revision that the database is at."""
    return MigrationContext.configure(connection).get_current_revision()


def config(connection: Connection) -> Config:
    """Return Alembic's configuration: no file, it works on this connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(migrations.__file__).parent))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def require_current(database: Database) -> str:
    """Return the revision of a database that is at this version, and in which we may do all that we do.

    Raises BadSettings, DatabaseUnavailable.
    """
    with database.reading() as session:
        connection = session.connection()
        found, wanted = revision(connection), _head(connection)
        grant = None if database.is_sqlite else connection.scalar(MISSING_GRANT)
    if found != wanted:
        msg = f"The schema is at {found or 'nothing'}, this version needs {wanted}; run `muster db upgrade`."
        raise BadSettings(msg)
    if grant:
        msg = f"Heartbeats are stored by a temporary function, and the database admits none; run `{grant}`."
        raise BadSettings(msg)
    return str(wanted)
