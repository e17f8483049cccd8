"""The command `muster`: finds the nouns, runs them, and is the one place that catches errors."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import typer

from control_api.cli import api_keys, db, enrolment_tokens, serve, users, workers
from control_api.errors import MusterError

EXTRAS = {
    "api": ("fastapi", "sqlalchemy", "uvicorn", "pydantic", "pydantic_settings", "structlog", "alembic")
}


def build() -> typer.Typer:
    """Return the command with every noun that is installed; the lab comes with the checkout."""
    app = typer.Typer(
        help="Muster turns bare Linux machines into a small PaaS cluster.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.command()(serve.serve)
    app.add_typer(db.app, name="db")
    app.add_typer(workers.app, name="workers")
    app.add_typer(users.app, name="users")
    app.add_typer(api_keys.app, name="api-keys")
    app.add_typer(enrolment_tokens.app, name="enrolment-tokens")
    if importlib.util.find_spec("lab") and importlib.util.find_spec("lab.cli"):
        app.add_typer(importlib.import_module("lab.cli").app, name="lab")
    return app


def main() -> None:
    """Run the command; an error is one sentence and exit status 1."""
    try:
        build()()
    except MusterError as exc:
        sys.exit(f"{exc}")
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] not in EXTRAS["api"]:
            raise
        sys.exit("This command needs the API's libraries; install muster-paas[api].")


if __name__ == "__main__":
    main()
