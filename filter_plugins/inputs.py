"""Filters over the variables of an inventory: what is read of them, what contradicts what, what is misspelt."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from ansible.errors import AnsibleError
from jinja2 import UndefinedError, pass_context
from jinja2.runtime import Context

SECRET = re.compile(r"[A-Za-z0-9]{32,}")
WORD = re.compile(r"\b(?:cluster|vault)_[a-z0-9_]+")
ALIKE = 0.88
UNDEFINED = (AnsibleError, UndefinedError)  # what a template says of a variable that is not there


def specification(playbooks: str, roles: Iterable[str]) -> dict[str, Any]:
    """The inputs of several roles together, by name. In: the directory of the playbooks, which the roles' is beside."""
    specs = (_load(Path(playbooks).parent / "roles" / role / "meta/argument_specs.yml") for role in roles)
    mains = (spec["argument_specs"]["main"] for spec in specs)
    return {name: option for main in mains for name, option in main.get("options", {}).items()}


def role_defaults(playbooks: str, roles: Iterable[str]) -> dict[str, Any]:
    """The defaults of several roles together, by name; templates stay as they are written."""
    files = (Path(playbooks).parent / "roles" / role / "defaults/main.yml" for role in roles)
    return {name: value for file in files if file.exists() for name, value in _load(file).items()}


def checked_roles(playbooks: str, roles: Iterable[str]) -> list[str]:
    """Those of the roles that have a check of their own, which changes nothing."""
    return [role for role in roles if (Path(playbooks).parent / "roles" / role / "tasks/check.yml").exists()]


def wired_names(playbooks: str, files: Iterable[str]) -> list[str]:
    """What these files beside the playbooks set."""
    return [name for file in files for name in _load(Path(playbooks) / "vars" / file)]


def part_of(groups: Mapping[str, list[str]], host: str) -> str:
    """The part that a host has, by which its playbook and the wiring of it are named."""
    parts = {"master": "masters", "servers": "servers"}
    return next((part for part, group in parts.items() if host in groups.get(group, [])), "workers")


def wired_roles(playbooks: str, files: Iterable[str]) -> list[str]:
    """The roles that these files are the wiring of."""
    return [
        role for file in files for role in _load(Path(playbooks) / "vars" / file).get("cluster_roles", [])
    ]


def known_names(playbooks: str) -> list[str]:
    """What the playbooks read of an inventory: the inputs of all roles, and what the wiring names."""
    roles = [path.name for path in (Path(playbooks).parent / "roles").iterdir() if path.is_dir()]
    wiring = "".join(file.read_text(encoding="utf-8") for file in (Path(playbooks) / "vars").glob("*.yml"))
    return sorted({*specification(playbooks, roles), *WORD.findall(wiring)})


@cache  # one task asks for the same files again and again
def _load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def input_problems(given: Mapping[str, Any], known: Iterable[str], groups: Iterable[str]) -> list[str]:
    """What is wrong with what the inventory says of a host.

    given: its variables. known: the names that mean something to the playbooks. groups: those it is in.
    """
    known = set(known)
    values, unknown = _read(given, known.intersection(given))
    secrets = [name for name in known if name.startswith("vault_") and name != "vault_enrolment_token"]
    found = [
        *_groups(set(groups)),
        *_values(values),
        *_secrets(values, secrets),
        *_misspelt(set(given), known),
    ]
    return [*unknown, *found]


def _read(given: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The values, and a sentence for each that is a template of what is not there."""
    values, unknown = {}, []
    for name in sorted(names):
        try:
            values[name] = given[name]
            str(values[name])  # a value that is missing complains when it is used
        except UNDEFINED as exc:
            values.pop(name, None)
            unknown.append(_cannot_be_read(name, str(exc)))
    return values, unknown


@pass_context
def unreadable(context: Context, names: Iterable[str]) -> dict[str, str]:
    """Those of the variables of the play and of its host that are templates of what is not there; a sentence each."""
    found = {name: _complaint(context, name) for name in names if name in context}
    return {name: _cannot_be_read(name, why) for name, why in found.items() if why}


def _complaint(context: Context, name: str) -> str:
    try:
        str(context.resolve(name))
    except UNDEFINED as exc:
        return str(exc)
    return ""


def _cannot_be_read(name: str, why: str) -> str:
    return f"{name} cannot be read: {' '.join(why.split()).rstrip('.')}."


def _groups(groups: set[str]) -> Iterator[str]:
    if {"masters", "workers"} <= groups:
        yield "it is in both groups, masters and workers: a host has one part."


def _values(given: Mapping[str, Any]) -> Iterator[str]:
    if (proxy := given.get("cluster_proxy_url")) and not urlsplit(str(proxy)).hostname:
        yield "cluster_proxy_url must be a URL such as http://proxy.example.org:3128."
    for network in given.get("firewall_admin_networks") or []:
        if not _is_network(network):
            yield f"firewall_admin_networks must list networks such as 203.0.113.0/24; '{network}' is none."


def _secrets(given: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in sorted(names):
        if (value := given.get(name)) and not SECRET.fullmatch(str(value)):
            yield f"{name} must have 32 or more letters and digits, and nothing else."


def _misspelt(given: set[str], known: set[str]) -> Iterator[str]:
    prefixes = tuple({f"{name.split('_')[0]}_" for name in known})
    for name in sorted(given - known):
        if name.startswith(prefixes) and (near := get_close_matches(name, known, 1, ALIKE)):
            yield f"no role and no playbook reads {name}; {near[0]} is probably meant."


def overruled(given: Mapping[str, Any], effective: Mapping[str, Any]) -> list[str]:
    """The variables that the inventory sets in vain, because the playbooks set them too. In: values by name."""
    return [
        f"{name} is set in the inventory, and in vain: the playbooks set it themselves (playbooks/vars/)."
        for name, value in sorted(effective.items())
        if name in given and not _is(given, name, value)
    ]


def _is(given: Mapping[str, Any], name: str, value: object) -> bool:
    try:
        return bool(given[name] == value)
    except UNDEFINED:
        return False


def _is_network(text: object) -> bool:
    try:
        ipaddress.IPv4Network(str(text))
    except ValueError:
        return False
    return True


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "checked_roles": checked_roles,
            "input_problems": input_problems,
            "known_names": known_names,
            "overruled": overruled,
            "part_of": part_of,
            "role_defaults": role_defaults,
            "specification": specification,
            "unreadable": unreadable,
            "wired_names": wired_names,
            "wired_roles": wired_roles,
        }
