"""`muster workers`: the roll-call in the terminal, over the HTTP API."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

app = typer.Typer(help="The workers of the fleet.", no_args_is_help=True)
COLUMNS = (
    "hostname",
    "ipAddress",
    "status",
    "nodeState",
    "heartbeatAgeSeconds",
    "cpuCores",
    "totalMemoryBytes",
)


@app.command("list")
def list_workers(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    url: Annotated[str, typer.Option(envvar="MUSTER_URL")] = "http://127.0.0.1:3000",
    token: Annotated[
        str | None, typer.Option(envvar="MUSTER_TOKEN", help="Access token; else log in.")
    ] = None,
    username: Annotated[str, typer.Option(envvar="MUSTER_USERNAME")] = "admin",
    password: Annotated[
        str | None, typer.Option(envvar="MUSTER_PASSWORD", help="Better in the environment than here.")
    ] = None,
    ca_file: Annotated[str | None, typer.Option(envvar="MUSTER_CA_FILE", help="CA of the API.")] = None,
) -> None:
    """List the workers and their status."""
    from control_api.cli.client import Client

    with Client(url, ca_file=ca_file, token=token, username=username, password=password) as client:
        workers = client.workers()
    if as_json:
        print(json.dumps(workers, indent=2))
    else:
        print_table(workers)


def print_table(workers: list[dict[str, Any]]) -> None:
    """Print a line a worker."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        *("WORKER", "ADDRESS", "STATUS", "NODE", "HEARD", "CORES", "MEMORY"), box=None, pad_edge=False
    )
    for worker in workers:
        table.add_row(*_cells(worker))
    Console(soft_wrap=True).print(table)


def _cells(worker: dict[str, Any]) -> list[str]:
    hostname, address, status, node, age, cores, memory = (worker[column] for column in COLUMNS)
    return [
        hostname,
        address,
        status,
        node or "-",
        "never" if age is None else f"{age:.0f} s ago",
        str(cores),
        "-" if memory is None else f"{memory / 2**30:.1f} GiB",
    ]
