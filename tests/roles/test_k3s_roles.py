"""What the K3s roles do and say, by the real ansible-playbook; some of their modules are stood in for."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Notes what it is told, and answers what the test has put down for it.
STAND_IN = """\
#!/usr/bin/python
import json
import sys
from pathlib import Path
NAME = "{name}"
given = json.loads(r'''<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>''')
with open("{home}/told", "a") as told:
    print(json.dumps([NAME, given]), file=told)
answer = json.loads(Path("{home}/answers").read_text()).get(NAME, {{"changed": False}})
print(json.dumps(answer))
sys.exit(1 if answer.get("failed") else 0)
"""
# Ansible gives the files to root: whoever is not root is it in a namespace of the test's own.
AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
MODULES = ("files", "look", "systemd_units")


class Host:
    """This machine, where nothing is done."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in MODULES:
            (home / f"{name}.py").write_text(STAND_IN.format(name=name, home=home))

    def run(self, role: str, tasks: str, *options: str, answers: Any, **given: Any) -> tuple[int, str]:
        """Run a file of a role's tasks; whether they failed, and what was said."""
        (self.home / "answers").write_text(json.dumps(answers))
        imported = {"name": role, "tasks_from": tasks, "rolespec_validate": False}
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.import_role": imported}],
        }
        (self.home / "play.json").write_text(json.dumps([play]))
        variables = json.dumps({"ansible_python_interpreter": sys.executable, **given})
        ansible = Path(sys.executable).parent / "ansible-playbook"
        done = subprocess.run(
            [*AS_ROOT, ansible, self.home / "play.json", "--extra-vars", variables, *options],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_LIBRARY": str(self.home),
                "HOME": str(self.home),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout

    def told(self, module: str) -> list[dict[str, Any]]:
        calls = map(json.loads, (self.home / "told").read_text().splitlines())
        return [given for name, given in calls if name == module]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


SERVER = {
    "k3s_server_node_name": "master1",
    "k3s_server_node_address": "192.0.2.10",
    "k3s_server_agent_token_file": "/etc/muster/secrets/k3s_agent_token",
    "k3s_server_datastore": "postgresql",
    "k3s_server_datastore_password_file": "/etc/muster/secrets/k3s_datastore_password",
}
BARE = {"look": {"failed": True, "found": {}, "texts": {}, "msg": "It is not there."}}
WRITTEN = {"changed": True, "written": ["/etc/systemd/system/k3s.service"]}


def test_a_datastore_without_a_password_yet_fails_a_run_and_not_check_mode(host: Host) -> None:
    answers = {**BARE, "files": WRITTEN, "systemd_units": {"changed": True, "stale": []}}
    given = {**SERVER, "__k3s_server_checked": True}
    failed, said = host.run("k3s_server", "main", "--check", answers=answers, **given)
    assert failed == 0, said
    assert [file["path"] for file in host.told("files")[0]["files"]][
        -1
    ] == "/etc/systemd/system/k3s.service.env"
    failed, said = host.run("k3s_server", "main", answers=answers, **given)
    assert failed != 0
    assert "It is not there." in said


@pytest.mark.parametrize(("role", "file"), [("k3s_server", "vars"), ("k3s_agent", "tasks")])
def test_options_that_may_hold_a_secret_are_shown_nowhere(role: str, file: str) -> None:
    """Of a `content` the module tells the difference; of a `secret` only that there is one."""
    text = (ROOT / "roles" / role / file / "main.yml").read_text()
    written = {entry["path"]: entry for entry in entries(yaml.safe_load(text)) if "mode" in entry}
    config = written["/etc/rancher/k3s/config.yaml"]
    assert "content" not in config
    assert "config.yaml.j2" in config["secret"]
    assert config["mode"] == "0600"


def entries(given: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in it that describes a file."""
    for value in given.values() if isinstance(given, dict) else given if isinstance(given, list) else []:
        yield from entries(value)
    if isinstance(given, dict) and "path" in given:
        yield given


class Proxy(http.server.BaseHTTPRequestHandler):
    """The only way to a release page."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"K3s")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """Its URL, and what it was asked for."""
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Proxy,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_the_release_is_downloaded_through_the_proxy_of_k3s(host: Host, proxy: tuple[str, list[str]]) -> None:
    url, asked = proxy
    failed, said = host.run(
        "k3s_binary",
        "main",
        answers={"files": {"changed": False, "written": []}},
        k3s_binary_mirror_url="http://releases.invalid",
        k3s_binary_sha256=sha256(b"K3s").hexdigest(),
        k3s_binary_environment={"HTTP_PROXY": url, "CONTAINERD_HTTP_PROXY": "http://other.invalid"},
        __k3s_binary_checked=True,
        __k3s_binary_is_here=False,
        __k3s_binary_asset={"binary": "k3s", "sums": "sums"},
        __k3s_binary_path=str(host.home / "k3s"),
    )
    assert failed == 0, said
    assert asked == ["http://releases.invalid/v1.34.4%2Bk3s1/k3s"]
    assert (host.home / "k3s").read_bytes() == b"K3s"


AGENT = {
    "k3s_agent_server_url": "https://127.0.0.1:1",
    "k3s_agent_token_file": "/etc/rancher/k3s/join-token",
    "k3s_agent_node_name": "worker1",
    "__k3s_agent_written": {"written": []},
}
REFUSED = {"failed": True, "msg": "systemctl start k3s-agent: Unit k3s-agent.service is masked."}
JOINED = {"/var/lib/rancher/k3s/agent/client-kubelet.crt": {"kind": "file"}}


@pytest.mark.parametrize(("found", "cause"), [({}, ""), (JOINED, REFUSED["msg"])])
def test_the_control_api_is_told_why_a_worker_has_not_joined(host: Host, found: Any, cause: str) -> None:
    answers = {"look": {"changed": False, "found": found}, "systemd_units": REFUSED}
    report = ["tee", str(host.home / "reported")]
    failed, said = host.run("k3s_agent", "join", answers=answers, k3s_agent_report_command=report, **AGENT)
    assert failed != 0
    reported = (host.home / "reported").read_text().strip()
    assert reported
    assert cause in reported
    assert reported in said
