"""The lab's network: a bridge, a way out through this machine's uplink, and cables that can be pulled."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from lab.commands import run, succeeds
from lab.errors import LabError
from lab.layout import Layout

LINKS = Path("/sys/class/net")
IFF_UP = 1


def up(layout: Layout) -> None:
    """Make what is missing of bridge and NAT."""
    if not exists(layout.bridge):
        _refuse_overlap(layout)
        run("ip", "link", "add", layout.bridge, "address", bridge_mac(layout), "type", "bridge")
        run("ip", "address", "add", f"{layout.gateway}/{layout.network.prefixlen}", "dev", layout.bridge)
    run("ip", "link", "set", layout.bridge, "up")
    run("nft", "--file", "-", stdin=nat_rules(layout))


def bridge_mac(layout: Layout) -> str:
    """A fixed address; the kernel's choice would change, and be missed for a while, with every cable plugged in."""
    return "02:4d:" + ":".join(f"{byte:02x}" for byte in layout.network[1].packed)


def nat_rules(layout: Layout) -> str:
    """The table that lets the lab out; replaced as a whole, so that it is there once however often this runs."""
    return f"""\
table ip {layout.nat_table}
delete table ip {layout.nat_table}
table ip {layout.nat_table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {layout.network} ip daddr != {layout.network} masquerade
    }}
}}
"""


def _refuse_overlap(layout: Layout) -> None:
    for link, network in networks(run("ip", "-json", "-4", "address")):
        if network.overlaps(layout.network):
            raise LabError(
                f"The lab '{layout.name}' wants the network {layout.network}, which {link} of this machine has: "
                "choose another name with MUSTER_LAB."
            )


def networks(addresses: str) -> list[tuple[str, ipaddress.IPv4Network]]:
    """In: what `ip -json -4 address` prints. Out: link and network of each address."""
    return [
        (link["ifname"], ipaddress.IPv4Network(f"{one['local']}/{one['prefixlen']}", strict=False))
        for link in json.loads(addresses)
        for one in link.get("addr_info", [])
    ]


def down(layout: Layout) -> list[str]:
    """Remove what is there; return what that was."""
    removed = []
    if succeeds("nft", "list", "table", "ip", layout.nat_table):
        run("nft", "delete", "table", "ip", layout.nat_table)
        removed.append(f"NAT table {layout.nat_table}")
    if remove_link(layout.bridge):
        removed.append(f"bridge {layout.bridge}")
    return removed


def exists(link: str) -> bool:
    return (LINKS / link).exists()


def remove_link(link: str) -> bool:
    """Remove a link; False when there was none. It may vanish by itself while we look, with its host."""
    if not exists(link):
        return False
    if not succeeds("ip", "link", "delete", link) and exists(link):
        raise LabError(f"The network link {link} cannot be removed: `ip link delete {link}` says why.")
    return True


def plug(layout: Layout, host: str) -> None:
    run("ip", "link", "set", layout.link(host), "up")


def unplug(layout: Layout, host: str) -> None:
    run("ip", "link", "set", layout.link(host), "down")


def is_plugged(layout: Layout, host: str) -> bool:
    flags = LINKS / layout.link(host) / "flags"
    return flags.exists() and bool(int(flags.read_text(encoding="ascii"), 16) & IFF_UP)
