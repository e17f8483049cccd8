"""The lab's network, as text."""

from __future__ import annotations

import ipaddress

from lab import network
from lab.layout import Layout


def test_nat_is_a_table_of_its_own_that_replaces_itself() -> None:
    assert (
        network.nat_rules(Layout("dev"))
        == """\
table ip muster_dev
delete table ip muster_dev
table ip muster_dev {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 10.213.68.0/24 ip daddr != 10.213.68.0/24 masquerade
    }
}
"""
    )


def test_the_bridges_address_is_local_and_its_own() -> None:
    addresses = {name: network.bridge_mac(Layout(name)) for name in ("lab", "dev")}
    assert addresses == {"lab": "02:4d:0a:d5:97:01", "dev": "02:4d:0a:d5:44:01"}


def test_networks_of_the_machine_are_read_from_ip() -> None:
    printed = """[
      {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
      {"ifname": "eth0", "addr_info": [{"family": "inet", "local": "192.0.2.2", "prefixlen": 24}]},
      {}, {"ifname": "down0"}
    ]"""
    assert network.networks(printed) == [
        ("lo", ipaddress.IPv4Network("127.0.0.0/8")),
        ("eth0", ipaddress.IPv4Network("192.0.2.0/24")),
    ]
