"""One sentence for each thing that is wrong with a host, and none for a host that is well."""

from __future__ import annotations

from typing import Any

import pytest

from filter_plugins.preflight import (
    HEAD,
    FilterModule,
    contact_problems,
    host_problems,
    report,
    shared_problems,
)

FACTS: dict[str, Any] = {
    "distribution": "Debian",
    "distribution_version": "12.5",
    "architecture": "x86_64",
    "memtotal_mb": 1900,
    "hostname": "w1",
    "nodename": "w1.example.org",
    "machine_id": "a" * 32,
    "all_ipv4_addresses": ["10.0.0.1", "172.17.0.1"],
    "default_ipv4": {"interface": "eth0"},
}
SEEN: dict[str, Any] = {
    "clock_off": 0.0,
    "free_mb": 5000,
    "listeners": [{"port": 443, "program": "nginx", "unit": "nginx.service"}],
    "silent": [],
    "limits_memory": True,
    "postgresql": ["/etc/postgresql/15/main/postgresql.conf"],
    "ufw": False,
}
WANTED: dict[str, Any] = {
    "systems": ["Debian 12", "Ubuntu 22.04"],
    "architectures": ["x86_64", "aarch64"],
    "memory_mb": 1700,
    "free_disk_mb": 4096,
    "disk_path": "/var/lib",
    "clock_seconds": 30,
    "ports": [
        {"unit": "nginx.service", "ports": [80, 443]},
        {"unit": "postgresql@*.service", "ports": [5432]},
    ],
    "postgresql": True,
    "networks": ["10.42.0.0/16"],
    "address": "10.0.0.1",
}


def held(port: int, program: str, unit: str) -> dict[str, Any]:
    return {"listeners": [{"port": port, "program": program, "unit": unit}]}


@pytest.mark.parametrize(
    ("facts", "seen", "wanted"),
    [
        ({}, {}, {}),
        ({"distribution": "Ubuntu", "distribution_version": "22.04"}, {}, {}),
        ({"architecture": "aarch64", "memtotal_mb": 1700}, {"free_mb": 4096}, {}),
        ({"nodename": "a" * 63}, {"clock_off": -30.0}, {}),
        ({"nodename": "w1"}, {}, {}),
        ({}, held(5432, "postgres", "postgresql@15-main.service"), {}),
        ({}, {"listeners": []}, {"address": "172.17.0.1"}),
        ({}, {"postgresql": ["a", "b"]}, {"postgresql": False}),
        ({}, {"postgresql": []}, {}),
    ],
)
def test_a_host_that_is_well_is_not_talked_of(facts: Any, seen: Any, wanted: Any) -> None:
    assert host_problems(FACTS | facts, SEEN | seen, WANTED | wanted) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"distribution_version": "11.9"}, "it runs Debian 11.9, and Debian 12 or Ubuntu 22.04 is needed."),
        ({"distribution_version": "120"}, "it runs Debian 120, and Debian 12 or Ubuntu 22.04 is needed."),
        ({"architecture": "armv7l"}, "its architecture is armv7l, and x86_64 or aarch64 is needed."),
        ({"memtotal_mb": 1699}, "it has 1699 MB of memory, and 1700 MB are needed."),
        *(
            (
                {"nodename": name},
                (
                    f"its host name is '{name}', which must be of lower-case letters, digits, dashes and dots, "
                    "63 at most: `hostnamectl hostname` changes it."
                ),
            )
            for name in ("Web_1", "w1.", "w1..org", "w1.-a.org", "W1.example.org", f"w1.{'a' * 61}", "")
        ),
        ({"machine_id": ""}, "it has no /etc/machine-id: `systemd-machine-id-setup` makes one."),
        ({"default_ipv4": {}}, "it has no default route, without which K3s does not start."),
        (
            {"all_ipv4_addresses": ["192.168.1.5"]},
            (
                "none of its interfaces has the address 10.0.0.1: set cluster_address to the one that the other nodes "
                "reach it by (192.168.1.5)."
            ),
        ),
    ],
)
def test_what_is_wrong_with_a_machine_is_one_sentence(facts: dict[str, Any], sentence: str) -> None:
    assert host_problems(FACTS | facts, SEEN, WANTED) == [sentence]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (
            "fe80::1",
            (
                "cluster_address or ansible_host must be the IPv4 address that the other nodes reach it by; "
                "'fe80::1' is none."
            ),
        ),
        (
            "",
            "cluster_address or ansible_host must be the IPv4 address that the other nodes reach it by; '' is none.",
        ),
        (
            "10.42.3.4",
            "its address 10.42.3.4 lies in 10.42.0.0/16, which is for the cluster's pods or services.",
        ),
    ],
)
def test_an_address_must_be_one_and_not_a_pod_s(address: str, sentence: str) -> None:
    facts = FACTS | {"all_ipv4_addresses": ["10.42.3.4"]}
    assert host_problems(facts, SEEN, WANTED | {"address": address}) == [sentence]


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (
            {"clock_off": -31.2},
            "its clock is 31 s behind this controller's: synchronise the time on both (`timedatectl`).",
        ),
        (
            {"clock_off": 7300.0},
            "its clock is 2 h ahead of this controller's: synchronise the time on both (`timedatectl`).",
        ),
        (
            {"limits_memory": False},
            (
                "its kernel offers no memory cgroup, without which no pod runs: add cgroup_enable=memory to "
                "its command line and reboot."
            ),
        ),
        (
            {"ufw": True},
            "ufw is on, and a packet would have to pass both firewalls: switch it off with `ufw disable`.",
        ),
        (
            {
                "postgresql": [
                    "/etc/postgresql/15/main/postgresql.conf",
                    "/etc/postgresql/17/main/postgresql.conf",
                ]
            },
            (
                "2 PostgreSQL servers are set up there (/etc/postgresql/15/main/postgresql.conf, "
                "/etc/postgresql/17/main/postgresql.conf), and one is used: `pg_lsclusters` shows them, "
                "`pg_dropcluster` removes one."
            ),
        ),
        ({"free_mb": 100}, "100 MB are free for /var/lib, and 4096 MB are needed."),
        (
            held(443, "apache2", "apache2.service"),
            "port 443 is needed and taken by apache2 (apache2.service): stop it there, or give it another port.",
        ),
        (
            held(5432, "", ""),
            "port 5432 is needed and taken by a program that cannot be seen: stop it there, or give it another port.",
        ),
        (
            {"silent": [{"name": "10.0.0.9", "why": "no answer"}]},
            "it does not reach the master at 10.0.0.9 (no answer).",
        ),
    ],
)
def test_what_is_wrong_inside_is_one_sentence(seen: dict[str, Any], sentence: str) -> None:
    assert host_problems(FACTS, SEEN | seen, WANTED) == [sentence]


def test_a_host_without_root_is_still_judged_by_its_facts() -> None:
    found = host_problems(FACTS | {"memtotal_mb": 1}, {"refused": "sudo: a password is required"}, WANTED)
    assert found == [
        "it has 1 MB of memory, and 1700 MB are needed.",
        "the rights of root cannot be had there (sudo: a password is required): see become in Ansible's documentation.",
    ]


def test_everything_is_said_at_once() -> None:
    facts = FACTS | {"architecture": "i686", "default_ipv4": {}}
    assert len(host_problems(facts, SEEN | {"free_mb": 0, "clock_off": 99.0}, WANTED)) == 4


def test_a_host_that_was_not_asked_says_why() -> None:
    assert contact_problems({"unreachable": True, "msg": "Task failed: Connection\n timed out."}) == [
        "it cannot be reached: Connection timed out."
    ]
    assert contact_problems({"failed": True, "msg": "no python"}) == [
        "nothing can be asked there: no python."
    ]
    assert contact_problems({"changed": False}) == []


def test_names_machine_ids_and_addresses_are_nobody_else_s() -> None:
    hosts = {
        "a": {"hostname": "web", "machine_id": "1", "address": "10.0.0.1"},
        "b": {"hostname": "Web", "machine_id": "2", "address": "10.0.0.2"},
        "c": {"hostname": "db", "machine_id": "2", "address": "10.0.0.1"},
        "d": {"hostname": "", "machine_id": ""},
        "e": {"hostname": "", "machine_id": ""},
    }
    assert shared_problems(hosts) == {
        "a": [
            "the host name 'web' is also that of b: give each machine a name of its own.",
            "the address 10.0.0.1 is also that of c: correct the inventory.",
        ],
        "b": [
            "the host name 'web' is also that of a: give each machine a name of its own.",
            (
                "its machine-id is also that of c, as a clone's is: remove /etc/machine-id there, run "
                "`systemd-machine-id-setup`, and reboot."
            ),
        ],
        "c": [
            (
                "its machine-id is also that of b, as a clone's is: remove /etc/machine-id there, run "
                "`systemd-machine-id-setup`, and reboot."
            ),
            "the address 10.0.0.1 is also that of a: correct the inventory.",
        ],
        "d": [],
        "e": [],
    }


def test_the_report_names_every_host_with_a_problem_and_each_sentence_once() -> None:
    hosts = {
        "m1": {"preflight_problems": []},
        "w1": {"preflight_problems": ["one.", "two.", "one."]},
        "w2": {"preflight_problems": ["three."]},
    }
    assert report(hosts, ["m1", "w1", "w2"]) == f"{HEAD}\nw1:\n  - one.\n  - two.\nw2:\n  - three."
    assert report({"m1": {"preflight_problems": []}}, ["m1"]) == ""


def test_a_host_whose_checks_broke_off_is_named() -> None:
    said = "not everything could be looked at there: see the task above that failed."
    assert report({"m1": {"preflight_problems": []}, "w1": {}}, ["m1", "w1"]) == f"{HEAD}\nw1:\n  - {said}"


def test_an_address_is_compared_with_hosts_that_the_run_leaves_out() -> None:
    hosts = {
        "w1": {"preflight_problems": [], "preflight_seen": {"address": "10.0.0.1"}},
        "w2": {"ansible_host": "10.0.0.1"},
    }
    assert report(hosts, ["w1"]) == (
        f"{HEAD}\nw1:\n  - the address 10.0.0.1 is also that of w2: correct the inventory."
    )


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {
        "preflight_contact_problems",
        "preflight_host_problems",
        "preflight_report",
    }
