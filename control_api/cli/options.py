"""The options of every command that speaks to the control API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from control_api.cli.client import Client

Url = Annotated[str, typer.Option(envvar="MUSTER_URL", help="URL of the control API.")]
Token = Annotated[str | None, typer.Option(envvar="MUSTER_TOKEN", help="Access token; else log in.")]
Username = Annotated[str, typer.Option(envvar="MUSTER_USERNAME")]
Password = Annotated[
    str | None, typer.Option(envvar="MUSTER_PASSWORD", help="Better in the environment than here.")
]
CaFile = Annotated[str | None, typer.Option(envvar="MUSTER_CA_FILE", help="CA of the API.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LOCAL = "http://127.0.0.1:3000"


def connect(url: str, token: str | None, username: str, password: str | None, ca_file: str | None) -> Client:
    """Return a client for these options."""
    from control_api.cli.client import Client

    return Client(url, ca_file=ca_file, token=token, username=username, password=password)
