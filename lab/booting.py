"""From a bare machine to hosts that answer on SSH, and back to a bare machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence

from lab import image, inventory, k3s, machine, network, ssh
from lab.host import Host
from lab.layout import Layout
from lab.phases import Phases

SECONDS_TO_HALT = 20


def bring_up(layout: Layout, names: Sequence[str], binary: k3s.Binary, phases: Phases) -> None:
    """Make what is missing of packages, image, network and hosts, and switch the hosts on."""
    if missing := machine.missing_packages():
        with phases.phase("packages", f"installing {', '.join(missing)}"):
            machine.install(missing)
    base = image.path()
    if not base.exists():
        with phases.phase("image", "making the base image of the hosts (once; about a minute)"):
            image.build(base)
    with phases.phase("boot", f"switching on {', '.join(names)}"):
        machine.keep_kernel_settings()
        ssh.generate(layout.key, f"muster lab {layout.name}")
        network.up(layout)
        hosts = [Host(layout, name) for name in names]
        for host in hosts:
            host.create(base)
            host.boot()
        inventory.write(layout, binary)
    with phases.phase("ssh", "waiting until they have booted"):
        for host in hosts:
            host.wait_until_ready()


def take_down(layout: Layout, say: Callable[[str], None]) -> None:
    """Remove everything of the lab but the base image; works on a lab that came up half."""
    hosts = [Host(layout, name) for name in layout.traces()]
    ssh.close_connections(layout)
    halt(hosts)
    for host in hosts:
        host.kill()
        host.remove()
        say(f"removed host {host.name}")
    for what in network.down(layout):
        say(f"removed {what}")
    if layout.state.exists():
        shutil.rmtree(layout.state)
        say(f"removed {layout.state}")
    for setting in machine.restore_kernel_settings():
        say(f"restored {setting}")


def halt(hosts: Sequence[Host]) -> None:
    """Shut the hosts down, all at once; those that take too long are left to be killed."""
    powered = [host for host in hosts if host.has_power()]
    for host in powered:
        host.halt()
    deadline = time.monotonic() + SECONDS_TO_HALT
    while any(host.has_power() for host in powered) and time.monotonic() < deadline:
        time.sleep(0.2)
