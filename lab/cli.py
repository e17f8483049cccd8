"""`muster lab`: boot a lab, look at it, break it, take it down."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lab import booting, fleet, inventory, k3s, machine, network, processes, roll_call, site, ssh
from lab.errors import LabError
from lab.host import Host
from lab.layout import MASTER, MOST_WORKERS, Layout, host_names, is_worker, number, of_environment
from lab.phases import Phases

SECONDS_TO_BE_ACTIVE = 120
CERTIFICATE_FILE = "/etc/muster/tls/ca.crt"
STAND_IN_NOTICE = (
    "K3s here is a stand-in: it plays nodes, tokens and readiness, and runs no containers. "
    "With a real one: K3S_BINARY=/path/to/k3s make up"
)

console = Console()


class Commands(typer.core.TyperGroup):
    """The one place that catches errors: whoever mounts these commands need not know of them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as exc:
            print(exc, file=sys.stderr)
            raise typer.Exit(1) from exc


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Real Debian hosts on this machine, to try Muster and to break it. MUSTER_LAB names the lab.",
)
HostName = Annotated[str, typer.Argument(metavar="HOST", help="master, worker1, worker2 …, server1 …")]


@app.command()
def up(
    hosts: Annotated[
        list[str] | None, typer.Argument(metavar="[HOST]…", help="Only switch these hosts on.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=MOST_WORKERS, help="How many workers.")] = 2,
    with_site: Annotated[
        bool, typer.Option("--site/--no-site", help="Run playbooks/site.yml on the hosts.")
    ] = True,
) -> None:
    """Boot the lab, build the cluster on it and show its workers. Safe to repeat."""
    if reason := machine.why_not():
        raise LabError(f"No lab can run here: {reason}.")
    os.umask(0o022)  # what is made here are the files of hosts
    layout = of_environment()
    names = sorted(set(hosts or (*host_names(workers), *layout.traces())), key=number)
    phases = Phases(console)
    phases.count_what_went_before(time.time())
    with machine.one_at_a_time(layout.state):
        binary = k3s.choose(layout.stand_in, inventory.earlier_binary(layout))
        booting.bring_up(layout, names, binary, phases)
        if with_site and not hosts:
            _build(layout, binary, phases)
    console.print(phases.table())


def _build(layout: Layout, binary: k3s.Binary, phases: Phases) -> None:
    with phases.phase("site.yml", f"building the cluster with K3s {binary.version}"):
        site.build(layout)
    with phases.phase("workers", "waiting until every worker is ACTIVE"):
        expected = list(filter(is_worker, layout.hosts()))
        certificate = ssh.read(layout, MASTER, CERTIFICATE_FILE)
        fleet.write(layout, certificate)
        api = roll_call.connect(layout, certificate)
        rows = roll_call.wait_until_active(api, expected, SECONDS_TO_BE_ACTIVE)
    console.print(roll_call.table(rows))
    if binary.is_stand_in:
        console.print(STAND_IN_NOTICE, style="yellow", soft_wrap=True)
    _say(f"\nfleet page   {api.url}/\ncontrol API  {api.url}/api")
    _say(f"login        {roll_call.ADMIN} / {api.password}")
    _say(f"inventory    {fleet.path(layout)}\n")


@app.command()
def down() -> None:
    """Take the lab down and leave nothing of it; the base image stays in its cache."""
    layout = _layout()
    if not layout.state.exists():
        booting.take_down(layout, _say)
        _say(f"The lab '{layout.name}' is not up.")
        return
    with machine.one_at_a_time(layout.state):
        booting.take_down(layout, _say)


@app.command()
def status() -> None:
    """Show every host: running, cut, paused or stopped; its address, its PID 1 and its uptime."""
    layout = _layout()
    table = Table("host", "state", "address", "init", "uptime")
    for name in layout.hosts():
        host = Host(layout, name)
        init = host.init()
        details = [str(init.pid), _duration(processes.age(init))] if init else ["", ""]
        table.add_row(name, host.state(), layout.address(name), *details)
    console.print(
        table if table.row_count else f"The lab '{layout.name}' is not up: `muster lab up` boots it."
    )


@app.command("ssh", context_settings={"ignore_unknown_options": True})
def log_in(
    host: HostName,
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]…", help="Run this there.")] = None,
) -> None:
    """Log in to a host as root, or run a command there."""
    arguments = [*ssh.command(_made(host).layout, host), *(command or [])]
    os.execvp(arguments[0], arguments)  # noqa: S606 - ssh takes over the terminal


@app.command()
def cut(host: HostName) -> None:
    """Unplug a host's network cable."""
    network.unplug(_powered(host).layout, host)
    _say(f"{host} is unplugged; `muster lab heal {host}` plugs it in again")


@app.command()
def heal(host: HostName) -> None:
    """Plug a host's network cable in again."""
    network.plug(_powered(host).layout, host)
    _say(f"{host} is plugged in")


@app.command()
def kill(host: HostName) -> None:
    """Cut a host's power. Its disk stays as it is at this moment."""
    target = _made(host)
    with machine.one_at_a_time(target.layout.state):
        target.kill()
    _say(f"{host} has no power; `muster lab up {host}` switches it on again")


@app.command()
def wipe(host: HostName) -> None:
    """Cut a host's power and take its disk: it comes back under its name as a machine that was reinstalled."""
    target = _made(host)
    with machine.one_at_a_time(target.layout.state):
        ssh.close_connections(target.layout)
        target.kill()
        target.remove()
    _say(f"{host} has no disk; `muster lab up {host}` gives it a new one")


@app.command()
def pause(
    host: HostName, resume: Annotated[bool, typer.Option("--resume", help="Let a frozen host go on.")] = False
) -> None:
    """Freeze a host: it keeps its state and says nothing."""
    target = _powered(host)
    if resume:
        target.resume()
        _say(f"{host} goes on")
    else:
        target.pause()
        _say(f"{host} is frozen; `muster lab pause --resume {host}` lets it go on")


@app.command(hidden=True)
def can_run() -> None:
    """End with 0 if a lab can run here; otherwise print why not."""
    if reason := machine.why_not():
        _say(reason)
        raise typer.Exit(1)


def _layout() -> Layout:
    if os.geteuid() != 0:
        raise LabError("A lab belongs to root: run this as root.")
    return of_environment()


def _made(name: str) -> Host:
    host = Host(_layout(), name)
    if not host.exists:
        raise LabError(
            f"The lab '{host.layout.name}' has no host '{name}': `muster lab status` lists its hosts."
        )
    return host


def _powered(name: str) -> Host:
    host = _made(name)
    if not host.has_power():
        raise LabError(f"{name} has no power: `muster lab up {name}` switches it on.")
    return host


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
