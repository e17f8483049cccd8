"""The final table of `muster lab up`."""

from __future__ import annotations

import io
from typing import Any

import httpx2
import pytest
from rich.console import Console

from lab import roll_call
from lab.errors import LabError


def worker(name: str, status: str = "ACTIVE", node: str | None = "Ready") -> dict[str, Any]:
    return {
        "name": name,
        "ipAddress": "10.213.68.11",
        "status": status,
        "heartbeatAgeSeconds": 3.4 if status == "ACTIVE" else None,
        "nodeState": node,
    }


def api(answers: list[list[dict[str, Any]] | int]) -> roll_call.Api:
    """A control API that gives these answers, one after the other; the last one for ever. A number is an error."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/api/auth/login":
            return httpx2.Response(200, json={"data": {"accessToken": "token"}})
        assert request.headers["Authorization"] == "Bearer token"
        now = answers.pop(0) if len(answers) > 1 else answers[0]
        return (
            httpx2.Response(now)
            if isinstance(now, int)
            else httpx2.Response(200, json={"data": {"workers": now}})
        )

    return roll_call.Api(
        "https://192.0.2.10", "secret", httpx2.Client(transport=httpx2.MockTransport(answer))
    )


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call.time, "sleep", lambda seconds: None)


def test_it_waits_until_all_are_active_and_their_nodes_known_to_be_ready() -> None:
    states = api(
        [
            [],
            502,
            [worker("worker2", "PENDING", None), worker("worker1")],
            [worker("worker2", node=None), worker("worker1")],
            [worker("worker2"), worker("worker1")],
        ]
    )
    rows = roll_call.wait_until_active(states, {"worker1", "worker2"}, 30)
    assert rows == [worker("worker1"), worker("worker2")]


def test_a_worker_that_does_not_become_active_is_named_with_what_to_do() -> None:
    with pytest.raises(
        LabError, match=r"not ACTIVE: worker2.*muster lab ssh worker2 journalctl -u muster-agent"
    ):
        roll_call.wait_until_active(
            api([[worker("worker1"), worker("worker2", "INACTIVE")]]), {"worker1", "worker2"}, 0
        )


def test_an_api_that_does_not_answer_is_told() -> None:
    with pytest.raises(LabError, match=r"control API does not answer as it should.*502"):
        roll_call.wait_until_active(api([502]), {"worker1"}, 0)


def test_a_node_that_k3s_says_nothing_of_fails_nothing() -> None:
    rows = roll_call.wait_until_active(api([[worker("worker1", node=None)]]), {"worker1"}, 0)
    assert rows == [worker("worker1", node=None)]


def test_the_table_shows_what_is_known_and_what_is_not() -> None:
    out = io.StringIO()
    table = roll_call.table([worker("worker1"), worker("worker2", "PENDING", None)])
    Console(file=out, width=100).print(table)
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in out.getvalue().splitlines()
        if "│" in line
    ]
    assert cells == [
        ["worker1", "10.213.68.11", "ACTIVE", "3 s ago", "Ready"],
        ["worker2", "10.213.68.11", "PENDING", "never", "not known"],
    ]
