"""What every role promises: specified inputs, prefixed names, no knowledge of other roles or of groups."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment
from jinja2.nativetypes import NativeEnvironment
from jinja2.nodes import Name

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
NAMES = [role.name for role in ROLES]
PLAYS = ["master", "servers", "workers", "label", "certificate"]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def options(role: Path) -> dict[str, dict[str, Any]]:
    specs = load(role / "meta/argument_specs.yml")
    return specs["argument_specs"]["main"].get("options", {})


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults/main.yml") or {}


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_input_has_either_a_default_or_is_required(role: Path) -> None:
    required = {name for name, spec in options(role).items() if spec.get("required")}
    assert set(defaults(role)) & required == set()
    assert set(defaults(role)) | required == set(options(role))


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_values_live_in_defaults_and_prose_in_the_specification(role: Path) -> None:
    for name, spec in options(role).items():
        assert "default" not in spec, name
        assert spec["description"], name


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_inputs_carry_the_role_name_and_internals_two_underscores(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in options(role))
    assert all(name.startswith(f"__{role.name}_") for name in load(role / "vars/main.yml") or {})
    registered = re.findall(r"^\s+register: (\S+)", text_of(role), flags=re.MULTILINE)
    assert all(name.startswith(f"__{role.name}_") for name in registered), registered


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_a_role_uses_only_its_own_variables_and_names_no_group(role: Path) -> None:
    others = [name for name in NAMES if name != role.name and not role.name.startswith(name)]
    foreign = {name for other in others for name in options(ROOT / "roles" / other)}
    used = set(re.findall(r"\b[a-z][a-z0-9_]+\b", text_of(role)))
    assert used & foreign == set()
    assert "groups[" not in text_of(role)
    assert "hostvars" not in text_of(role)


@pytest.mark.parametrize("play", PLAYS)
def test_the_wiring_gives_every_required_input(play: str) -> None:
    wired = set(load(ROOT / f"playbooks/vars/{play}.yml")) | set(load(ROOT / "playbooks/vars/cluster.yml"))
    for role in roles_of(play):
        required = {name for name, spec in options(ROOT / "roles" / role).items() if spec.get("required")}
        assert required <= wired, role


@pytest.mark.parametrize("play", PLAYS)
def test_the_inputs_of_every_role_are_checked_before_anything_is_changed(play: str) -> None:
    assert load(ROOT / f"playbooks/vars/{play}.yml")["cluster_roles"] == roles_of(play)


def roles_of(play: str) -> list[str]:
    """The roles that hosts of this part get, in their order: those of all hosts first."""
    playbooks = ["hosts", play] if play in ("master", "workers") else [play]
    plays = [load(ROOT / f"playbooks/{playbook}.yml")[0] for playbook in playbooks]
    return [entry["role"] for found in plays for entry in found["roles"]]


@pytest.mark.parametrize("play", PLAYS)
def test_the_wiring_sets_only_inputs_that_exist(play: str) -> None:
    inputs = {name for role in ROLES for name in options(role)}
    wired = set(load(ROOT / f"playbooks/vars/{play}.yml")) | set(load(ROOT / "playbooks/vars/cluster.yml"))
    assert {name for name in wired if not name.startswith("cluster_")} <= inputs


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("extra", ["preflight", "verify"])
def test_the_wiring_reads_no_input_that_only_a_role_s_defaults_have(play: str, extra: str) -> None:
    """At the level of a play, and for another host, a role's defaults are not there."""
    wiring = [load(ROOT / f"playbooks/vars/{name}.yml") for name in ("cluster", play, extra)]
    inputs = {name for role in ROLES for name in options(role)}
    read = {name for file in wiring for value in strings(file) for name in variables(value)}
    assert read & inputs <= {name for file in wiring for name in file}


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = [*value.values()]
    return [text for each in value for text in strings(each)] if isinstance(value, list) else [str(value)]


def variables(template: str) -> set[str]:
    return {found.name for found in Environment().parse(template).find_all(Name)}


@pytest.mark.parametrize(("etcd", "more"), [([], set()), ([2379, 2380], {2379, 2380, 2381})])
def test_every_port_that_a_server_of_k3s_takes_is_looked_at(etcd: list[int], more: set[int]) -> None:
    """docs.k3s.io/installation/requirements, and on loopback containerd, the cloud controller and etcd's metrics."""
    wiring = load(ROOT / "playbooks/vars/cluster.yml") | {"cluster_etcd_ports": etcd}
    ports = NativeEnvironment().from_string(wiring["cluster_k3s_server_ports"]).render(wiring)
    agent = {6444, 8472, 10010, 10248, 10249, 10250, 10256}
    assert set(wiring["cluster_k3s_ports"]) == agent
    assert set(ports) == agent | {6443, 10257, 10258, 10259} | more


@pytest.mark.parametrize("directory", ["filter_plugins", "molecule", "playbooks", "roles"])
def test_a_node_is_nowhere_named_by_the_short_name_of_its_machine(directory: str) -> None:
    """The agent registers with the full one, which K3s takes by itself too; most machines have but one."""
    texts = [
        path.read_text() for kind in ("py", "yml", "j2") for path in (ROOT / directory).rglob(f"*.{kind}")
    ]
    assert [text for text in texts if re.search(r"ansible_facts\W+hostname|ansible_hostname", text)] == []


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_no_restart_is_owed_to_a_handler(role: Path) -> None:
    """A handler is lost with the run that owed it: `systemd_units` asks each service what it has read."""
    assert not (role / "handlers").exists()
    assert "notify:" not in text_of(role)


def test_the_collections_that_are_asked_for_are_those_that_are_used() -> None:
    asked = {entry["name"] for entry in load(ROOT / "requirements.yml")["collections"]}
    places = ("ansible.cfg", "roles/*/tasks/*.yml", "playbooks/**/*.yml", "molecule/**/*.yml")
    text = "\n".join(file.read_text() for place in places for file in ROOT.glob(place))
    used = set(re.findall(r"\b((?:ansible|community)\.[a-z]+)\.[a-z]", text)) - {"ansible.builtin"}
    assert used == asked


def text_of(role: Path) -> str:
    """All tasks, internals and templates of a role, without comments."""
    files = [*role.glob("tasks/*.yml"), *role.glob("vars/*.yml"), *role.glob("templates/*")]
    return "\n".join(re.sub(r"(^|\s)#.*$", "", path.read_text(), flags=re.MULTILINE) for path in files)
