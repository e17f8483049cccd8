"""What the agent does when things go wrong; what it does on a good day is in compat_checks.py."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.agent.world import REGISTERED, STATE, agent, beat


class Api:
    """The process edge: answers from a script, remembers the calls, stops the service when the script is over."""

    def __init__(self, answers: list[Any], stop: threading.Event) -> None:
        self.answers, self.stop, self.calls = answers, stop, []

    def call(self, method: str, path: str, body: Any, token: str, timeout: float = 10) -> Any:
        self.calls.append((method, path, token, body()))
        if path.endswith("/leave"):
            return {"status": "INACTIVE"}
        answer = self.answers.pop(0)
        if not self.answers:
            self.stop.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that lets a service live through a script of answers and returns the calls and the waits."""

    def live(*answers: Any) -> tuple[list[Any], list[float]]:
        stop = threading.Event()
        state = agent.State(**STATE)
        config = agent.Config(api_url="http://127.0.0.1:1", state_dir=str(tmp_path), kubelet_healthz_url=None)
        running = agent.Service(config, state, stop)
        running._api = Api(list(answers), stop)
        waits: list[float] = []
        monkeypatch.setattr(running, "_wait", lambda seconds, **_: waits.append(seconds))
        running.run()
        return running._api.calls, waits

    return live


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(30, 27, 30), (0, 0.9, 1), (-5, 0.9, 1), (1e9, 3240, 3600)]
)
def test_the_server_sets_the_pace_within_reason_and_no_two_workers_beat_in_step(
    service: Any, asked: float, least: float, most: float
) -> None:
    waits = service(*[beat(asked)] * 50)[1]
    assert all(least <= wait <= most for wait in waits)
    assert len(set(waits)) > 25


def test_without_a_pace_the_one_of_the_registration_counts(service: Any) -> None:
    assert 27 <= service({"status": "ACTIVE"})[1][0] <= 30


@pytest.mark.parametrize("nonsense", ["soon", None, "nan", [30]])
def test_a_pace_that_is_no_number_is_a_failure(
    service: Any, caplog: pytest.LogCaptureFixture, nonsense: Any
) -> None:
    assert 0 < service({"nextInSeconds": nonsense})[1][0] <= 2
    assert "asks for the next heartbeat" in caplog.text


@pytest.mark.parametrize("status", [401, 404, 410])
def test_a_forgotten_worker_registers_again_with_its_credential(
    service: Any, tmp_path: Path, status: int
) -> None:
    calls, _ = service(agent.RefusedError(status, "Unknown."), REGISTERED, beat(30))
    assert [(call[1], call[2]) for call in calls[:3]] == [
        ("/api/workers/w1/heartbeat", "w1.1.old"),
        ("/api/workers/register", "w1.1.old"),
        ("/api/workers/w1/heartbeat", "w1.2.new"),
    ]
    assert json.loads((tmp_path / "state.json").read_text())["credential"] == "w1.2.new"


def test_a_state_that_was_left_meanwhile_is_taken_over(service: Any, tmp_path: Path) -> None:
    """The machine was registered with a token, or its credential rotated, while the service ran."""
    new = agent.State(**{**STATE, "credential": "w1.2.new"})
    agent.save_state(str(tmp_path), new)
    calls, _ = service(agent.RefusedError(401, "Unknown."), beat(30))
    assert [(call[1].rsplit("/", 1)[1], call[2]) for call in calls[:2]] == [
        ("heartbeat", "w1.1.old"),
        ("heartbeat", "w1.2.new"),
    ]


def test_a_worker_that_is_not_known_any_more_leaves_word_until_it_is(service: Any, tmp_path: Path) -> None:
    unknown = agent.RefusedError(401, "Unknown.")
    service(unknown, unknown)
    assert (tmp_path / "unknown").exists()
    service(beat(30))
    assert not (tmp_path / "unknown").exists()


def test_a_state_that_cannot_be_read_costs_no_registration(service: Any, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    calls, _ = service(agent.RefusedError(401, "Unknown."), REGISTERED, beat(30))
    assert [call[1].rsplit("/", 1)[1] for call in calls[:3]] == ["heartbeat", "register", "heartbeat"]


@pytest.mark.parametrize("trouble", ["refused", "unreachable"])
def test_other_failures_only_make_it_wait(service: Any, trouble: str) -> None:
    failure = (
        agent.RefusedError(503, "Busy.") if trouble == "refused" else agent.UnreachableError("No answer.")
    )
    calls, waits = service(failure, failure, beat(30))
    assert {call[1] for call in calls[:3]} == {"/api/workers/w1/heartbeat"}
    assert 27 <= waits[2] <= 30
    assert all(0 < wait <= 4 for wait in waits[:2])


def test_who_is_forgotten_right_after_a_registration_waits_before_the_next(service: Any) -> None:
    unknown = agent.RefusedError(401, "Unknown.")
    calls, waits = service(unknown, REGISTERED, unknown, beat(30))
    assert [call[1].rsplit("/", 1)[1] for call in calls[:4]] == [
        "heartbeat",
        "register",
        "heartbeat",
        "heartbeat",
    ]
    assert 0 < waits[0] <= 2


def test_a_clone_that_is_refused_backs_off_and_does_not_register(
    service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    refused = [agent.RefusedError(409, f"Number {number} is out of order.") for number in range(3)]
    calls, waits = service(*refused)
    assert {call[1] for call in calls[:3]} == {"/api/workers/w1/heartbeat"}
    assert all(0 < wait <= 8 for wait in waits)
    assert caplog.text.count("out of order") == 1
    numbers = [call[3]["seq"] for call in calls[:3]]
    assert numbers == sorted(set(numbers))


def test_a_full_disk_costs_no_heartbeat_and_the_credential_is_stored_when_there_is_room(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, tries = agent.save_state, []

    def full_twice(directory: str, state: Any) -> None:
        tries.append(state.credential)
        if len(tries) < 3:
            raise OSError(28, "No space left on device", f"/tmp/{len(tries)}")
        store(directory, state)

    monkeypatch.setattr(agent, "save_state", full_twice)
    calls, _ = service({**beat(30), "credential": "w1.1.new"}, beat(30), beat(30), beat(30))
    assert [call[2] for call in calls[1:4]] == ["w1.1.new"] * 3
    assert tries == ["w1.1.new"] * 3
    assert json.loads((tmp_path / "state.json").read_text())["credential"] == "w1.1.new"
    assert caplog.text.count("No space left on device") == 1


def test_a_failure_is_logged_when_it_changes_not_every_time(
    service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    down = agent.UnreachableError("The control API does not answer.")
    service(beat(30), down, down, down, beat(30))
    assert [record.message for record in caplog.records] == [
        "heartbeats are accepted",
        "The control API does not answer. Trying on.",
        "heartbeats are accepted",
    ]


def test_a_rotated_credential_is_kept_and_used(service: Any, tmp_path: Path) -> None:
    calls, _ = service({**beat(30), "credential": "w1.2.new"}, beat(30))
    assert calls[1][2] == "w1.2.new"
    assert json.loads((tmp_path / "state.json").read_text())["credential"] == "w1.2.new"


def test_it_says_goodbye_when_it_is_stopped(service: Any) -> None:
    calls, _ = service(beat(30))
    assert calls[-1][:3] == ("POST", "/api/workers/w1/leave", "w1.1.old")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot be read"),
        ("[]", "must be a JSON object"),
        ("{}", "has no api_url"),
        ('{"api_url": "https://a", "colour": "red"}', "a key that does not exist: colour"),
        ('{"api_url": "https://a", "state_dir": 5}', "only strings and null"),
        ('{"api_url": "http://master.example.org"}', "use https"),
        ('{"api_url": "master"}', "must be like https://"),
        ('{"api_url": "https://a:b"}', "must be like https://"),
        ('{"api_url": "https://[::1"}', "must be like https://"),
        ('{"api_url": "https://a", "kubelet_healthz_url": "file:///etc/passwd"}', "must begin with http"),
    ],
)
def test_a_bad_configuration_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    assert agent.main(["run", "--config", str(tmp_path / "config.json")]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_machine_that_has_not_registered_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"api_url": "https://a", "state_dir": str(tmp_path)}))
    assert agent.main(["run", "--config", str(tmp_path / "config.json")]) == 1
    assert "has not registered" in capsys.readouterr().err


def test_an_api_that_is_not_there_fails_the_registration_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "backoff", lambda failures: 0.0)
    (tmp_path / "config.json").write_text(
        json.dumps({"api_url": "http://127.0.0.1:9", "state_dir": str(tmp_path)})
    )
    (tmp_path / "token").write_text("token")
    config, token = str(tmp_path / "config.json"), str(tmp_path / "token")
    assert agent.main(["register", "--config", config, "--token-file", token]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert not (tmp_path / "state.json").exists()


@pytest.mark.parametrize(
    ("status", "content", "sentence"),
    [
        (
            401,
            b'{"success": false, "message": "The token is not valid."}',
            "The token is not valid (HTTP 401).",
        ),
        (
            422,
            b'{"success": false, "message": "No.", "error": {"details": [{"field": "a", "message": "is b"}]}}',
            "No: a is b (HTTP 422).",
        ),
        (500, b'{"message": "Odd.", "error": "text"}', "the answer is not one of a control API (HTTP 500)."),
        (502, b"<html>Bad Gateway</html>", "the answer is not one of a control API (HTTP 502)."),
        (200, b"[]", "the answer is not one of a control API (HTTP 200)."),
    ],
)
def test_an_error_answer_becomes_its_own_sentence(status: int, content: bytes, sentence: str) -> None:
    with pytest.raises(agent.RefusedError) as refused:
        agent.data_of(status, content)
    assert str(refused.value) == sentence


def test_a_credential_that_counts_no_more_gives_way_to_the_enrolment_token(tmp_path: Path) -> None:
    config = agent.Config(api_url="http://127.0.0.1:1", state_dir=str(tmp_path))
    api = Api([agent.RefusedError(401, "Unknown."), REGISTERED], threading.Event())
    agent.try_tokens(api, config, ["w1.1.old", "enrolment"])
    assert [call[2] for call in api.calls] == ["w1.1.old", "enrolment"]


def test_a_refused_registration_is_not_repeated(tmp_path: Path) -> None:
    config = agent.Config(api_url="http://127.0.0.1:1", state_dir=str(tmp_path))
    api = Api([agent.RefusedError(409, "The name is taken."), REGISTERED], threading.Event())
    with pytest.raises(agent.AgentError, match="The name is taken"):
        agent.try_tokens(api, config, ["enrolment"])
    assert len(api.calls) == 1


def test_a_write_that_fails_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.write_secret(tmp_path / "state.json", "old")

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(agent.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        agent.write_secret(tmp_path / "state.json", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("state.json", "old")]
