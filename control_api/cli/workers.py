"""`muster workers`: the roll-call in the terminal, over the HTTP API."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from control_api.cli.options import LOCAL, AsJson, CaFile, Password, Token, Url, Username, connect

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
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """List the workers and their status."""
    with connect(url, token, username, password, ca_file) as client:
        workers = client.workers()
    if as_json:
        print(json.dumps(workers, indent=2))
    else:
        print_table(workers)


@app.command()
def approve(
    worker_id: Annotated[str, typer.Argument(help="Its id, as `workers list --json` shows it.")],
    *,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Approve a worker that waits for it, so that it may join the cluster."""
    with connect(url, token, username, password, ca_file) as client:
        print(f"{client.approve(worker_id)['hostname']} is approved; it joins when it registers again.")


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
