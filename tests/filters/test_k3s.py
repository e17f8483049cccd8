"""Which version of K3s may follow which, and which binaries may go."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from filter_plugins.k3s import (
    FilterModule,
    checksum_of,
    datastore_obstacle,
    file_obstacles,
    is_file,
    last_words,
    left_behind,
    name_obstacle,
    outdated,
    restart_obstacle,
    servers_obstacle,
    version,
    version_in,
    version_obstacle,
    votes,
)


@pytest.mark.parametrize(
    ("wanted", "installed"),
    [
        ("v1.34.4+k3s1", ""),
        ("v1.34.4+k3s1", "v1.34.4+k3s1"),
        ("v1.34.4+k3s2", "v1.34.4+k3s1"),
        ("v1.34.4+k3s1", "v1.34.3+k3s1"),
        ("v1.35.0+k3s1", "v1.34.9+k3s1"),
        ("v1.35.0+k3s1", "v1.35.0-rc2+k3s1"),
        ("v0.0.0-stand-in", "v0.0.0-stand-in"),
        ("v1.34.4+k3s1", "something of one's own"),
    ],
)
def test_a_step_of_at_most_one_minor_release_is_taken(wanted: str, installed: str) -> None:
    assert version_obstacle(wanted, installed) == ""


@pytest.mark.parametrize(
    ("wanted", "installed"),
    [
        ("v1.34.3+k3s1", "v1.34.4+k3s1"),
        ("v1.34.4+k3s1", "v1.34.4+k3s2"),
        ("v1.33.9+k3s1", "v1.34.0+k3s1"),
        ("v1.35.0-rc1+k3s1", "v1.35.0+k3s1"),
        ("v1.9.9+k3s1", "v1.10.0+k3s1"),
    ],
)
def test_a_downgrade_is_refused(wanted: str, installed: str) -> None:
    assert version_obstacle(wanted, installed) == (
        f"K3s {installed} is installed and cannot be downgraded to {wanted}."
    )


def test_a_minor_release_is_not_skipped() -> None:
    assert version_obstacle("v1.36.0+k3s1", "v1.34.4+k3s1") == (
        "K3s v1.34.4+k3s1 is installed and may not skip a minor release on its way to v1.36.0+k3s1: "
        "upgrade to v1.35 first."
    )


def test_no_upgrade_leads_to_another_major_release() -> None:
    assert version_obstacle("v2.0.0+k3s1", "v1.34.4+k3s1") == (
        "K3s v1.34.4+k3s1 is installed, and no upgrade leads from it to v2.0.0+k3s1."
    )


@pytest.mark.parametrize(
    ("wanted", "server", "refused"),
    [
        ("v1.34.4+k3s1", "v1.34.1+k3s1", ""),
        ("v1.31.4+k3s1", "v1.34.1+k3s1", ""),
        ("v1.30.4+k3s1", "v1.34.1+k3s1", "more than 3 minor releases behind its server"),
        ("v1.35.0+k3s1", "v1.34.9+k3s1", "would be newer than its server, which has v1.34.9+k3s1"),
    ],
)
def test_an_agent_is_not_newer_than_its_server_nor_much_older(wanted: str, server: str, refused: str) -> None:
    why = version_obstacle(wanted, "", server)
    assert refused in why
    assert bool(why) == bool(refused)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("v1.34.1+k3s1", ""),
        ("v1.33.9+k3s1", ""),
        (
            "v1.32.9+k3s1",
            "a server of K3s v1.32.9+k3s1 is more than 1 minor release behind the master, which has v1.34.4+k3s1.",
        ),
        (
            "v1.35.0+k3s1",
            (
                "a server of K3s v1.35.0+k3s1 would be newer than the master, which has v1.34.4+k3s1: "
                "upgrade the master first."
            ),
        ),
    ],
)
def test_servers_are_one_minor_release_apart_at_most(wanted: str, said: str) -> None:
    assert version_obstacle(wanted, "", "v1.34.4+k3s1", "server") == said


def node(name: str, release: str, address: str, *labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": dict.fromkeys(labels, "true")},
        "status": {
            "nodeInfo": {"kubeletVersion": release},
            "addresses": [{"type": "InternalIP", "address": address}],
        },
    }


def test_an_upgrade_of_the_master_leaves_no_node_too_far_behind() -> None:
    server = "node-role.kubernetes.io/control-plane"
    listed = json.dumps(
        {
            "items": [
                node("m1", "v1.33.4+k3s1", "10.0.0.1", server),
                node("s1", "v1.33.1+k3s1", "10.0.0.2", server),
                node("s2", "v1.32.1+k3s1", "10.0.0.3", server),
                node("w1", "v1.31.1+k3s1", "10.0.0.4"),
                node("w2", "v1.30.1+k3s1", "10.0.0.5"),
                node("w3", "", "10.0.0.6"),
            ]
        }
    )
    assert left_behind(listed, "v1.34.4+k3s1", "10.0.0.1") == (
        "K3s v1.34.4+k3s1 on the master would leave nodes too far behind: s2 (v1.32.1+k3s1), w2 (v1.30.1+k3s1). "
        "An agent may be 3 minor releases older and a server 1: upgrade them first, or delete nodes that are gone."
    )
    assert left_behind(listed, "v1.33.4+k3s1", "10.0.0.1") == ""
    assert left_behind("", "v1.34.4+k3s1", "10.0.0.1") == ""
    assert left_behind(listed, "latest", "10.0.0.1") == ""


@pytest.mark.parametrize("wanted", ["", "1.34.4+k3s1", "latest", "v1.34", "v1.34.4+k3s1\n"])
def test_what_is_no_release_is_refused(wanted: str) -> None:
    assert version_obstacle(wanted, "") == (
        f"k3s_binary_version is '{wanted}', which is no release such as v1.34.4+k3s1."
    )
    assert version(wanted) is None


def test_the_version_is_read_from_what_k3s_prints() -> None:
    printed = "k3s version v1.27.5+k3s1 (8d074ecb)\ngo version go1.20.7\n"  # as in issue 8381 of K3s
    assert version_in(printed) == "v1.27.5+k3s1"
    assert version_in("") == ""


def test_all_binaries_but_the_named_ones_may_go() -> None:
    files = [
        "/usr/local/bin/k3s-v1.34.1+k3s1",
        "/usr/local/bin/k3s-v1.33.1+k3s1",
        "/usr/local/bin/k3s-v1.32.1+k3s1",
    ]
    assert outdated(files, ["/usr/local/bin/k3s-v1.34.1+k3s1", "k3s-v1.33.1+k3s1"]) == [files[2]]


def nodes(ready: str, *addresses: str) -> str:
    status = {
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
        "addresses": [{"type": "Hostname", "address": "w1"}]
        + [{"type": "InternalIP", "address": address} for address in addresses],
    }
    return json.dumps({"items": [{"metadata": {"name": "w1"}, "status": status}]})


@pytest.mark.parametrize(
    ("listed", "name", "taken"),
    [
        (nodes("True", "10.0.0.9"), "w1", True),
        (nodes("True", "10.0.0.1"), "w1", False),  # its own
        (nodes("True", "10.0.0.9", "10.0.0.1"), "w1", False),
        (nodes("False", "10.0.0.9"), "w1", False),
        (nodes("Unknown", "10.0.0.9"), "w1", False),
        (nodes("True"), "w1", False),
        (nodes("True", "10.0.0.9"), "w11", False),
        ('{"items": []}', "w1", False),
        ("", "w1", False),
    ],
)
def test_only_a_ready_node_elsewhere_holds_its_name(listed: str, name: str, taken: bool) -> None:
    why = (
        "the host name 'w1' is taken by the node at 10.0.0.9: give this machine another one." if taken else ""
    )
    assert name_obstacle(listed, name, "10.0.0.1") == why


def test_a_machine_that_runs_as_a_node_of_another_name_would_become_another_node() -> None:
    assert name_obstacle(nodes("True", "10.0.0.1"), "w1.example.org", "10.0.0.1") == (
        "it runs as the node 'w1', and its host name is 'w1.example.org' now: `hostnamectl hostname w1` sets it back; "
        "with the new one it would be another node."
    )
    assert name_obstacle(nodes("Unknown", "10.0.0.1"), "w1.example.org", "10.0.0.1") == ""
    assert name_obstacle(nodes("True", "10.0.0.9"), "w1.example.org", "10.0.0.1") == ""


TOKEN, ETCD, SQLITE, ADDRESS = (
    "/var/lib/rancher/k3s/server/token",
    "/var/lib/rancher/k3s/server/db/etcd",
    "/var/lib/rancher/k3s/server/db/state.db",
    "/etc/systemd/system/k3s.service.env",
)


@pytest.mark.parametrize(
    ("traces", "wanted", "first", "said"),
    [
        ([], "etcd", "", ""),
        ([], "etcd", "https://10.0.0.1:6443", ""),
        ([ADDRESS], "postgresql", "", ""),  # a first run that was broken off
        ([TOKEN, SQLITE], "sqlite", "", ""),
        ([TOKEN, SQLITE], "etcd", "", ""),  # K3s migrates it
        ([TOKEN, ETCD], "etcd", "", ""),
        ([TOKEN, ETCD], "etcd", "https://10.0.0.1:6443", ""),
        ([TOKEN, ADDRESS], "postgresql", "", ""),
        ([TOKEN, SQLITE], "postgresql", "", "the cluster's datastore is sqlite, not postgresql"),
        ([TOKEN, ADDRESS], "sqlite", "", "the cluster's datastore is postgresql, not sqlite"),
        ([TOKEN, ADDRESS], "etcd", "", "the cluster's datastore is postgresql, not etcd"),
        ([TOKEN, ETCD], "sqlite", "", "the cluster's datastore is etcd, not sqlite"),
        ([TOKEN, ETCD, SQLITE], "sqlite", "", "the cluster's datastore is etcd, not sqlite"),
        ([TOKEN, SQLITE], "etcd", "https://10.0.0.1:6443", "it has a cluster of its own in sqlite"),
    ],
)
def test_a_datastore_is_chosen_once_but_for_the_way_from_sqlite_to_etcd(
    traces: list[str], wanted: str, first: str, said: str
) -> None:
    why = datastore_obstacle(traces, wanted, first)
    assert why.startswith(said)
    assert bool(why) == bool(said)


@pytest.mark.parametrize(
    ("groups", "datastore", "said"),
    [
        ({"masters": ["m"]}, "sqlite", ""),
        ({"masters": ["m"], "servers": [], "workers": ["w"]}, "postgresql", ""),
        ({"masters": ["m"]}, "etcd", ""),
        ({"masters": ["m"], "servers": ["s1", "s2"], "workers": ["w"]}, "etcd", ""),
        ({"masters": ["m"], "servers": ["s1", "s2", "s3", "s4"]}, "etcd", ""),
        (
            {"masters": ["m"], "servers": ["s1"]},
            "etcd",
            "the inventory has 2 servers of K3s, the master included",
        ),
        ({"masters": ["m"], "servers": ["s1", "s2", "s3"]}, "etcd", "the inventory has 4 servers"),
        (
            {"masters": ["m"], "servers": ["s1", "s2"]},
            "sqlite",
            "the group 'servers' needs cluster_k3s_datastore: etcd",
        ),
        (
            {"masters": ["m"], "servers": ["s", "w"], "workers": ["w"]},
            "etcd",
            "w cannot be in the groups 'servers' and 'workers' at once",
        ),
        (
            {"masters": ["m"], "servers": ["m", "s"]},
            "etcd",
            "m cannot be in the groups 'servers' and 'masters' at once",
        ),
    ],
)
def test_an_inventory_has_an_odd_number_of_servers_and_etcd_for_more_than_one(
    groups: dict[str, list[str]], datastore: str, said: str
) -> None:
    why = servers_obstacle(groups, datastore)
    assert why.startswith(said)
    assert bool(why) == bool(said)


def test_of_a_journal_the_newest_complaint_counts() -> None:
    lines = [
        'time="2026-11-29T20:00:00Z" level=error msg="an earlier one"',
        'time="2026-11-29T20:00:01Z" level=fatal msg="Post \\"https://10.0.0.1:6443\\": 401 Unauthorized"',
        'time="2026-11-29T20:00:02Z" level=info msg="something else"',
        "k3s.service: Main process exited, code=exited, status=1/FAILURE",
    ]
    assert last_words(lines) == 'Post "https://10.0.0.1:6443": 401 Unauthorized'
    assert last_words(lines[2:]) == lines[-1]
    assert last_words([]) == "nothing"


def member(name: str, **conditions: str) -> dict[str, object]:
    listed = [{"type": kind, "status": status} for kind, status in conditions.items()]
    return {"metadata": {"name": name}, "status": {"conditions": listed}}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"Ready": "True", "EtcdIsVoter": "True"}, True),
        ({"Ready": "True", "EtcdIsVoter": "False"}, False),  # a learner
        ({"Ready": "Unknown", "EtcdIsVoter": "True"}, False),
        ({"Ready": "True"}, False),
        ({}, False),
    ],
)
def test_a_server_is_a_member_when_it_votes_and_is_ready(conditions: dict[str, str], expected: bool) -> None:
    assert votes(json.dumps(member("s1", **conditions))) is expected
    assert votes("") is False


@pytest.mark.parametrize(
    ("ready", "unready", "refused"),
    [
        (["m"], [], False),
        (["m", "s1"], [], False),  # the moment before the third comes
        (["m", "s1", "s2"], [], False),
        (["s1", "s2"], ["m"], False),  # the one that is restarted may itself be down
        (["m", "s1"], ["s2"], True),
        (["m"], ["s1", "s2"], True),
        (["m", "s1", "s2", "s3"], ["s4"], False),
        (["m", "s1", "s2"], ["s3", "s4"], True),
    ],
)
def test_no_server_is_restarted_that_the_majority_needs(
    ready: list[str], unready: list[str], refused: bool
) -> None:
    members = [member(name, Ready="True") for name in ready] + [
        member(name, Ready="Unknown") for name in unready
    ]
    why = restart_obstacle(json.dumps({"items": members}), "m")
    assert bool(why) is refused
    if refused:
        assert f"{', '.join(unready)} is not Ready" in why


def test_a_cluster_that_does_not_answer_has_nothing_to_lose_by_a_restart() -> None:
    assert restart_obstacle("", "m") == ""


def test_a_file_has_a_checksum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert checksum_of(str(tmp_path / "file")) == hashlib.sha256(b"abc").hexdigest()


def test_a_file_of_the_controller_is_there_and_the_one_that_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "k3s"
    file.write_bytes(b"abc")
    right, wrong = checksum_of(str(file)), "0" * 64
    given = [
        {"name": "k3s_binary", "file": str(file), "sha256": right},
        {"name": "k3s_binary", "file": str(file), "sha256": wrong},
        {"name": "k3s_binary", "file": str(file), "sha256": ""},
        {"name": "k3s_binary", "file": "", "sha256": wrong},
        {"name": "k3s_binary_images", "file": "/no/such/file", "sha256": ""},
    ]
    assert file_obstacles(given) == [
        f"{file} is not the file whose SHA-256 is {wrong}, which k3s_binary_sha256 asks for.",
        "k3s_binary_images_file is /no/such/file, which is not there.",
    ]


def test_a_host_has_the_file_only_with_its_content_owner_and_mode(tmp_path: Path) -> None:
    (file := tmp_path / "k3s").write_bytes(b"abc")
    abc, other = checksum_of(str(file)), "0" * 64
    seen = {"kind": "file", "owner": "root", "mode": "0755", "sha256": abc}
    given = {"name": "k3s_binary", "file": str(file), "sha256": ""}
    assert is_file(seen, given, "0755")
    assert is_file(seen, given | {"sha256": abc}, "0755")
    assert is_file(seen, given | {"file": "", "sha256": abc}, "0755")
    changes = ({"sha256": other}, {"mode": "0644"}, {"owner": "deploy"}, {"kind": "link"})
    assert not any(is_file(seen | change, given, "0755") for change in changes)
    assert not is_file(seen, given | {"file": "", "sha256": other}, "0755")
    assert not is_file({}, given, "0755")


def test_where_nothing_is_asked_of_a_file_any_content_will_do() -> None:
    given = {"name": "k3s_binary", "file": "", "sha256": ""}
    assert is_file({"kind": "file", "owner": "root", "mode": "0755"}, given, "0755")


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {
        "k3s_file_obstacles",
        "k3s_datastore_obstacle",
        "k3s_is_file",
        "k3s_last_words",
        "k3s_left_behind",
        "k3s_name_obstacle",
        "k3s_outdated",
        "k3s_restart_obstacle",
        "k3s_servers_obstacle",
        "k3s_version",
        "k3s_version_obstacle",
        "k3s_votes",
    }
