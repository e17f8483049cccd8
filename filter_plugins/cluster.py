"""Pure filters for what the playbooks derive from the inventory."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def node_addresses(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The addresses that nodes reach each other by, without doubles, in order of the addresses.

    In: the variables of hosts. A host is reached by its `cluster_address` or, without one, by its
    `ansible_host`; where both are given and differ, both are listed, because it may send from either.
    """
    known = {host.get(name) for host in hosts for name in ("cluster_address", "ansible_host")}
    return sorted((str(address) for address in known if is_address(address)), key=ipaddress.ip_address)


def is_address(value: object) -> bool:
    """True for an IPv4 address in its usual notation."""
    try:
        ipaddress.IPv4Address(str(value))
    except ValueError:
        return False
    return True


def subject_alt_names(names: Iterable[str]) -> list[str]:
    """Entries of a certificate's subjectAltName: `IP:` for addresses, `DNS:` for names (RFC 5280)."""
    return [f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names]


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"node_addresses": node_addresses, "subject_alt_names": subject_alt_names}
