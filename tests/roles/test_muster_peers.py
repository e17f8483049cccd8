"""What keeps the firewall's set of workers: a control API follows a script, and an nft takes notes."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "roles/firewall/files/muster_peers.py"


def load() -> Any:
    specification = importlib.util.spec_from_file_location("muster_peers", FILE)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["muster_peers"] = module
    specification.loader.exec_module(module)
    return module


peers: Any = load()


class ScriptedApi(ThreadingHTTPServer):
    """Gives the scripted answers, addresses or an HTTP status, and 304 to who has the addresses already."""

    daemon_threads = True

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.answers = answers
        self.asked: list[tuple[str, str]] = []
        self.clients: set[Any] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedApi

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.server.clients.add(self.client_address)
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        tag, status = f'W/"{answer}"', answer if isinstance(answer, int) else 200
        body = json.dumps({"data": {"addresses": answer}}).encode()
        if self.headers["If-None-Match"] == tag:
            body, status = b"", 304
        self.send_response(status)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def control_api(*answers: Any) -> Iterator[ScriptedApi]:
    server = ScriptedApi(list(answers))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


class Node:
    """A node: the file of its token, the file that the rules include, and what nft was told."""

    def __init__(self, directory: Path) -> None:
        self.token = directory / "token"
        self.token.write_text("the-token\n")
        self.kept = directory / "workers.nft"
        self.notes = directory / "notes"
        self.nft = directory / "nft"
        self.tables = directory / "tables"
        self.rules = directory / "firewall.nft"
        self.loaded = directory / "loaded"
        self.rules.write_text("the rules")
        self.mark()
        self.tables.write_text("table ip nat\ntable inet muster\n")
        self.apis: list[Any] = []
        self.be_willing()

    def be_willing(self) -> None:
        listed = f"list) cat {self.tables};;"
        loaded = f"--file) echo load $2 >>{self.notes}; echo table inet muster >>{self.tables};;"
        self._write(
            f'case "$1 $2" in "--file -") cat >>{self.notes}; exit;; esac\ncase "$1" in {listed} {loaded} esac'
        )

    def refuse(self) -> None:
        self._write("echo no such set >&2; exit 1")

    def _write(self, script: str) -> None:
        self.nft.write_text(f"#!/bin/sh\n{script}\n")
        self.nft.chmod(0o755)

    def mark(self) -> None:
        """Note that the rules on the disk are those in force, as muster-firewall does."""
        self.loaded.write_text(hashlib.sha256(self.rules.read_bytes()).hexdigest() + "\n")

    def flush(self) -> None:
        self.tables.write_text("table ip nat\n")
        self.notes.unlink(missing_ok=True)

    def told(self) -> str:
        return self.notes.read_text() if self.notes.exists() else ""

    def keeper(self, url: str) -> Any:
        self.apis.append(peers.ControlApi(url, str(self.token), None))
        return peers.Keeper(self.apis[-1], self.kept)

    def hang_up(self) -> None:
        for api in self.apis:
            api.close()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    node = Node(tmp_path)
    monkeypatch.setattr(peers, "NFT", str(node.nft))
    monkeypatch.setattr(peers, "RULES", node.rules)
    monkeypatch.setattr(peers, "LOADED", node.loaded)
    yield node
    node.hang_up()


def test_the_set_is_swapped_when_the_list_changes_and_only_then(node: Node) -> None:
    with control_api(["10.0.0.2"], ["10.0.0.2"], ["10.0.0.10", "10.0.0.9"]) as api:
        keeper = node.keeper(api.url)
        for _ in range(4):
            keeper.look()
    assert node.told() == (
        "flush set inet muster workers\nadd element inet muster workers { 10.0.0.2 }\n"
        "flush set inet muster workers\nadd element inet muster workers { 10.0.0.9, 10.0.0.10 }\n"
    )
    assert node.kept.read_text() == "add element inet muster workers { 10.0.0.9, 10.0.0.10 }\n"
    assert node.kept.stat().st_mode & 0o777 == 0o600
    assert api.asked == [("/api/peers", "Bearer the-token")] * 4
    assert len(api.clients) == 1


def test_a_list_without_anybody_empties_the_set(node: Node) -> None:
    with control_api(["10.0.0.2"], []) as api:
        keeper = node.keeper(api.url)
        keeper.look()
        keeper.look()
    assert node.told().endswith("flush set inet muster workers\n")
    assert node.kept.read_text() == ""


@pytest.mark.parametrize("failure", [401, 500, ["10.0.0.2; flush ruleset"], ["fd00::1"], {"a": 1}, None])
def test_an_answer_that_is_none_leaves_everything_as_it_was(node: Node, failure: Any) -> None:
    with control_api(["10.0.0.2"], failure) as api:
        keeper = node.keeper(api.url)
        keeper.look()
        before = node.told(), node.kept.read_text()
        keeper.look()
        assert len(api.asked) == 2
    assert (node.told(), node.kept.read_text()) == before


def test_a_control_api_that_is_away_leaves_everything_as_it_was_and_is_asked_again(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with control_api(["10.0.0.2"]) as api:
        keeper = node.keeper(api.url)
        keeper.look()
    before = node.told()
    node.hang_up()
    with caplog.at_level(logging.WARNING):
        keeper.look()
        keeper.look()
    assert node.told() == before
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once


def test_a_set_that_was_not_swapped_is_swapped_at_the_next_look(node: Node) -> None:
    with control_api(["10.0.0.2"]) as api:
        keeper = node.keeper(api.url)
        node.refuse()
        keeper.look()
        node.be_willing()
        keeper.look()
    assert node.told() == "flush set inet muster workers\nadd element inet muster workers { 10.0.0.2 }\n"


def test_a_full_disk_lets_in_and_keeps_out_all_the_same_and_leaves_no_files(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with control_api(["10.0.0.2"], ["10.0.0.3"]) as api, caplog.at_level(logging.WARNING):
        keeper = node.keeper(api.url)
        keeper.look()
        with monkeypatch.context() as patched:
            patched.setattr(peers.os, "fsync", full)
            keeper.look()
            assert node.told().endswith("{ 10.0.0.3 }\n")
            assert "cannot be kept for the next boot: [Errno 28] No space left on device" in caplog.text
            assert list(node.kept.parent.glob(".peers.*")) == []
            assert "10.0.0.2" in node.kept.read_text()
        keeper.look()
    assert "10.0.0.3" in node.kept.read_text()


def test_the_credential_of_the_worker_agent_is_read_anew_every_time(node: Node) -> None:
    with control_api([]) as api:
        keeper = node.keeper(api.url)
        for credential in ("old", "new"):
            node.token.write_text(json.dumps({"worker_id": "w1", "credential": credential}))
            keeper.look()
    assert [token for _, token in api.asked] == ["Bearer old", "Bearer new"]


def test_a_machine_that_has_not_registered_waits(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.token.unlink()
    with control_api(["10.0.0.2"]) as api, caplog.at_level(logging.WARNING):
        keeper = node.keeper(api.url)
        keeper.look()
        assert "has not registered yet" in caplog.text
        node.token.write_text("the-token")
        keeper.look()
    assert "10.0.0.2" in node.told()


def test_rules_that_something_has_flushed_are_loaded_again_with_the_workers_although_none_has_changed(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with control_api(["10.0.0.2"]) as api, caplog.at_level(logging.WARNING):
        keeper = node.keeper(api.url)
        keeper.look()
        node.flush()
        keeper.look()
        keeper.look()
    swapped = "flush set inet muster workers\nadd element inet muster workers { 10.0.0.2 }\n"
    assert node.told() == f"load {node.rules}\n{swapped}"
    assert [record.message for record in caplog.records] == [
        "the firewall's rules were flushed by something else, and are loaded again"
    ]


def test_rules_are_loaded_again_while_the_control_api_is_away(node: Node) -> None:
    node.flush()
    node.keeper("http://127.0.0.1:1").look()
    assert node.told() == f"load {node.rules}\n"


def test_rules_that_were_unloaded_or_that_no_login_has_passed_are_not_loaded(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.flush()
    node.rules.write_text("other rules")
    with control_api([]) as api, caplog.at_level(logging.WARNING):
        keeper = node.keeper(api.url)
        keeper.look()
        assert "those on the disk are not the ones that were in use" in caplog.text
        node.loaded.unlink()
        keeper.look()
    assert "load " not in node.told()


def test_it_ends_when_it_is_told_to(node: Node) -> None:
    with control_api([]) as api:
        options = ["--url", api.url, "--token-file", str(node.token), "--seconds", "60"]
        command = [sys.executable, str(FILE), *options, "--keep", str(node.kept)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not api.asked:
            assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 0
