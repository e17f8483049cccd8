"""The role `k3s_nodes` sets what is declared, takes away what no longer is, and leaves what others have set."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.k3s_stand_in.conftest import binary, own_server
from tests.k3s_stand_in.machines import Server

__all__ = ["binary", "own_server"]  # fixtures
FILE = Path(__file__).parents[2] / "roles/k3s_nodes/library/k3s_nodes.py"
NOTHING: dict[str, Any] = {"labels": {}, "taints": []}
GPU = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
UNREACHABLE = {
    "key": "node.kubernetes.io/unreachable",
    "effect": "NoExecute",
    "timeAdded": "2026-01-01T00:00:00Z",
}


def load() -> Any:
    specification = importlib.util.spec_from_file_location("k3s_nodes", FILE)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["k3s_nodes"] = module
    specification.loader.exec_module(module)
    return module


k3s_nodes = load()


def node(labels: dict[str, str] | None = None, taints: Any = None, ours: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "n1", "resourceVersion": "7", "labels": labels or {}}
    if ours:
        metadata["annotations"] = {"muster-paas/declared": ours, "of/others": "x"}
    return {"metadata": metadata, "spec": {"taints": taints} if taints else {}}


def declared(labels: dict[str, str] | None = None, taints: Any = ()) -> dict[str, Any]:
    return {"labels": labels or {}, "taints": list(taints)}


def test_a_label_of_others_stays_and_ours_goes_when_it_is_no_longer_declared() -> None:
    present = node({"a": "1", "b": "1", "theirs": "1"}, ours='{"labels":["a","b"],"taints":[]}')
    needed = k3s_nodes.change(present, declared({"b": "2"}))
    assert needed.patch["metadata"]["labels"] == {"b": "2", "a": None}
    assert needed.patch["metadata"]["resourceVersion"] == "7"
    assert "spec" not in needed.patch
    assert needed.before[:2] == ["label a=1", "label b=1"]
    assert needed.after[0] == "label b=2"


@pytest.mark.parametrize(
    ("present", "ours", "wanted", "expected"),
    [
        ([], [], [GPU], [GPU]),
        ([GPU, UNREACHABLE], [], [], None),  # what others have set
        ([GPU, UNREACHABLE], ["gpu:NoSchedule"], [], [UNREACHABLE]),
        ([GPU], ["gpu:NoSchedule"], [], []),
        ([GPU | {"value": "no"}, UNREACHABLE], [], [GPU], [GPU, UNREACHABLE]),
        ([GPU | {"effect": "NoExecute"}], [], [GPU], [GPU | {"effect": "NoExecute"}, GPU]),
        ([{**GPU, "timeAdded": "2026-01-01T00:00:00Z"}], [], [GPU], None),
    ],
)
def test_taints_are_known_by_key_and_effect(present: Any, ours: Any, wanted: Any, expected: Any) -> None:
    note = json.dumps({"labels": [], "taints": ours})
    needed = k3s_nodes.change(node(taints=present, ours=note if ours else ""), declared(taints=wanted))
    found = needed.patch.get("spec", {}).get("taints") or [] if needed and "spec" in needed.patch else None
    assert found == expected


def test_what_is_as_declared_needs_no_change() -> None:
    wanted = declared({"a": "1"}, [GPU])
    present = node({"a": "1", "theirs": "1"}, [GPU], ours=k3s_nodes.memory(wanted))
    assert k3s_nodes.change(present, wanted) is None
    assert k3s_nodes.change(node({"theirs": "1"}, [UNREACHABLE]), NOTHING) is None


def test_the_memory_goes_with_the_last_declaration() -> None:
    needed = k3s_nodes.change(node({"a": "1"}, ours='{"labels":["a"],"taints":[]}'), NOTHING)
    assert needed.patch["metadata"]["annotations"] == {"muster-paas/declared": None}
    assert needed.patch["metadata"]["labels"] == {"a": None}


@pytest.mark.parametrize("note", ["{", "[]", "7"])
def test_a_memory_that_cannot_be_read_takes_nothing_away(note: str) -> None:
    needed = k3s_nodes.change(node({"a": "1"}, [GPU], ours=note), NOTHING)
    assert set(needed.patch["metadata"]) == {"resourceVersion", "annotations"}
    assert "spec" not in needed.patch


# --- on a server ------------------------------------------------------------------------------------


@pytest.fixture
def run(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Run the module on the machine of a server, whose node is `master`; what it answers."""
    k3s = tmp_path / "k3s"
    k3s.write_text(
        f'#!/bin/sh\nK3S_STAND_IN_ROOT={own_server.root} exec {sys.executable} {own_server.binary} "$@"\n'
    )
    k3s.chmod(0o755)
    monkeypatch.setattr(k3s_nodes, "K3S", str(k3s))

    def act(nodes: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
        given = {"nodes": nodes, "_ansible_check_mode": check, "_ansible_diff": True}
        with pytest.raises(SystemExit):
            k3s_nodes.main(json.dumps(given))
        return dict(json.loads(capsys.readouterr().out))

    return act


def on_master(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.kubectl("get", "node", "master", "-o", "json"))
    return found


def test_a_node_becomes_what_is_declared_and_a_second_run_changes_nothing(
    own_server: Server, run: Callable[..., dict[str, Any]]
) -> None:
    own_server.up("server")
    own_server.kubectl("label", "node", "master", "theirs=1")
    own_server.kubectl("taint", "node", "master", "theirs=1:NoSchedule")
    wanted = {"master": declared({"node-role.kubernetes.io/edge": "", "disk": "ssd"}, [GPU])}

    asked = run(wanted, check=True)
    assert (asked["changed"], asked["nodes"]) == (True, ["master"])
    assert asked["diff"][0]["after"].splitlines()[:3] == [
        "label disk=ssd",
        "label node-role.kubernetes.io/edge=",
        "taint gpu=yes:NoSchedule",
    ]
    assert "disk" not in on_master(own_server)["metadata"]["labels"]

    assert run(wanted)["changed"] is True
    found = on_master(own_server)
    assert found["metadata"]["labels"]["disk"] == "ssd"
    assert {taint["key"] for taint in found["spec"]["taints"]} == {"theirs", "gpu"}
    assert run(wanted)["changed"] is False

    run({"master": declared({"disk": "hdd"})})
    found = on_master(own_server)
    assert found["metadata"]["labels"]["disk"] == "hdd"
    assert "node-role.kubernetes.io/edge" not in found["metadata"]["labels"]
    run({"master": NOTHING})
    found = on_master(own_server)
    assert found["metadata"]["labels"]["theirs"] == "1"
    assert "disk" not in found["metadata"]["labels"]
    assert [taint["key"] for taint in found["spec"]["taints"]] == ["theirs"]
    assert "muster-paas/declared" not in found["metadata"].get("annotations", {})


def test_whoever_is_faster_keeps_what_he_wrote(
    own_server: Server, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.up("server")
    real, raced = k3s_nodes.patch, []

    def patch(name: str, needed: Any) -> None:
        if not raced:
            raced.append(own_server.kubectl("taint", "node", "master", "theirs=1:NoSchedule"))
        real(name, needed)

    monkeypatch.setattr(k3s_nodes, "patch", patch)
    assert run({"master": declared(taints=[GPU])})["changed"] is True
    assert {taint["key"] for taint in on_master(own_server)["spec"]["taints"]} == {"theirs", "gpu"}


def test_a_node_that_is_not_there_is_named_after_the_others_are_done(
    own_server: Server, run: Callable[..., dict[str, Any]]
) -> None:
    own_server.up("server")
    wanted = {"master": declared({"a": "1"}), "w9": declared({"a": "1"}), "w8": NOTHING}
    answer = run(wanted)
    assert answer["failed"] is True
    assert answer["msg"].startswith("K3s has no node w9, whose labels or taints are declared")
    assert on_master(own_server)["metadata"]["labels"]["a"] == "1"
    assert run(wanted, check=True)["nodes"] == ["w9"]  # it may be there by then


def test_a_k3s_that_does_not_answer_fails_in_one_sentence(
    own_server: Server, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run({"master": declared({"a": "1"})}, check=True)
    assert answer["msg"].startswith("K3s did not do what was asked of its nodes: ")

    monkeypatch.setattr(k3s_nodes, "K3S", "/nowhere/k3s")
    answer = run({"master": declared({"a": "1"})}, check=True)
    assert (answer["changed"], answer["nodes"]) == (True, ["master"])  # a bare machine
