"""Pure filters of the checks before a run: of what was seen of the hosts, a sentence for each thing that is wrong."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

Facts = Mapping[str, Any]
WORD = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
# A node's name is a DNS subdomain (RFC 1123), and the value of its label kubernetes.io/hostname: 63 characters.
NAME = re.compile(rf"(?=.{{1,63}}\Z){WORD}(\.{WORD})*")
WRAPPING = re.compile(
    r"^(Task failed: |Finalization of .* failed: |Error while resolving value for '\w+': )+"
)
FAILED = "not everything could be looked at there: see the task above that failed."
HEAD = "Nothing was changed. Correct this, then run it again; --limit leaves a host out:"


def host_problems(facts: Facts, seen: Facts, wanted: Facts) -> list[str]:
    """What is wrong with a host by itself.

    facts: Ansible's. seen: what the module preflight_probe returned. wanted: the inputs of the role preflight, by
    their names without the prefix, with `memory_mb` and `free_disk_mb` as numbers.
    """
    return [*_machine(facts, wanted), *_network(facts, wanted), *_inside(seen, wanted)]


def contact_problems(gathered: Facts) -> list[str]:
    """What is wrong when a host's facts could not be gathered. In: the result of the task."""
    said = _plain(" ".join(str(gathered.get("msg", "")).split())).rstrip(".")
    if gathered.get("unreachable"):
        return [f"it cannot be reached: {said}."]
    if gathered.get("failed"):
        return [f"nothing can be asked there: {said}."]
    return []


def _machine(facts: Facts, wanted: Facts) -> Iterator[str]:
    system = f"{facts.get('distribution')} {facts.get('distribution_version')}"
    if not any(system == name or system.startswith(f"{name}.") for name in wanted["systems"]):
        yield f"it runs {system}, and {_either(wanted['systems'])} is needed."
    if facts.get("architecture") not in wanted["architectures"]:
        yield f"its architecture is {facts.get('architecture')}, and {_either(wanted['architectures'])} is needed."
    if facts.get("memtotal_mb", 0) < wanted["memory_mb"]:
        yield f"it has {facts.get('memtotal_mb', 0)} MB of memory, and {wanted['memory_mb']} MB are needed."
    if not NAME.fullmatch(str(facts.get("nodename"))):
        yield (
            f"its host name is '{facts.get('nodename')}', which must be of lower-case letters, digits, dashes "
            "and dots, 63 at most: `hostnamectl hostname` changes it."
        )
    if not facts.get("machine_id"):
        yield "it has no /etc/machine-id: `systemd-machine-id-setup` makes one."


def _network(facts: Facts, wanted: Facts) -> Iterator[str]:
    own, address = facts.get("all_ipv4_addresses", []), wanted["address"]
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        yield (
            "cluster_address or ansible_host must be the IPv4 address that the other nodes reach it by; "
            f"'{address}' is none."
        )
    else:
        if address not in own:
            yield (
                f"none of its interfaces has the address {address}: set cluster_address to the one that the other "
                f"nodes reach it by ({', '.join(own) or 'it has none'})."
            )
        for network in wanted["networks"]:
            if ipaddress.ip_address(address) in ipaddress.ip_network(network):
                yield f"its address {address} lies in {network}, which is for the cluster's pods or services."
    if not facts.get("default_ipv4", {}).get("interface"):
        yield "it has no default route, without which K3s does not start."


def _inside(seen: Facts, wanted: Facts) -> Iterator[str]:
    if "refused" in seen:
        yield f"the rights of root cannot be had there ({seen['refused']}): see become in Ansible's documentation."
        return
    if abs(off := seen["clock_off"]) > wanted["clock_seconds"]:
        way = "ahead of" if off > 0 else "behind"
        yield f"its clock is {_span(off)} {way} this controller's: synchronise the time on both (`timedatectl`)."
    if seen["free_mb"] < wanted["free_disk_mb"]:
        yield (
            f"{seen['free_mb']} MB are free for {wanted['disk_path']}, and {wanted['free_disk_mb']} MB are needed."
        )
    if not seen["limits_memory"]:
        yield (
            "its kernel offers no memory cgroup, without which no pod runs: add cgroup_enable=memory to its command "
            "line and reboot."
        )
    if seen["ufw"]:
        yield "ufw is on, and a packet would have to pass both firewalls: switch it off with `ufw disable`."
    if wanted["postgresql"] and len(seen["postgresql"]) > 1:
        yield (
            f"{len(seen['postgresql'])} PostgreSQL servers are set up there ({', '.join(seen['postgresql'])}), and one "
            "is used: `pg_lsclusters` shows them, `pg_dropcluster` removes one."
        )
    units = {int(port): entry["unit"] for entry in wanted["ports"] for port in entry["ports"]}
    for held in seen["listeners"]:
        if not fnmatch(held["unit"], units[held["port"]]):
            yield f"port {held['port']} is needed and taken by {_holder(held)}: stop it there, or give it another port."
    for door in seen["silent"]:
        yield f"it does not reach the master at {door['name']} ({door['why']})."


def _holder(held: Facts) -> str:
    program, unit = held["program"] or "a program that cannot be seen", held["unit"]
    return f"{program} ({unit})" if unit else str(program)


def shared_problems(hosts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """What hosts share that each must have for itself. In: `hostname`, `machine_id`, `address` of each."""
    kinds = {
        "hostname": "the host name '{}' is also that of {}: give each machine a name of its own.",
        "machine_id": (
            "its machine-id is also that of {1}, as a clone's is: remove /etc/machine-id there, run "
            "`systemd-machine-id-setup`, and reboot."
        ),
        "address": "the address {} is also that of {}: correct the inventory.",
    }
    found: dict[str, list[str]] = {host: [] for host in hosts}
    for kind, sentence in kinds.items():
        holders: dict[str, list[str]] = defaultdict(list)
        for host, facts in hosts.items():
            holders[str(facts.get(kind) or "").lower()].append(host)
        for value, names in holders.items():
            for host in names if value and len(names) > 1 else ():
                others = ", ".join(name for name in names if name != host)
                found[host].append(sentence.format(value, others))
    return found


def report(hosts: Mapping[str, Facts], looked_at: Iterable[str]) -> str:
    """One message about all problems, '' when there is none.

    hosts: the variables of all hosts of the inventory. looked_at: those that were asked; others have an address only.
    """
    shared = shared_problems(
        {name: host.get("preflight_seen") or _inventoried(host) for name, host in hosts.items()}
    )
    problems = {name: [*hosts[name].get("preflight_problems", [FAILED]), *shared[name]] for name in looked_at}
    parts = [
        "\n".join([f"{host}:", *(f"  - {sentence}" for sentence in dict.fromkeys(map(_plain, sentences)))])
        for host, sentences in problems.items()
        if sentences
    ]
    return "\n".join([HEAD, *parts]) if parts else ""


def _plain(sentence: str) -> str:
    return WRAPPING.sub("", sentence)


def _inventoried(host: Facts) -> Facts:
    return {"address": host.get("cluster_address") or host.get("ansible_host")}


def _either(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else str(last)


def _span(seconds: float) -> str:
    whole = round(abs(seconds))
    return f"{whole} s" if whole < 600 else f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "preflight_contact_problems": contact_problems,
            "preflight_host_problems": host_problems,
            "preflight_report": report,
        }
