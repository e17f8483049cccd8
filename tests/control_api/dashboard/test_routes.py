"""The pages over HTTP: who sees them, what guards them, what is in them."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote

import httpx2
import pytest
from sqlalchemy import update

from control_api.dashboard.render import ASSETS
from control_api.identity.roles import Role
from control_api.workers.models import Transition, Worker
from tests.control_api.dashboard.conftest import FORM, LINK, log_in
from tests.control_api.world import PASSWORD, Api, Clock, bearer, make_settings, running_api

UNKNOWN = "/workers/5a1c8a52-0000-4000-8000-000000000009"
HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def browse(api: Api, path: str) -> str:
    """Return the page that the browser gets."""
    answer = await api.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


# ---- logging in


async def test_whoever_is_not_logged_in_is_led_to_the_login_and_back(sqlite_api: Api) -> None:
    for path, login in [
        ("/fleet", "/login"),
        ("/fleet?status=ACTIVE", "/login?next=%2Ffleet%3Fstatus%3DACTIVE"),
        (UNKNOWN, f"/login?next=%2Fworkers%2F{UNKNOWN.removeprefix('/workers/')}"),
    ]:
        answer = await sqlite_api.client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, login)
    assert (await sqlite_api.client.get("/")).headers["location"] == "/fleet"


async def test_a_login_begins_a_session_and_a_logout_ends_it(api: Api) -> None:
    browser = await log_in(api)
    assert "No workers yet" in await browse(api, "/fleet")
    answer = await browser.post("/logout", headers=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert answer.headers["set-cookie"] == "muster=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"
    assert "muster" not in browser.cookies
    assert (await browser.get("/fleet")).status_code == 303


async def test_who_is_logged_in_is_not_asked_again(sqlite_api: Api) -> None:
    browser = await log_in(sqlite_api)
    answer = await browser.get("/login", params={"next": "/fleet?status=ACTIVE"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/fleet?status=ACTIVE")


async def test_who_follows_a_link_of_another_site_comes_again_with_the_cookie(sqlite_api: Api) -> None:
    answer = await sqlite_api.client.get("/fleet?status=ACTIVE", headers=LINK)
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in answer.text
    assert "live.js" not in answer.text


async def test_a_session_ends_with_its_time(sqlite_api: Api) -> None:
    browser = await log_in(sqlite_api)
    sqlite_api.clock.advance(24 * 3600 - 1)
    assert (await browser.get("/fleet")).status_code == 200
    sqlite_api.clock.advance(2)
    assert (await browser.get("/fleet")).status_code == 303


@pytest.mark.parametrize(
    "form",
    [
        {"username": "admin", "password": "wrong"},
        {"username": "nobody", "password": PASSWORD},
        {"username": "", "password": ""},
        {"username": "admin"},
        {},
        {"username": "ad\x00min", "password": PASSWORD},
        {"username": "a" * 64, "password": PASSWORD},
    ],
)
async def test_a_wrong_login_is_one_sentence(sqlite_api: Api, form: dict[str, str]) -> None:
    answer = await sqlite_api.client.post("/login", data=form, headers=FORM)
    assert answer.status_code == 401
    assert "The username or the password is wrong." in answer.text
    assert PASSWORD not in answer.text
    assert "set-cookie" not in answer.headers


async def test_what_was_typed_is_shown_again_escaped(sqlite_api: Api) -> None:
    form = {"username": HOSTILE, "password": "x", "next": HOSTILE}
    answer = await sqlite_api.client.post("/login", data=form, headers=FORM)
    assert "<img src=x" not in answer.text
    assert answer.text.count("&lt;img src=x onerror=alert(1)&gt;") == 2


async def test_failed_logins_are_limited_as_the_apis_are(sqlite_api: Api) -> None:
    form = {"username": "admin", "password": "wrong"}
    answers = [await sqlite_api.client.post("/login", data=form, headers=FORM) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert "Too many attempts; try again in" in answers[-1].text
    refused = await sqlite_api.client.post("/api/auth/login", json=form)
    assert refused.status_code == 429


async def test_behind_tls_the_cookie_is_strict(sqlite_url: str, clock: Clock) -> None:
    async with running_api(make_settings(sqlite_url), clock, peer="192.0.2.7") as api:
        api.client.base_url = httpx2.URL("https://muster")
        browser = await log_in(api)
        assert set(browser.cookies) == {"__Host-muster"}
        assert (await browser.get("/fleet")).status_code == 200
        token = browser.cookies["__Host-muster"]
        browser.cookies.clear()
        weak = await browser.get("/fleet", headers={"Cookie": f"muster={token}"})
        assert weak.status_code == 303


async def test_on_plain_http_from_another_machine_no_password_is_taken(sqlite_url: str, clock: Clock) -> None:
    async with running_api(make_settings(sqlite_url), clock, peer="192.0.2.7") as api:
        form = {"username": "admin", "password": PASSWORD}
        answer = await api.client.post("/login", data=form, headers=FORM)
        assert answer.status_code == 403
        assert "Log in over HTTPS" in answer.text
        assert "set-cookie" not in answer.headers


async def test_the_api_takes_no_cookie(sqlite_api: Api) -> None:
    browser = await log_in(sqlite_api)
    assert (await browser.get("/api/workers")).status_code == 401


# ---- what guards the pages


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("headers", [LINK, {}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
async def test_a_form_of_a_foreign_page_is_refused(
    sqlite_api: Api, path: str, headers: dict[str, str]
) -> None:
    browser = await log_in(sqlite_api)
    form = {"username": "admin", "password": PASSWORD}
    answer = await browser.post(path, data=form, headers=headers)
    assert answer.status_code == 403
    assert "This form was not sent by a page of this service" in answer.text
    assert "set-cookie" not in answer.headers
    assert (await browser.get("/fleet")).status_code == 200


async def test_every_page_is_guarded_by_its_headers(sqlite_api: Api) -> None:
    worker = (await sqlite_api.register())["workerId"]
    outside = [
        await sqlite_api.client.get(path) for path in ("/", "/login", "/fleet", "/fleet/live", UNKNOWN)
    ]
    browser = await log_in(sqlite_api)
    inside = [
        await browser.get(path)
        for path in ("/fleet", f"/workers/{worker}", "/fleet?status=NONE", "/workers/x", UNKNOWN)
    ]
    refused = [
        await browser.post("/login", headers=FORM),
        await browser.post("/logout"),
        await browser.post("/logout", headers=FORM),
    ]
    assert [answer.status_code for answer in outside] == [303, 200, 303, 200, 303]
    assert [answer.status_code for answer in inside] == [200, 200, 422, 422, 404]
    assert [answer.status_code for answer in refused] == [401, 403, 303]
    for answer in [*outside, *inside, *refused]:
        assert answer.headers.get_list("content-security-policy") == [POLICY]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers.get_list("x-frame-options") == ["DENY"]
        assert answer.headers.get_list("referrer-policy") == ["same-origin"]
        assert answer.headers.get_list("cache-control") == ["no-store"]


async def test_pages_refer_to_nothing_but_our_own_files(sqlite_api: Api) -> None:
    worker = (await sqlite_api.register())["workerId"]
    login = await browse(sqlite_api, "/login")
    await log_in(sqlite_api)
    fleet, one = await browse(sqlite_api, "/fleet"), await browse(sqlite_api, f"/workers/{worker}")
    known = {asset.href for asset in ASSETS.values()}
    for page in (login, fleet, one):
        named = set(re.findall(r'(?:src|href|action)="([^"]*)"', page))
        assert all(
            name in known or name.startswith(("/fleet", "/workers/", "/login", "/logout", "#"))
            for name in named
        )
        assert not re.search(r"<style|style=|<script(?! src=)|\son[a-z]+=|javascript:", page)
    for asset in ASSETS.values():
        answer = await sqlite_api.client.get(asset.href)
        assert (answer.status_code, answer.content) == (200, asset.body)
        assert answer.headers["content-type"] == asset.media_type
        assert "immutable" in answer.headers["cache-control"]
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", asset.body)


@pytest.mark.parametrize("name", ["..%2Froutes.py", "routes.py", "%00", "nothing.css"])
async def test_no_other_file_is_served(sqlite_api: Api, name: str) -> None:
    assert (await sqlite_api.client.get(f"/static/{name}")).status_code == 404


async def test_the_pages_are_not_part_of_the_api(sqlite_api: Api) -> None:
    paths = (await sqlite_api.client.get("/api/openapi.json")).json()["paths"]
    assert "/api/workers" in paths
    assert [path for path in paths if re.match(r"/($|fleet|workers|login|logout|static)", path)] == []


# ---- what is in them


async def test_the_list_is_filtered_sorted_and_paged(api: Api) -> None:
    for number in range(103):
        await api.register(hostname=f"n{number:03}", ipAddress="192.0.2.9", cpuCores=1 + number)
    await log_in(api)
    first = await browse(api, "/fleet")
    assert names(first) == [f"n{number:03}" for number in range(100)]
    assert "103 workers" in first
    following = unescape(re.search(r'rel="next" href="([^"]*)"', first)[1])
    second = await browse(api, following)
    assert names(second) == ["n100", "n101", "n102"]
    assert 'rel="next"' not in second
    assert '<a href="/fleet">First page</a>' in second
    assert names(await browse(api, "/fleet?sort=cpuCores&order=desc"))[:2] == ["n102", "n101"]
    found = await browse(api, "/fleet?search=N01&status=PENDING")
    assert names(found) == [f"n{number:03}" for number in range(10, 20)]
    assert "10 workers on this page" in found
    nobody = await browse(api, "/fleet?status=ACTIVE")
    assert (names(nobody), "No worker matches" in nobody) == ([], True)


async def test_one_worker_has_its_transitions_with_reason_actor_and_evidence(api: Api) -> None:
    registered = await api.register()
    await api.beat(registered, nodeReady=True, cpuUsage=42.0, currentPods=7)
    await log_in(api)
    page = await browse(api, f"/workers/{registered['workerId']}")
    shown = text_of(page)
    assert "PENDING → to ACTIVE heard, its node is ready" in shown
    assert "by worker" in shown
    assert "observedAddress 127.0.0.1" in shown
    assert "Pods 7 " in shown
    assert "CPU 42 % 8 cores" in shown


async def test_what_machines_and_people_wrote_is_text(api: Api) -> None:
    registered = await api.register(operatingSystem=HOSTILE, cpuModel=HOSTILE)
    await api.client.post(
        f"/api/workers/{registered['workerId']}/leave",
        json={"reason": HOSTILE},
        headers=bearer(registered["credential"]),
    )
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(name=HOSTILE, hostname=HOSTILE, labels={HOSTILE: HOSTILE}))
        session.execute(update(Transition).values(actor=HOSTILE, evidence={HOSTILE: HOSTILE}))
    await log_in(api)
    for path in ("/fleet", f"/workers/{registered['workerId']}", f"/fleet?search={quote(HOSTILE)}"):
        page = await browse(api, path)
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;{{7*7}}" in page


async def test_a_page_that_is_not_there_is_a_page(sqlite_api: Api) -> None:
    browser = await log_in(sqlite_api)
    for path, status, text in [
        (UNKNOWN, 404, "There is no worker with this id."),
        ("/workers/x", 422, "worker_id"),
        ("/fleet?cursor=x", 422, "cursor"),
        ("/fleet?sort=pods", 422, "sort"),
        ("/fleet?search=%00", 422, "search"),
        ("/fleet?nothing=1", 422, "nothing"),
    ]:
        answer = await browser.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert text in answer.text


# ---- maintenance


async def test_an_operator_puts_a_worker_into_maintenance_and_out_of_it(api: Api) -> None:
    registered = await api.register()
    await api.beat(registered, nodeReady=True)
    path = f"/workers/{registered['workerId']}"
    browser = await log_in(api, Role.OPERATOR)
    assert "Put into maintenance" in await browse(api, path)
    form = {"reason": "new <disk>", "until": "2026-11-25T18:30", "drain": "on"}
    answer = await browser.post(f"{path}/maintenance", data=form, headers=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = text_of(await browse(api, path))
    assert "MAINTENANCE healthy" in page
    assert "Reason new &lt;disk&gt; By user:operator Pods shall move away Since" in page
    assert "2026-11-25 18:30:00 UTC" in page
    assert "ACTIVE → to MAINTENANCE maintenance: new &lt;disk&gt;" in page
    assert "Put into maintenance" not in page
    assert names(await browse(api, "/fleet?status=MAINTENANCE")) == ["w1"]

    answer = await browser.post(f"{path}/maintenance/end", headers=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = text_of(await browse(api, path))
    assert "MAINTENANCE → to ACTIVE an operator ended the maintenance" in page
    assert "Nobody has put this worker into maintenance." in page


async def test_a_viewer_sees_no_buttons_and_is_refused(api: Api) -> None:
    worker = await api.register()
    path = f"/workers/{worker['workerId']}"
    browser = await log_in(api, Role.VIEWER)
    assert "<form" not in (await browse(api, path)).split("<main")[1]
    for action, form in [("maintenance", {"reason": "mine"}), ("maintenance/end", {})]:
        answer = await browser.post(f"{path}/{action}", data=form, headers=FORM)
        assert answer.status_code == 403
        assert "Your role does not allow this." in answer.text
    assert (await api.get(f"/api{path}"))["intent"] == "active"


async def test_maintenance_is_not_changed_by_a_foreign_page_nor_by_nobody(api: Api) -> None:
    worker = await api.register()
    path = f"/workers/{worker['workerId']}/maintenance"
    nobody = await api.client.post(path, data={"reason": "x"}, headers=FORM)
    assert (nobody.status_code, nobody.headers["location"]) == (303, "/login")
    browser = await log_in(api)
    assert (await browser.post(path, data={"reason": "x"}, headers=LINK)).status_code == 403
    assert (await api.get(f"/api/workers/{worker['workerId']}"))["intent"] == "active"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "a\x00b"}, "reason"),
        ({"reason": "r" * 201}, "reason"),
        ({"reason": "r", "until": "soon"}, "until"),
        ({"reason": "r", "until": "2026-11-24T11:59"}, "until"),
        ({"reason": "r", "until": "9999-12-31T23:59"}, "until"),
    ],
)
async def test_a_bad_maintenance_names_its_field_and_changes_nothing(
    sqlite_api: Api, form: dict[str, str], field: str
) -> None:
    path = f"/workers/{(await sqlite_api.register())['workerId']}"
    browser = await log_in(sqlite_api)
    answer = await browser.post(f"{path}/maintenance", data=form, headers=FORM)
    assert answer.status_code == 422
    assert f"<b>{field}</b>" in answer.text
    assert f'<a href="{path}">Back</a>' in answer.text
    assert (await sqlite_api.get(f"/api{path}"))["intent"] == "active"


async def test_maintenance_of_a_worker_that_is_not_there_is_a_404(sqlite_api: Api) -> None:
    browser = await log_in(sqlite_api)
    for action in ("maintenance", "maintenance/end"):
        answer = await browser.post(f"{UNKNOWN}/{action}", data={"reason": "r"}, headers=FORM)
        assert answer.status_code == 404


@pytest.mark.parametrize("body", [b"reason=\xff", b"&".join([b"a=b"] * 21), "reason=\u00fc".encode()])
async def test_a_body_that_is_no_form_is_refused(sqlite_api: Api, body: bytes) -> None:
    browser = await log_in(sqlite_api)
    answer = await browser.post(f"{UNKNOWN}/maintenance", content=body, headers=FORM)
    assert answer.status_code == 422


# ---- streams


async def test_a_stream_without_a_session_ends_at_once_and_says_so(sqlite_api: Api) -> None:
    for path in ("/fleet/live", f"{UNKNOWN}/live"):
        answer = await sqlite_api.client.get(path)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.text == "event: end\ndata: Your session has ended; log in again.\n\n"


async def test_the_stream_of_a_worker_that_is_not_there_ends(sqlite_api: Api) -> None:
    browser = await log_in(sqlite_api)
    answer = await browser.get(f"{UNKNOWN}/live")
    assert answer.text == "event: end\ndata: There is no worker with this id.\n\n"


# ---- inside


def text_of(page: str) -> str:
    """Return what can be read of a page, with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def names(page: str) -> list[str]:
    """Return the workers of a list, in order."""
    return re.findall(r'<th role="rowheader"[^>]*><span class="name"><a [^>]*>([^<]*)</a>', page)
