"""The agent as systemd and the role run it: a process, a configuration, a control API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.world import FILE, REGISTERED, STATE, Refusal, ScriptedApi, beat, certificate, control_api


class Machine:
    """A directory with the configuration and the state of an agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_file = directory / "state.json"
        self.config: dict[str, Any] = {"state_dir": str(directory), "kubelet_healthz_url": None}
        (directory / "token").write_text("enrolment-token\n")

    def command(self, url: str, *arguments: str) -> list[str]:
        file = self.directory / "config.json"
        file.write_text(json.dumps({"api_url": url, **self.config}))
        return [sys.executable, str(FILE), *arguments, "--config", str(file)]

    def register(self, url: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = self.command(url, "register", "--token-file", str(self.directory / "token"), *more)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    @contextmanager
    def running(self, url: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        self.state_file.write_text(json.dumps(STATE))
        service = subprocess.Popen(
            self.command(url, "run"), stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        with service:
            try:
                yield service
            finally:
                service.kill()

    @property
    def credential(self) -> str:
        return str(json.loads(self.state_file.read_text())["credential"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def stop(service: subprocess.Popen[str], seconds: float = 10) -> str:
    """Send SIGTERM; what the service has logged. It must end well, and in time."""
    service.send_signal(signal.SIGTERM)
    logged = service.communicate(timeout=seconds)[1]
    assert service.returncode == 0, logged
    return logged


def calls(server: ScriptedApi) -> list[tuple[str, str]]:
    return [(asked.path.rsplit("/", 1)[1], asked.token) for asked in server.asked]


def test_a_busy_api_is_asked_again_and_the_log_says_so_once(machine: Machine) -> None:
    busy = Refusal(503, "The database does not answer.")
    with control_api(busy, busy, beat(30)) as server, machine.running(server.url) as service:
        server.wait_for(3)
        logged = stop(service)
    assert calls(server) == [("heartbeat", "w1.1.old")] * 3 + [("leave", "w1.1.old")]
    assert logged.splitlines() == [
        "The database does not answer (HTTP 503). Trying on.",
        "heartbeats are accepted",
    ]


def test_a_worker_that_was_forgotten_registers_again_and_keeps_what_it_is_given(machine: Machine) -> None:
    script = (Refusal(401, "Unknown."), REGISTERED, beat(30))
    with control_api(*script) as server, machine.running(server.url) as service:
        server.wait_for(3)
        stop(service)
    assert calls(server) == [
        ("heartbeat", "w1.1.old"),
        ("register", "w1.1.old"),
        ("heartbeat", "w1.2.new"),
        ("leave", "w1.2.new"),
    ]
    assert machine.credential == "w1.2.new"


def test_a_worker_that_is_refused_for_good_does_not_hammer(machine: Machine) -> None:
    with control_api(Refusal(401, "Unknown.")) as server, machine.running(server.url) as service:
        time.sleep(3)
        logged = stop(service)
    asked = [call for call in calls(server) if call[0] != "leave"]
    assert 2 <= len(asked) <= 30  # two requests a try, and waits that grow from up to 2 s
    assert logged.count("register it with a token") == 1


def test_a_rotated_credential_is_stored_and_used(machine: Machine) -> None:
    with (
        control_api(beat(1, credential="w1.1.new"), beat(30)) as server,
        machine.running(server.url) as service,
    ):
        server.wait_for(2)
        stop(service)
    assert calls(server) == [("heartbeat", "w1.1.old"), ("heartbeat", "w1.1.new"), ("leave", "w1.1.new")]
    assert machine.credential == "w1.1.new"
    assert machine.state_file.stat().st_mode & 0o777 == 0o600


def test_sequence_numbers_grow_over_a_restart_of_the_service(machine: Machine) -> None:
    with control_api(beat(1)) as server:
        for beats in (2, 5):  # the goodbye of the first life is in between
            with machine.running(server.url) as service:
                server.wait_for(beats)
                stop(service)
        beats_sent = [asked.body for asked in server.asked if asked.method == "PATCH"]
    numbers = [body["seq"] for body in beats_sent]
    assert len(numbers) >= 4
    assert numbers == sorted(set(numbers))
    assert len({body["bootId"] for body in beats_sent}) == 1


def test_it_stops_in_time_even_when_the_api_is_silent(machine: Machine) -> None:
    with control_api(None) as server, machine.running(server.url) as service:
        server.wait_for(1)
        logged = stop(service, seconds=18)  # the request that is under way, 10 s, and the goodbye
    assert "timed out" in logged


def test_systemd_is_told_of_start_life_and_stop(machine: Machine, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, control_api(beat(30)) as server:
        channel.bind(address)
        channel.settimeout(10)
        with machine.running(server.url, NOTIFY_SOCKET=address) as service:
            # Two signs of life before the first wait is over: the watchdog outlives long pauses.
            assert [channel.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            stop(service)
            said = channel.recv(100)
            while said == b"WATCHDOG=1":
                said = channel.recv(100)
            assert said == b"STOPPING=1"
        assert len([asked for asked in server.asked if asked.method == "PATCH"]) == 1


def test_a_registration_over_tls_prints_no_secret(machine: Machine, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    machine.config["ca_file"] = str(tls.certificate)
    answer = {
        **REGISTERED,
        "isRestart": False,
        "joinToken": "K10aa::abcdef.0123",
        "masterUrl": "https://m:6443",
    }
    with control_api(answer, tls=tls) as server:
        done = machine.register(server.url, "--join-token-file", str(tmp_path / "join"))
        asked = server.asked[0]
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "workerId": "w1",
        "isRestart": False,
        "masterUrl": "https://m:6443",
        "joinTokenWritten": True,
    }
    assert (tmp_path / "join").read_text() == "K10aa::abcdef.0123\n"
    assert asked.token == "enrolment-token"
    assert "registrationToken" not in asked.body
    assert machine.credential == "w1.2.new"


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (
            Refusal(401, "The registration token is not valid."),
            "The registration token is not valid (HTTP 401).",
        ),
        (
            Refusal(
                409, "Another machine has this hostname.", ({"field": "hostname", "message": "is taken"},)
            ),
            "Another machine has this hostname: hostname is taken (HTTP 409).",
        ),
    ],
)
def test_a_refused_registration_is_one_sentence_and_not_repeated(
    machine: Machine, refusal: Refusal, sentence: str
) -> None:
    with control_api(refusal) as server:
        done = machine.register(server.url)
        assert len(server.asked) == 1
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"The control API refused the registration: {sentence}\n"
    assert not machine.state_file.exists()


@pytest.mark.parametrize(
    ("worker", "sentence"),
    [
        (
            {"approved": False},
            "but an operator must approve it before it can join the cluster: approve it, then register again.",
        ),
        (
            {"approved": True},
            "but the control API has no join token for it: repair its access to the cluster, then register again.",
        ),
    ],
)
def test_a_registration_without_a_join_token_is_one_sentence_and_the_next_one_joins(
    machine: Machine, tmp_path: Path, worker: dict[str, bool], sentence: str
) -> None:
    joined = {**REGISTERED, "joinToken": "K10aa::abcdef.0123"}
    join = tmp_path / "join"
    with control_api({**REGISTERED, "worker": worker}, joined) as server:
        first = machine.register(server.url, "--join-token-file", str(join))
        assert (first.returncode, first.stdout) == (1, "")
        assert first.stderr == f"This machine is registered as worker w1, {sentence}\n"
        assert not join.exists()
        second = machine.register(server.url, "--join-token-file", str(join))
        assert (second.returncode, join.read_text()) == (0, "K10aa::abcdef.0123\n")
        # the credential was kept, so the second registration needs no enrolment token
        assert [asked.token for asked in server.asked] == ["enrolment-token", "w1.2.new"]


def test_without_a_cluster_to_join_no_join_token_is_missed(machine: Machine) -> None:
    with control_api({**REGISTERED, "worker": {"approved": False}}) as server:
        done = machine.register(server.url)
    assert (done.returncode, json.loads(done.stdout)["joinTokenWritten"]) == (0, False)


def test_a_machine_rotates_its_credential_and_its_service_takes_it_over(machine: Machine) -> None:
    refused = Refusal(401, "The worker's credential is not valid; register again.")
    with control_api(beat(1), {"credential": "w1.2.new"}, refused, beat(30)) as server:
        with machine.running(server.url) as service:
            server.wait_for(1)
            command = machine.command(server.url, "rotate")
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, json.loads(done.stdout)) == (0, {"workerId": "w1"})
            server.wait_for(4)
            assert "took over the new credential" in stop(service)
        assert calls(server)[:4] == [
            ("heartbeat", "w1.1.old"),
            ("rotate", "w1.1.old"),
            ("heartbeat", "w1.1.old"),
            ("heartbeat", "w1.2.new"),
        ]
    assert machine.credential == "w1.2.new"


def test_a_refused_rotation_keeps_the_credential(machine: Machine) -> None:
    machine.state_file.write_text(json.dumps(STATE))
    with control_api(Refusal(503, "The database does not answer.")) as server:
        command = machine.command(server.url, "rotate")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, machine.credential) == (1, "w1.1.old")
    assert done.stderr == "The control API refused the rotation: The database does not answer (HTTP 503).\n"


@pytest.mark.parametrize(
    ("said", "taken"), [("K3s refused it.\n", "K3s refused it."), ("a\0b\n" + "c" * 600, "a b " + "c" * 496)]
)
def test_why_the_join_has_failed_is_told_in_one_sentence(machine: Machine, said: str, taken: str) -> None:
    machine.state_file.write_text(json.dumps(STATE))
    with control_api({"joinError": taken}) as server:
        command = machine.command(server.url, "join-failed")
        done = subprocess.run(
            command, input=said, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
        )
    assert (done.returncode, json.loads(done.stdout)) == (0, {"workerId": "w1"})
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("PUT", "/api/workers/w1/join-error")
    assert (asked.token, asked.body) == ("w1.1.old", {"joinError": taken})


def test_a_join_error_needs_a_sentence(machine: Machine) -> None:
    machine.state_file.write_text(json.dumps(STATE))
    with control_api({}) as server:
        command = machine.command(server.url, "join-failed")
        done = subprocess.run(command, input=" \n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, server.asked) == (1, [])
    assert done.stderr == "Standard input holds no sentence that says why the join has failed.\n"


def test_a_registration_outlives_a_short_outage(machine: Machine) -> None:
    with control_api(Refusal(503, "Starting."), REGISTERED) as server:
        assert machine.register(server.url).returncode == 0
        assert len(server.asked) == 2


def test_a_certificate_that_is_not_trusted_is_said_at_once(machine: Machine, tmp_path: Path) -> None:
    with control_api(REGISTERED, tls=certificate(tmp_path)) as server:
        began = time.monotonic()
        done = machine.register(server.url)
    assert time.monotonic() - began < 5
    assert done.returncode == 1
    assert "is not trusted" in done.stderr
    assert "check api_url and ca_file" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("empty token", "holds no enrolment token"),
        ("two words", "holds no enrolment token"),
        ("no token", "The enrolment token cannot be read"),
        ("no state directory", "does not exist: create it"),
        ("no join directory", "does not exist: create it"),
    ],
)
def test_what_is_wrong_on_this_machine_is_said_before_the_api_is_asked(
    machine: Machine, tmp_path: Path, broken: str, sentence: str
) -> None:
    token = tmp_path / "token"
    more: tuple[str, ...] = ()
    if broken == "empty token":
        token.write_text("\n")
    elif broken == "two words":
        token.write_text("one\nInjected: header\n")
    elif broken == "no token":
        token.unlink()
    elif broken == "no state directory":
        machine.config["state_dir"] = str(tmp_path / "missing")
    else:
        more = ("--join-token-file", str(tmp_path / "missing/join"))
    with control_api(REGISTERED) as server:
        done = machine.register(server.url, *more)
        assert server.asked == []
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
