"""`muster enrolment-tokens`: what lets machines in, over the HTTP API."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from control_api.cli.options import LOCAL, AsJson, CaFile, Password, Token, Url, Username, connect
from control_api.errors import ApiRefused

app = typer.Typer(help="The tokens that let machines register.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the token is for, such as rack-7.")],
    *,
    description: Annotated[str | None, typer.Option()] = None,
    ttl_seconds: Annotated[int, typer.Option(help="How long it lets machines in.")] = 24 * 60 * 60,
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Until it is revoked.")] = False,
    max_uses: Annotated[int | None, typer.Option(help="How many machines; any number without it.")] = None,
    cidr: Annotated[list[str] | None, typer.Option(help="Network that machines may come from.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value for every new worker.")] = None,
    approval_required: Annotated[
        bool, typer.Option("--approval-required", help="An operator must approve each worker.")
    ] = False,
    may_replace: Annotated[
        bool, typer.Option("--may-replace", help="May take the hostname of an INACTIVE worker.")
    ] = False,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Make an enrolment token and print its secret, which is shown this once."""
    wanted = {
        "name": name,
        "description": description,
        "ttlSeconds": None if never_expires else ttl_seconds,
        "maxUses": max_uses,
        "cidrs": cidr or [],
        "labels": labels(label or []),
        "approvalRequired": approval_required,
        "mayReplace": may_replace,
    }
    with connect(url, token, username, password, ca_file) as client:
        made = client.create_enrolment_token(wanted)
    print(json.dumps(made, indent=2) if as_json else made["token"])


@app.command("list")
def list_tokens(
    *,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """List the enrolment tokens, the newest first, with their uses and their status."""
    with connect(url, token, username, password, ca_file) as client:
        found = client.enrolment_tokens()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_table(found)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the token.")],
    *,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Revoke an enrolment token; the workers that it has let in stay."""
    with connect(url, token, username, password, ca_file) as client:
        standing = [row for row in client.enrolment_tokens() if row["status"] != "REVOKED"]
        found = [row["id"] for row in standing if name in (row["name"], row["id"])]
        if not found:
            msg = f"There is no enrolment token {name} that could be revoked."
            raise ApiRefused(msg)
        client.revoke_enrolment_token(found[0])
    print(f"The enrolment token {name} lets in nobody any more.")


def labels(given: list[str]) -> dict[str, str]:
    """Return the labels that `key=value` texts stand for. Raises ApiRefused."""
    for text in given:
        if "=" not in text:
            msg = f"--label {text} must be like zone=a."
            raise ApiRefused(msg)
    return dict(text.split("=", 1) for text in given)


def print_table(found: list[dict[str, Any]]) -> None:
    """Print a line a token."""
    from rich.console import Console
    from rich.table import Table

    columns = ("TOKEN", "STATUS", "USES", "LAST USED", "EXPIRES", "CONDITIONS", "ID")
    table = Table(*columns, box=None, pad_edge=False)
    for row in found:
        table.add_row(*_cells(row))
    Console(soft_wrap=True).print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    conditions = [
        *(["approval"] if row["approvalRequired"] else []),
        *(["may replace"] if row["mayReplace"] else []),
        *row["cidrs"],
        *(f"{key}={value}" for key, value in row["labels"].items()),
    ]
    uses = str(row["uses"]) if row["maxUses"] is None else f"{row['uses']}/{row['maxUses']}"
    last, expires = row["lastUsedAt"] or "never", row["expiresAt"] or "never"
    return [row["name"], row["status"], uses, last, expires, ", ".join(conditions) or "-", row["id"]]
