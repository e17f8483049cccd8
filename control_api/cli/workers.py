"""`muster workers`: the roll-call in the terminal, over the HTTP API."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from control_api.cli.options import LOCAL, AsJson, CaFile, Password, Token, Url, Username, connect
from control_api.errors import ApiRefused

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


Name = Annotated[str, typer.Argument(help="Name, hostname or id of the worker.")]


@app.command("list")
def list_workers(
    *,
    status: Annotated[list[str] | None, typer.Option(help="ACTIVE, INACTIVE, …; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value, or key; all of several.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of a name, a hostname or an address.")] = None,
    intent: Annotated[str | None, typer.Option(help="active or maintenance.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Such as amd64.")] = None,
    node_state: Annotated[str | None, typer.Option(help="Ready, NotReady, Missing or Unknown.")] = None,
    sort: Annotated[str, typer.Option(help="hostname, name, status, createdAt, cpuCores, …")] = "hostname",
    order: Annotated[str, typer.Option(help="asc or desc.")] = "asc",
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """List the workers and their status."""
    query = {
        "status": status,
        "label": label,
        "search": search,
        "intent": intent,
        "architecture": architecture,
        "nodeState": node_state,
        "sort": sort,
        "order": order,
    }
    with connect(url, token, username, password, ca_file) as client:
        workers = client.workers(**query)
    if as_json:
        print(json.dumps(workers, indent=2))
    else:
        print_table(workers)


@app.command()
def show(
    name: Name,
    *,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Show all that is known of a worker, and its last ten changes of status."""
    with connect(url, token, username, password, ca_file) as client:
        worker = client.worker(name)
        changes = client.transitions(worker["id"], 10)
    if as_json:
        print(json.dumps({**worker, "transitions": changes}, indent=2))
    else:
        print_facts(worker, changes)


@app.command("set")
def change(
    name: Name,
    *,
    new_name: Annotated[str | None, typer.Option("--name", help="Its name in the inventory.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value to set; key- to take away.")] = None,
    notes: Annotated[str | None, typer.Option(help="Free text; '' empties it, as with the others.")] = None,
    ansible_host: Annotated[str | None, typer.Option(help="Where SSH goes.")] = None,
    ansible_port: Annotated[int | None, typer.Option(help="Port of SSH; 0 empties it.")] = None,
    ansible_user: Annotated[str | None, typer.Option(help="User of SSH.")] = None,
    max_pods: Annotated[int | None, typer.Option(help="How many pods it may run; -1 empties it.")] = None,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Change what operators decide of a worker; what is not given stays."""
    texts = {"name": new_name, "notes": notes, "ansibleHost": ansible_host, "ansibleUser": ansible_user}
    wanted: dict[str, Any] = {key: value or None for key, value in texts.items() if value is not None}
    if ansible_port is not None:
        wanted["ansiblePort"] = ansible_port or None
    if max_pods is not None:
        wanted["maxPods"] = None if max_pods == -1 else max_pods
    if label:
        wanted["labels"] = labels(label)
    with connect(url, token, username, password, ca_file) as client:
        worker = client.change(client.worker(name)["id"], wanted)
    print(json.dumps(worker, indent=2) if as_json else f"{worker['name']} is changed.")


@app.command()
def maintenance(
    name: Name,
    reason: Annotated[str, typer.Argument(help="Why; everybody sees it.")],
    *,
    until: Annotated[str | None, typer.Option(help="When it ends by itself: 2030-01-31T18:00:00Z.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="Wish that its pods move away.")] = False,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Put a worker into maintenance."""
    wanted = {"reason": reason, "until": until, "drain": drain}
    with connect(url, token, username, password, ca_file) as client:
        worker = client.maintain(client.worker(name)["id"], wanted)
    print(json.dumps(worker, indent=2) if as_json else f"{worker['name']} is in maintenance.")


@app.command()
def resume(
    name: Name,
    *,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """End a worker's maintenance."""
    with connect(url, token, username, password, ca_file) as client:
        worker = client.resume(client.worker(name)["id"])
    print(json.dumps(worker, indent=2) if as_json else f"{worker['name']} is {worker['status']}.")


@app.command()
def remove(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = LOCAL,
    token: Token = None,
    username: Username = "admin",
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Take a worker off the roll-call and revoke its credential."""
    with connect(url, token, username, password, ca_file) as client:
        worker = client.worker(name)
        if not yes:
            typer.confirm(f"Remove {worker['name']} ({worker['ipAddress']}, {worker['status']})?", abort=True)
        removed = client.remove(worker["id"])
    print(json.dumps(removed, indent=2) if as_json else f"{worker['name']} is removed.")


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


def labels(given: list[str]) -> dict[str, str | None]:
    """Return the labels that `key=value` and `key-` stand for, the latter with None. Raises ApiRefused."""
    found: dict[str, str | None] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals and not key.endswith("-"):
            msg = f"--label {text} must be like zone=a, or zone- to take it away."
            raise ApiRefused(msg)
        found[key if equals else key.removesuffix("-")] = value if equals else None
    return found


def print_facts(worker: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    """Print a line a fact that is known, then a line a change of status."""
    for name, value in worker.items():
        if value not in (None, [], {}):
            print(f"{name:<20} {value if isinstance(value, str) else json.dumps(value)}")
    print()
    for row in changes:
        print(f"{row['at']}  {row['from'] or '-'} → {row['to']}  {row['actor']}: {row['reason']}")


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
