"""`muster users`: the people who may log in, over the HTTP API."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from control_api.cli.options import LOCAL, AsJson, CaFile, Password, Token, Url, Username, connect
from control_api.errors import ApiRefused

app = typer.Typer(help="The people who may log in.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The user's name.")]
Role = Annotated[str, typer.Option(help="viewer, operator or admin.")]


@app.command("list")
def list_users(
    *,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """List the users."""
    with connect(url, token, username, password, ca_file) as client:
        users = client.users()
    if as_json:
        print(json.dumps(users, indent=2))
    else:
        print_table(users)


@app.command()
def create(
    name: Name,
    *,
    role: Role = "viewer",
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Add a user; the new password is asked for, or read from the standard input."""
    wanted = {"username": name, "password": new_password(), "role": role}
    with connect(url, token, username, password, ca_file) as client:
        client.create_user(wanted)
    print(f"{name} may log in as {role}.")


@app.command("set")
def change(
    name: Name,
    *,
    role: Annotated[str | None, typer.Option(help="viewer, operator or admin.")] = None,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="May not, or may, log in.")
    ] = None,
    reset_password: Annotated[bool, typer.Option("--reset-password", help="Ask for a new password.")] = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Change a user, who has to log in again."""
    asked = {"role": role, "disabled": disable, "password": new_password() if reset_password else None}
    wanted = {field: value for field, value in asked.items() if value is not None}
    with connect(url, token, username, password, ca_file) as client:
        client.change_user(_id(client.users(), name), wanted)
    print(f"{name} is changed.")


@app.command()
def remove(
    name: Name,
    *,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Remove a user."""
    with connect(url, token, username, password, ca_file) as client:
        client.remove_user(_id(client.users(), name))
    print(f"{name} is removed.")


@app.command("password")
def own_password(
    *,
    url: Url = LOCAL,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Change one's own password; every login of oneself ends."""
    if not password:
        msg = "Set MUSTER_PASSWORD to the password that you have now."
        raise ApiRefused(msg)
    with connect(url, None, username, password, ca_file) as client:
        client.change_password(password, new_password())
    print("Your password is changed.")


def new_password() -> str:
    """Ask for a new password, twice; without a terminal it is a line of the standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def print_table(users: list[dict[str, Any]]) -> None:
    """Print a line a user."""
    from rich.console import Console
    from rich.table import Table

    table = Table("USER", "ROLE", "STATE", "SINCE", box=None, pad_edge=False)
    for user in users:
        state = "disabled" if user["disabled"] else "enabled"
        table.add_row(user["username"], user["role"], state, user["createdAt"])
    Console(soft_wrap=True).print(table)


def _id(users: list[dict[str, Any]], name: str) -> str:
    for user in users:
        if user["username"] == name:
            return str(user["id"])
    msg = f"There is no user {name}."
    raise ApiRefused(msg)
