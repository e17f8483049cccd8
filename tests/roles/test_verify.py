"""The role `verify` finds what is wrong with a built cluster, and leaves nothing behind."""

from __future__ import annotations

import http.server
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

ROLE = Path(__file__).parents[2] / "roles/verify"


def load(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, ROLE / f"library/{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


host, cluster, workload = load("verify_host"), load("verify_cluster"), load("verify_workload")


def says(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["state"], row["says"]) for row in rows]


# Services

SHOWN = """\
Id=nginx.service
LoadState=loaded
ActiveState={nginx}
SubState=dead

Id=postgresql@15-main.service
LoadState=loaded
ActiveState=active
SubState=running

Id=gone.service
LoadState={gone}
ActiveState=active
SubState=running
"""
PATTERNS = ["nginx.service", "postgresql@*.service", "gone.service"]


def unit_faults(failed: str = "", *, nginx: str = "active", gone: str = "loaded") -> Any:
    return host.unit_faults(PATTERNS, host.blocks(SHOWN.format(nginx=nginx, gone=gone)), failed)


def test_services_that_run_are_no_fault() -> None:
    assert unit_faults() == []


def test_a_service_that_does_not_run_is_named_once_with_its_state() -> None:
    stopped = "nginx.service does not run: it is inactive (dead)"
    assert unit_faults(nginx="inactive") == [stopped]
    failed = "nginx.service loaded failed failed A web server\n"
    assert unit_faults(failed, nginx="failed") == ["nginx.service does not run: it is failed (dead)"]


def test_a_service_that_is_not_installed_and_another_that_has_failed_are_named() -> None:
    assert unit_faults("other.service loaded failed failed Something\n", gone="not-found") == [
        "gone.service is not installed",
        "other.service has failed",
    ]
    assert host.unit_faults(["a@*.service"], [], "") == ["a@*.service is not installed"]


# The firewall


def test_a_firewall_whose_table_is_gone_is_a_fault_whatever_its_unit_says() -> None:
    others = "table ip nat\ntable inet muster2\n"
    assert says(host.firewall(["inet muster"], others + "table inet muster\n")) == [
        ("ok", "inet muster is loaded")
    ]
    gone = "the kernel has no table inet muster, so nothing is filtered: `systemctl reload muster-firewall` loads it"
    assert says(host.firewall(["inet muster"], others)) == [("fault", gone)]
    assert says(host.firewall([], "")) == []


# Certificates


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    file = tmp_path / "api.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-subj", "/CN=x", "-keyout", tmp_path / "key", "-out", file],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return str(file)


@pytest.mark.parametrize(
    ("days_from_now", "state", "sentence"),
    [
        (0, "ok", "1 are valid, {} ends first, in 29 days"),
        (20, "fault", "{} ends in 9 days, and 14 must be left"),
        (33, "fault", "{} has ended 3 days ago"),
        (-1, "fault", "{} is not valid yet: see whether the clock is right"),
    ],
)
def test_a_certificate_is_judged_by_what_is_left(
    certificate: str, days_from_now: int, state: str, sentence: str
) -> None:
    now = time.time() + days_from_now * host.DAY + 60
    assert says(host.certificates([certificate], 14, now)) == [(state, sentence.format(certificate))]


def test_a_certificate_that_is_not_there_or_none_is_a_fault(certificate: str, tmp_path: Path) -> None:
    (tmp_path / "broken.crt").write_text("nonsense")
    rows = host.certificates([str(tmp_path / "*.crt"), "/no/such/file"], 14, time.time())
    assert says(rows) == [
        ("fault", "/no/such/file is not there"),
        ("fault", f"{tmp_path}/broken.crt holds no certificate"),
    ]


# The control API


class Answering(http.server.BaseHTTPRequestHandler):
    status, body = 200, b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Callable[..., str]]:
    """api(status, body): the URL of a server that answers so."""
    servers = []

    def serve(status: int, body: object) -> str:
        handler = type("Handler", (Answering,), {"status": status, "body": json.dumps(body).encode()})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


READY = {"ready": True, "database": True, "monitor": True, "degraded": []}


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (200, {"ok": True}, ""),
        (200, READY, ""),
        (
            200,
            {**READY, "degraded": ["rateLimits", "cluster"]},
            "says: rateLimits impaired, cluster impaired",
        ),
        (503, {**READY, "ready": False, "database": False}, "answers 503: no database"),
        (502, "bad gateway", "answers 502: says something that is not of the control API"),
    ],
)
def test_what_the_control_api_lacks_is_named(
    api: Callable[..., str], status: int, body: object, complaint: str
) -> None:
    assert host.complaint(api(status, body), "") == complaint


def test_a_control_api_that_is_away_is_a_fault() -> None:
    ((state, sentence),) = says(host.api([{"url": "http://127.0.0.1:1/readyz", "ca": ""}]))
    assert (state, "http://127.0.0.1:1/readyz does not answer: " in sentence) == ("fault", True)
    assert (
        host.complaint("https://127.0.0.1:1/", "/no/such/ca") == "cannot be asked: /no/such/ca is not there"
    )


# Database, workers and nodes


def node(name: str, *, ready: str = "True", server: bool = False, machine: str = "m") -> dict[str, Any]:
    labels = {"node-role.kubernetes.io/control-plane": "true"} if server else {}
    conditions = [{"type": "Ready", "status": ready, "message": "kubelet stopped posting"}]
    info = {"kubeletVersion": "v1", "machineID": f"{machine}-{name}"}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": conditions, "nodeInfo": info},
    }


def worker(name: str, status: str = "ACTIVE", **more: Any) -> dict[str, Any]:
    row = {"hostname": name, "machineId": f"m-{name}", "status": status, "nodeState": "Ready"}
    return {**row, "isReady": True, "approved": True, **more}


@pytest.mark.parametrize(
    ("row", "state", "sentence"),
    [
        (worker("w1"), "ok", "ACTIVE"),
        (worker("w1", "MAINTENANCE"), "ok", "healthy, in MAINTENANCE as an operator wants it"),
        (worker("w1", "MAINTENANCE", isReady=False), "fault", "it is MAINTENANCE; its node is Ready"),
        (worker("w1", "INACTIVE", nodeState="NotReady"), "fault", "it is INACTIVE; its node is NotReady"),
        (
            worker("w1", "PENDING", nodeState=None, approved=False),
            "fault",
            "it is PENDING and waits for an operator's approval; its node is not known",
        ),
    ],
)
def test_a_worker_is_well_when_it_is_active_or_wanted_otherwise(row: Any, state: str, sentence: str) -> None:
    assert cluster.worker_row(row) == {"check": "workers", "host": "w1", "state": state, "says": sentence}


def test_a_node_is_well_when_k3s_calls_it_ready() -> None:
    assert says([cluster.node_row(node("w1"))]) == [("ok", "Ready, v1")]
    assert says([cluster.node_row(node("w1", ready="Unknown"))]) == [
        ("fault", "its node is not Ready: kubelet stopped posting")
    ]
    assert says([cluster.node_row({"metadata": {"name": "w1"}})]) == [
        ("fault", "its node is not Ready: K3s says nothing of it")
    ]


def test_workers_and_nodes_are_the_same_machines() -> None:
    nodes = [node("master", server=True), node("w1"), node("w2")]
    assert says(cluster.comparison([worker("w1"), worker("W2", machineId=None)], nodes)) == [
        ("ok", "the worker table and K3s have the same 2 machines")
    ]


def test_who_is_in_one_list_only_and_who_is_two_machines_is_named() -> None:
    nodes = [node("master", server=True), node("w1", machine="other"), node("w2")]
    found = cluster.comparison([worker("w1"), worker("w3")], nodes)
    assert [(row["host"], row["says"]) for row in found] == [
        ("w1", "worker and node are two machines: m-w1 and other-w1"),
        ("w2", "K3s has a node of this name, and the worker table no worker"),
        ("w3", "the worker table has it, and K3s has no node of this name"),
    ]


def test_what_the_command_about_the_database_says_is_the_row(tmp_path: Path) -> None:
    shell = ["sh", "-c", 'test "$CREDENTIALS_DIRECTORY" = /secrets && echo "The schema is at 9."']
    assert says([cluster.database(shell, "/secrets")]) == [("ok", "The schema is at 9.")]
    broken = ["sh", "-c", "echo trace >&2; echo 'The database does not answer.' >&2; exit 1"]
    assert says([cluster.database(broken, "/secrets")]) == [("fault", "The database does not answer.")]
    assert says([cluster.database(["/no/such/command"], "/secrets")])[0][0] == "fault"


def test_a_silent_k3s_and_a_silent_control_api_are_each_a_fault(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    dead = ["sh", "-c", "echo 'The connection to the server was refused' >&2; exit 1"]
    found = list(cluster.members(dead, "http://127.0.0.1:1/api/inventory", str(tmp_path / "key")))
    assert [(row["check"], row["state"]) for row in found] == [("nodes", "fault"), ("workers", "fault")]
    assert found[0]["says"] == "K3s does not name its nodes: The connection to the server was refused"


def test_every_worker_every_node_and_the_comparison_have_a_row(
    api: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("k")
    url = api(200, {"data": {"workers": [worker("w1")]}})
    kubectl = ["sh", "-c", f"cat {tmp_path}/nodes"]
    (tmp_path / "nodes").write_text(json.dumps({"items": [node("master", server=True), node("w1")]}))
    found = list(cluster.members(kubectl, url, str(tmp_path / "key")))
    assert [(row["check"], row["host"], row["state"]) for row in found] == [
        ("workers", "w1", "ok"),
        ("nodes", "master", "ok"),
        ("nodes", "w1", "ok"),
        ("lists", "", "ok"),
    ]


# Pods that answer each other


class Kubectl:
    """A cluster as kubectl shows it: its nodes, the state of each pod, who answers whom; and what was asked."""

    def __init__(self, **pods: str) -> None:
        self.pods = pods
        self.refusal = ""
        self.deaf: set[str] = set()
        self.there = False
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[bool, str]:
        self.calls.append(arguments)
        verb, *rest = arguments
        if verb == "apply":
            assert stdin == "manifest"
            self.there = True
            return not self.refusal, self.refusal
        if verb == "delete":
            self.there = False
            return True, ""
        if verb == "exec":
            return self._exec(rest)
        items = map(node, self.pods) if rest[0] == "nodes" else map(self._pod, self.pods)
        return True, json.dumps({"items": list(items)})

    def _pod(self, name: str) -> dict[str, Any]:
        state = self.pods[name]
        ready = [{"type": "Ready", "status": str(state == "Running")}]
        waiting = {"waiting": {"reason": state, "message": "pulling"}}
        status = {"podIP": f"ip-{name}", "phase": "Pending", "conditions": ready}
        return {
            "metadata": {"name": f"answer-{name}"},
            "spec": {"nodeName": name},
            "status": {**status, "containerStatuses": [{"state": waiting}]},
        }

    def _exec(self, rest: list[str]) -> tuple[bool, str]:
        asked = rest[-1].removeprefix("http://ip-").removesuffix(":8080/")
        return (False, "wget: download timed out") if asked in self.deaf else (True, asked)


GIVEN = {"manifest": "manifest", "namespace": "muster-verify", "port": 8080, "seconds": 0}


def run(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    monkeypatch.setattr(workload, "POLL_SECONDS", 0)
    return [(row["host"], row["state"], row["says"]) for row in workload.verify(kubectl, GIVEN)]


def test_every_pod_asks_the_one_on_the_next_node(monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = Kubectl(m="Running", w1="Running", w2="Running")
    assert run(kubectl, monkeypatch) == [
        ("m", "ok", "a pod runs there and reaches the one on w1"),
        ("w1", "ok", "a pod runs there and reaches the one on w2"),
        ("w2", "ok", "a pod runs there and reaches the one on m"),
    ]
    assert not kubectl.there


def test_a_node_without_a_pod_and_one_that_is_deaf_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = Kubectl(m="Running", w1="ImagePullBackOff", w2="Running")
    kubectl.deaf = {"m"}
    assert run(kubectl, monkeypatch) == [
        ("w1", "fault", "no pod runs there: ImagePullBackOff: pulling"),
        ("m", "ok", "a pod runs there and reaches the one on w2"),
        (
            "w2",
            "fault",
            "a pod runs there and does not reach the one on m (http://ip-m:8080/): wget: download timed out",
        ),
    ]
    assert not kubectl.there


def test_a_cluster_that_knows_no_daemonsets_cannot_show_it_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubectl = Kubectl(m="Running")
    kubectl.refusal = 'no matches for kind "DaemonSet" in version "apps/v1"'
    ((where, state, sentence),) = run(kubectl, monkeypatch)
    assert (where, state) == ("", "impossible")
    assert sentence == f"this cluster runs no such workload: {kubectl.refusal}"
    assert not kubectl.there


def test_any_other_refusal_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = Kubectl(m="Running")
    kubectl.refusal = "error: forbidden"
    assert run(kubectl, monkeypatch) == [("", "fault", "the workload is refused: error: forbidden")]
    assert not kubectl.there


def test_nothing_is_left_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = Kubectl(m="Running")
    monkeypatch.setattr(workload, "ready_nodes", lambda _: workload.stop(15, None))
    with pytest.raises(SystemExit):
        run(kubectl, monkeypatch)
    assert not kubectl.there
    assert kubectl.calls[0][:3] == kubectl.calls[-1][:3] == ("delete", "namespace", "muster-verify")


def test_the_workload_is_a_daemonset_on_all_nodes_in_a_namespace_of_its_own() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    environment = Environment(autoescape=False)
    environment.filters["to_json"] = json.dumps
    text = environment.from_string((ROLE / "templates/workload.yaml.j2").read_text()).render(defaults)
    namespace, daemons = yaml.safe_load_all(text)
    assert (namespace["kind"], daemons["kind"]) == ("Namespace", "DaemonSet")
    assert namespace["metadata"]["name"] == daemons["metadata"]["namespace"] == defaults["verify_namespace"]
    pod = daemons["spec"]["template"]
    assert daemons["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == defaults["verify_image"]
    assert f"httpd -f -p {defaults['verify_port']}" in container["command"][-1]
