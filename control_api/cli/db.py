"""`muster db`: the schema of the database."""

from __future__ import annotations

import typer

app = typer.Typer(help="The schema of the database.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the schema to this version; safe to run twice."""
    from control_api import schema, settings
    from control_api.db import Database

    database = Database(settings.load_database().database_url.get_secret_value())
    before, after = schema.upgrade(database)
    database.close()
    print(
        f"The schema is at {after}."
        if before == after
        else f"The schema went from {before or 'nothing'} to {after}."
    )


@app.command()
def check() -> None:
    """Say whether the database answers and its schema is at this version; exit status 1 when not."""
    from control_api import schema, settings
    from control_api.db import Database

    database = Database(settings.load_database().database_url.get_secret_value())
    try:
        print(f"The schema is at {schema.require_current(database)}, as this version needs it.")
    finally:
        database.close()
