"""The fleet page in a real browser, against a real service: nothing is reloaded, and everything shown is true."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from control_api.dashboard.words import AGES, ago
from tests.control_api.processes import Service

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 10_000  # ms that anything may take to show
WATCH_POLICY = """
addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`));
"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("this machine has no Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with a timeout of three seconds."""
    service = Service(tmp_path, HEARTBEAT_TIMEOUT_MINUTES="0.05").start()
    yield service
    if service.process is not None:
        service.stop(signal.SIGKILL)


def until(page: Page, condition: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
    """Do something every half second until the page shows what is expected."""
    for _ in range(SECONDS // 500):
        if condition():
            return
        meanwhile()
        page.wait_for_timeout(500)
    pytest.fail(page.locator("main").inner_text())


def test_a_worker_appears_falls_silent_and_comes_back_without_a_reload(
    service: Service, browser: Browser
) -> None:
    expect.set_options(timeout=SECONDS)
    context = browser.new_context()
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))

    page.goto(f"{service.url}/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(service.secret("MUSTER_ADMIN_PASSWORD"))
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{service.url}/fleet")
    expect(page.get_by_text("No workers yet")).to_be_visible()
    expect(page.locator("#stream")).to_have_text("live")
    page.evaluate("window.loadedOnce = true")

    worker = service.register()
    row = page.get_by_role("row", name="w1")
    expect(row.locator(".badge")).to_have_text("PENDING")
    service.beat(worker)
    expect(row.locator(".badge")).to_have_text("ACTIVE")
    expect(row).to_contain_text("1 %")
    expect(page.locator(".tile.active .count")).to_have_text("1")

    expect(row.locator(".badge")).to_have_text("INACTIVE")
    expect(page.locator("#said")).to_have_text("w1 is now INACTIVE")
    expect(row.locator("time")).to_have_text(re.compile(r"^[4-9] s ago$"))
    until(page, lambda: row.locator(".badge").inner_text() == "ACTIVE", lambda: service.beat(worker))
    assert page.evaluate("window.loadedOnce")

    seconds = [0, 0.5, 1, *(from_ + step for from_, _, _ in AGES for step in (-1, 0, 1)), -90, -4000]
    assert page.evaluate("all => all.map(ago)", seconds) == [ago(one) for one in seconds]
    elsewhere = context.new_page()
    elsewhere.goto(f"data:text/html,<a href='{service.url}/fleet?search=w1'>the fleet</a>")
    elsewhere.get_by_role("link").click()
    expect(elsewhere.locator("#stream")).to_have_text("live")
    elsewhere.close()

    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert wrong == []

    service.stop(signal.SIGKILL)
    expect(page.locator("#stream")).to_have_text(re.compile(r"^reconnecting… As of \d\d:\d\d:\d\d UTC\.$"))
    frozen = row.locator("time").inner_text()
    expect(row.locator("time")).not_to_have_text(frozen)
    assert row.locator("time").evaluate("time => getComputedStyle(time).fontStyle") == "italic"
    service.start()
    expect(page.locator("#stream")).to_have_text("live")
    expect(row).to_be_visible()
    assert page.evaluate("window.loadedOnce")
    assert [
        one for one in wrong if "ERR_" not in one
    ] == []  # the browser itself complains of a lost connection
