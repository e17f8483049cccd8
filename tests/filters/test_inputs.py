"""What the inventory may not say: contradictions, values that cannot be meant, names that nobody reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, UndefinedError

from filter_plugins.inputs import (
    FilterModule,
    checked_roles,
    input_problems,
    known_names,
    overruled,
    part_of,
    role_defaults,
    specification,
    unreadable,
    wired_names,
    wired_roles,
)

PLAYBOOKS = str(Path(__file__).parents[2] / "playbooks")
KNOWN = [
    "k3s_binary_version",
    "cluster_domain",
    "cluster_proxy_url",
    "firewall_admin_networks",
    "vault_jwt_secret",
    "vault_enrolment_token",
]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"cluster_domain": "paas.example.org", "cluster_proxy_url": "http://10.0.0.1:3128"},
        {
            "cluster_domain": "",
            "vault_jwt_secret": "",
            "firewall_admin_networks": ["10.0.0.0/8", "192.0.2.1"],
        },
        {"vault_jwt_secret": "a1" * 16, "vault_enrolment_token": "any-thing", "vault_of_mine": "x"},
        {"k3s_binary_mode": "mine", "nginx_version": "1.2", "my_k3s_binary_version": "x"},
    ],
)
def test_what_can_be_meant_is_taken(given: dict[str, Any]) -> None:
    assert input_problems(given, KNOWN, ["all", "workers"]) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"cluster_proxy_url": "proxy:3128"},
            "cluster_proxy_url must be a URL such as http://proxy.example.org:3128.",
        ),
        (
            {"firewall_admin_networks": ["10.0.0.1/8"]},
            "firewall_admin_networks must list networks such as 203.0.113.0/24; '10.0.0.1/8' is none.",
        ),
        (
            {"vault_jwt_secret": "hunter2"},
            "vault_jwt_secret must have 32 or more letters and digits, and nothing else.",
        ),
        (
            {"k3s_binary_versoin": "v1"},
            "no role and no playbook reads k3s_binary_versoin; k3s_binary_version is probably meant.",
        ),
        (
            {"cluster_domian": "x"},
            "no role and no playbook reads cluster_domian; cluster_domain is probably meant.",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    assert input_problems(given, KNOWN, []) == [sentence]


def test_variables_that_cannot_be_read_are_named_each_with_why() -> None:
    context = Environment().from_string("").new_context({"fine": 1, "wrong": Unreadable()})
    assert unreadable(context, ["fine", "wrong", "absent"]) == {
        "wrong": "wrong cannot be read: 'x' is undefined."
    }


class Unreadable:
    """A template of what is not there."""

    def __str__(self) -> str:
        raise UndefinedError("'x' is undefined")


def test_defaults_are_read_of_the_roles_that_have_any(tmp_path: Path) -> None:
    defaults = tmp_path / "roles/one/defaults/main.yml"
    defaults.parent.mkdir(parents=True)
    defaults.write_text("---\none_size: 3\none_name: '{{ x }}'\n")
    assert role_defaults(str(tmp_path / "playbooks"), ["one", "two"]) == {
        "one_size": 3,
        "one_name": "{{ x }}",
    }


def test_no_sentence_shows_a_secret() -> None:
    assert "hunter2" not in "".join(input_problems({"vault_jwt_secret": "hunter2"}, KNOWN, []))


def test_a_host_has_one_part() -> None:
    assert input_problems({}, KNOWN, ["masters", "workers"]) == [
        "it is in both groups, masters and workers: a host has one part."
    ]


def test_the_part_of_a_host_names_its_playbook() -> None:
    groups = {"masters": ["m"], "servers": ["s"], "workers": ["w"]}
    assert [part_of(groups, host) for host in ("m", "s", "w")] == ["master", "servers", "workers"]
    assert part_of({"masters": ["m"]}, "w") == "workers"


def test_a_value_that_the_playbooks_set_themselves_is_not_lost_in_silence() -> None:
    given = {"firewall_ssh_ports": [2222], "nginx_names": ["same"], "other": 1}
    effective = {"firewall_ssh_ports": [22], "nginx_names": ["same"], "redis_user": "muster"}
    assert overruled(given, effective) == [
        "firewall_ssh_ports is set in the inventory, and in vain: the playbooks set it themselves (playbooks/vars/)."
    ]


def test_the_inputs_of_the_roles_and_the_words_of_the_wiring_are_known() -> None:
    known = known_names(PLAYBOOKS)
    assert {
        "k3s_agent_config",
        "base_packages",
        "cluster_domain",
        "vault_jwt_secret",
        "cluster_address",
    } <= set(known)
    assert set(specification(PLAYBOOKS, ["redis"])) >= {"redis_user", "redis_maxmemory"}
    assert "redis_user" in wired_names(PLAYBOOKS, ["cluster.yml", "master.yml"])
    assert "redis_user" not in wired_names(PLAYBOOKS, ["workers.yml"])
    assert wired_roles(PLAYBOOKS, ["cluster.yml", "workers.yml"])[-1] == "k3s_agent"


def test_a_role_with_a_check_of_its_own_is_found() -> None:
    assert checked_roles(PLAYBOOKS, ["redis", "k3s_binary", "k3s_agent"]) == ["k3s_binary", "k3s_agent"]


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {
        "checked_roles",
        "input_problems",
        "known_names",
        "overruled",
        "part_of",
        "role_defaults",
        "specification",
        "unreadable",
        "wired_names",
        "wired_roles",
    }
