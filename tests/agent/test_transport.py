"""The agent's connection to the control API, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.world import Certificate, Raw, Refusal, agent, beat, certificate, closed_port, control_api


@contextmanager
def client(url: str, ca_file: Path | None = None) -> Iterator[Any]:
    api = agent.Api(agent.Config(api_url=url, ca_file=str(ca_file) if ca_file else None))
    yield api
    api.close()


def ask(api: Any, timeout: float = 5) -> Any:
    return api.call("PATCH", "/api/workers/w1/heartbeat", dict, "w1.1.mac", timeout)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def test_requests_share_one_connection() -> None:
    with control_api(beat(30)) as server, client(server.url) as api:
        for _ in range(3):
            ask(api)
        assert len({asked.client for asked in server.asked}) == 1


def test_an_error_answer_does_not_cost_the_connection() -> None:
    with control_api(Refusal(503, "Busy."), beat(30)) as server, client(server.url) as api:
        with pytest.raises(agent.RefusedError):
            ask(api)
        assert ask(api) == beat(30)
        assert len({asked.client for asked in server.asked}) == 1


def test_a_connection_that_was_closed_while_idle_is_opened_again_without_a_failure() -> None:
    hung_up = Raw(b'{"success": true, "message": "", "data": {}}', hang_up=True)
    with control_api(hung_up, beat(30)) as server, client(server.url) as api:
        assert ask(api) == {}
        assert ask(api) == beat(30)
        assert len({asked.client for asked in server.asked}) == 2


def test_silence_on_a_kept_connection_is_a_failure_and_the_next_request_has_a_new_one() -> None:
    with control_api(beat(30), None, beat(45)) as server, client(server.url) as api:
        ask(api)
        with pytest.raises(agent.UnreachableError, match="timed out"):
            ask(api, timeout=0.3)
        assert len(server.asked) == 2  # nothing is sent twice to who is silent
        assert ask(api) == beat(45)


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    with control_api(Raw(b"x" * (3 * 1024 * 1024)), beat(30)) as server, client(server.url) as api:
        with pytest.raises(agent.RefusedError, match="not one of a control API"):
            ask(api)
        assert ask(api) == beat(30)


def test_who_is_not_there_does_not_answer() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with client(url) as api, pytest.raises(agent.UnreachableError, match="Connection refused"):
        ask(api)


def test_a_certificate_of_ca_file_is_trusted(tls: Certificate) -> None:
    with control_api(beat(30), tls=tls) as server, client(server.url, tls.certificate) as api:
        for _ in range(2):
            assert ask(api) == beat(30)
        assert len({asked.client for asked in server.asked}) == 1


def test_a_tls_connection_that_was_closed_while_idle_is_opened_again(tls: Certificate) -> None:
    hung_up = Raw(b'{"success": true, "message": "", "data": {}}', hang_up=True)
    with control_api(hung_up, beat(30), tls=tls) as server, client(server.url, tls.certificate) as api:
        assert ask(api) == {}
        assert ask(api) == beat(30)


@pytest.mark.parametrize("ca", ["none", "of another", "for another address"])
def test_nothing_is_sent_to_who_has_another_certificate(tls: Certificate, tmp_path: Path, ca: str) -> None:
    other = certificate(tmp_path, "127.0.0.2")
    serving = other if ca == "for another address" else tls
    ca_file = None if ca == "none" else other.certificate
    with control_api(beat(30), tls=serving) as server, client(server.url, ca_file) as api:
        with pytest.raises(agent.UntrustedError, match="check api_url and ca_file"):
            ask(api)
        assert server.asked == []


def test_a_ca_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(agent.AgentError, match="cannot be read"):
            agent.Api(agent.Config(api_url="https://127.0.0.1", ca_file=str(tmp_path / name)))
