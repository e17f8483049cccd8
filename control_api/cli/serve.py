"""`muster serve`: the control API in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (env: MUSTER_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (env: PORT).", min=1, max=65535)] = None,
) -> None:
    """Serve the control API; with nothing configured, on SQLite with secrets of its own."""
    from control_api import logs, schema, settings, systemd
    from control_api.app import create_app
    from control_api.db import Database, hold_file_lock
    from control_api.serving import run

    logs.configure()
    chosen = settings.load()
    database = Database(chosen.database_url.get_secret_value())
    if database.is_sqlite:
        hold_file_lock(database)
        schema.upgrade(database)
    else:
        schema.require_current(database)
    database.close()
    app = create_app(chosen, alive=lambda: systemd.notify("WATCHDOG=1"), prepared=True)
    run(app, host or chosen.host, port or chosen.port, stopping=[app.stopping])
