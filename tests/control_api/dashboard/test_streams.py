"""The stream of a page from a real service: it is woken by events, and ends when the service stops."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.control_api.dashboard.conftest import FORM
from tests.control_api.processes import Service, crowding


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path).start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


@pytest.fixture
def browser(service: Service) -> Iterator[httpx2.Client]:
    """Somebody who is logged in."""
    form = {"username": "admin", "password": service.secret("MUSTER_ADMIN_PASSWORD")}
    with httpx2.Client(base_url=service.url, timeout=20) as client:
        assert client.post("/login", data=form, headers=FORM).status_code == 303
        yield client


def until(lines: Iterator[str], text: str) -> float:
    """Read until a line holds the text; return how long it took."""
    begun = time.monotonic()
    for line in lines:
        if text in line:
            return time.monotonic() - begun
    pytest.fail(f"the stream ended without {text!r}")


def test_an_event_reaches_the_page_at_once_and_a_stop_ends_it(
    service: Service, browser: httpx2.Client
) -> None:
    with browser.stream("GET", "/fleet/live") as answer:
        lines = answer.iter_lines()
        until(lines, "No workers yet")
        until(lines, "event: current")
        until(lines, "event: current")  # the page has just looked, and would look again in three seconds
        worker = service.register()
        assert until(lines, f'href="/workers/{worker["workerId"]}"') < 2.5
        begun = time.monotonic()
        assert service.process is not None
        service.process.terminate()
        assert [line for line in lines if line.startswith("event: end")] == []
    assert service.stop() == -signal.SIGTERM
    assert time.monotonic() - begun < 4 * crowding()
