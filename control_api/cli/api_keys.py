"""`muster api-keys`: what programs authenticate with, over the HTTP API."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from control_api.cli.options import LOCAL, AsJson, CaFile, Password, Token, Url, Username, connect
from control_api.errors import ApiRefused

app = typer.Typer(help="The keys that programs authenticate with.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    *,
    scope: Annotated[
        list[str],
        typer.Option(help="viewer, operator, admin, inventory, metrics, enrolment or audit; repeatable."),
    ],
    expires_at: Annotated[str | None, typer.Option(help="Moment such as 2027-01-31T00:00:00Z.")] = None,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Make a key and print it, this once."""
    with connect(url, token, username, password, ca_file) as client:
        made = client.create_api_key({"name": name, "scopes": scope, "expiresAt": expires_at})
    print(json.dumps(made, indent=2) if as_json else made["key"])


@app.command("list")
def list_keys(
    *,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """List the keys, also revoked ones, the newest first."""
    with connect(url, token, username, password, ca_file) as client:
        keys = client.api_keys()
    if as_json:
        print(json.dumps(keys, indent=2))
    else:
        print_table(keys)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the key.")],
    *,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Revoke a key, at once."""
    with connect(url, token, username, password, ca_file) as client:
        standing = [key for key in client.api_keys() if key["revokedAt"] is None]
        found = [key["id"] for key in standing if name in (key["name"], key["id"])]
        if not found:
            msg = f"There is no API key {name} that could be revoked."
            raise ApiRefused(msg)
        client.revoke_api_key(found[0])
    print(f"The API key {name} opens nothing any more.")


def print_table(keys: list[dict[str, Any]]) -> None:
    """Print a line a key."""
    from rich.console import Console
    from rich.table import Table

    table = Table("KEY", "SCOPES", "LAST USED", "EXPIRES", "REVOKED", "ID", box=None, pad_edge=False)
    for key in keys:
        moments = (key["lastUsedAt"] or "never", key["expiresAt"] or "never", key["revokedAt"] or "no")
        table.add_row(key["name"], ", ".join(key["scopes"]), *moments, key["id"])
    Console(soft_wrap=True).print(table)
