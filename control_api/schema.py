"""Bring the schema of the database to this version; safe to run twice, and by several processes at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from control_api import migrations
from control_api.cluster import models as cluster_models
from control_api.db import MIGRATION_LOCK, Base, Database
from control_api.enrolment import models as enrolment_models
from control_api.errors import BadSettings
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


def upgrade(database: Database) -> tuple[str | None, str | None]:
    """Apply what is missing and return the revisions before and after. Raises DatabaseUnavailable."""
    with database.transaction() as session:
        connection = session.connection()
        if not database.is_sqlite:  # there, BEGIN IMMEDIATE already lets one process in at a time
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        before = revision(connection)
        command.upgrade(config(connection), "head")
        return before, revision(connection)


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


def require_current(database: Database) -> None:
    """Return when the database is at this version. Raises BadSettings, DatabaseUnavailable."""
    with database.reading() as session:
        connection = session.connection()
        found, wanted = (
            revision(connection),
            ScriptDirectory.from_config(config(connection)).get_current_head(),
        )
    if found != wanted:
        msg = f"The schema is at {found or 'nothing'}, this version needs {wanted}; run `muster db upgrade`."
        raise BadSettings(msg)
