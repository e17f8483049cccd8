"""`k3s kubectl` and `k3s token` print what K3s' own would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.k3s_stand_in.machines import Server


def test_nodes_are_listed_as_a_table(server: Server) -> None:
    heading, row = (line.split() for line in server.kubectl("get", "nodes").splitlines())

    assert heading == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert row[:3] == ["master", "Ready", "control-plane"]
    assert row[4] == "v0.0.0-stand-in"
    assert "INTERNAL-IP" in server.kubectl("get", "node", "-o", "wide")
    assert server.kubectl("get", "no", "-o", "name") == "node/master\n"
    assert json.loads(server.kubectl("get", "nodes", "-o", "json"))["items"][0]["kind"] == "Node"


def test_raw_paths_are_printed_as_they_are(server: Server) -> None:
    assert server.kubectl("get", "--raw", "/readyz") == "ok"


def test_drain_cordons_and_uncordon_undoes_it(server: Server) -> None:
    drained = server.kubectl(
        "drain", "master", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"
    )
    assert drained == "node/master cordoned\nnode/master drained\n"
    assert server.node_is("master", "Ready,SchedulingDisabled")
    assert server.kubectl("uncordon", "master") == "node/master uncordoned\n"
    assert server.kubectl("uncordon", "master") == "node/master already uncordoned\n"
    assert server.node_is("master", "Ready")


def test_labels_and_taints_are_set_and_removed(server: Server) -> None:
    server.kubectl("label", "node", "master", "tier=one")
    assert "already has a value (one)" in server.kubectl("label", "node", "master", "tier=two", status=1)
    server.kubectl("label", "node/master", "tier=two", "--overwrite")
    server.kubectl("taint", "node", "master", "busy=yes:NoSchedule")
    node = json.loads(server.kubectl("get", "node", "master", "-o", "json"))
    assert node["metadata"]["labels"]["tier"] == "two"
    assert node["spec"]["taints"] == [{"key": "busy", "value": "yes", "effect": "NoSchedule"}]

    server.kubectl("label", "node", "master", "tier-")
    server.kubectl("taint", "node", "master", "busy-")
    node = json.loads(server.kubectl("get", "node", "master", "-o", "json"))
    assert "tier" not in node["metadata"]["labels"]
    assert "taints" not in node["spec"]


def test_a_patch_changes_what_it_names_and_only_the_version_that_it_names(server: Server) -> None:
    before = json.loads(server.kubectl("get", "node", "master", "-o", "json"))["metadata"]
    content = {"metadata": {"resourceVersion": before["resourceVersion"], "annotations": {"a/b": "c"}}}
    patch = ("patch", "node", "master", "--type", "merge", "--patch", json.dumps(content))
    after = json.loads(server.kubectl(*patch, "-o", "json"))["metadata"]
    assert (after["annotations"]["a/b"], after["labels"]) == ("c", before["labels"])

    assert "the object has been modified" in server.kubectl(*patch, status=1)
    remove = ("patch", "node/master", "--type=merge", "-p", '{"metadata": {"annotations": {"a/b": null}}}')
    assert server.kubectl(*remove) == "node/master patched\n"
    assert server.kubectl(*remove) == "node/master patched (no change)\n"
    assert "unable to parse" in server.kubectl("patch", "node", "master", "-p", "{", status=1)


def test_files_are_applied_and_deleted(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    one = "{apiVersion: v1, kind: ConfigMap, metadata: {name: %s}, data: {a: b}}\n"
    file.write_text(one % "first" + "---\n" + one % "second")

    assert server.kubectl("apply", "-f", str(file)) == "configmap/first created\nconfigmap/second created\n"
    assert (
        server.kubectl("apply", "-f", str(file)) == "configmap/first unchanged\nconfigmap/second unchanged\n"
    )
    assert server.kubectl("delete", "-f", str(file)).count("deleted") == 2


def test_wait_ends_when_the_condition_is_met_or_the_time_is_up(server: Server) -> None:
    assert "condition met" in server.kubectl("wait", "--for=condition=Ready", "node/master", "--timeout=20s")
    late = server.kubectl("wait", "--for=condition=DiskPressure", "node/master", "--timeout=1s", status=1)
    assert "timed out waiting for the condition on nodes/master" in late


def test_what_is_missing_is_said_and_may_be_ignored(server: Server) -> None:
    missing = 'Error from server (NotFound): nodes "nobody" not found\n'
    assert server.kubectl("get", "node", "nobody", status=1) == missing
    assert server.kubectl("delete", "node", "nobody", status=1) == missing
    assert server.kubectl("delete", "node", "nobody", "--ignore-not-found") == ""


def test_tokens_are_created_listed_and_deleted(server: Server) -> None:
    made = server.k3s("token", "create", "--ttl", "10m", "--description", "worker:1").strip()
    identifier = made.partition("::")[2].partition(".")[0]
    (entry,) = json.loads(server.k3s("token", "list", "-o", "json"))

    assert entry["token"] == made.partition("::")[2]
    assert entry["description"] == "worker:1"
    assert entry["groups"] == ["system:bootstrappers:k3s:default-node-token"]
    assert server.k3s("token", "delete", made) == f'bootstrap token "{identifier}" deleted\n'
    assert json.loads(server.k3s("token", "list", "-o", "json")) == []


def test_it_is_kubectl_when_called_kubectl(server: Server, tmp_path: Path) -> None:
    link = tmp_path / "kubectl"
    link.symlink_to(server.binary)
    command = [sys.executable, str(link), "get", "nodes", "-o", "name"]
    assert subprocess.check_output(command, env=server.environment) == b"node/master\n"


@pytest.mark.parametrize("command", ["crictl", "ctr", "check-config"])
def test_what_it_does_not_play_is_refused(server: Server, command: str) -> None:
    assert f"does not play `k3s {command}`" in server.k3s(command, status=1)


def test_version_says_that_it_is_a_stand_in(server: Server) -> None:
    first = server.k3s("--version").splitlines()[0]
    assert first == "k3s version v0.0.0-stand-in (muster) — a stand-in for K3s, runs no containers"
