"""The session of a browser: its cookie, and which forms count as ours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_api.dashboard.session import Visit, cookie, page_after_login


def visit(**changes: Any) -> Visit:
    came = {
        "scheme": "https",
        "peer": "192.0.2.7",
        "host": "muster.example",
        "cookies": {},
        "origin": None,
        "fetch_site": None,
    }
    return Visit(**{**came, **changes})


def test_behind_tls_the_cookie_is_bound_to_this_host_and_to_tls() -> None:
    made = cookie("abc", timedelta(hours=24), is_secure=True)
    assert made == "__Host-muster=abc; Max-Age=86400; Path=/; HttpOnly; SameSite=Strict; Secure"


def test_on_plain_http_of_this_machine_the_cookie_is_plain() -> None:
    made = cookie("abc", timedelta(hours=1), is_secure=False)
    assert made == "muster=abc; Max-Age=3600; Path=/; HttpOnly; SameSite=Strict"


def test_each_scheme_reads_its_own_cookie_only() -> None:
    cookies = {"__Host-muster": "strong", "muster": "weak"}
    assert visit(cookies=cookies).token == "strong"
    assert visit(cookies=cookies, scheme="http").token == "weak"
    assert visit(cookies={"muster": "weak"}).token is None


@pytest.mark.parametrize(
    ("scheme", "peer", "is_private"),
    [
        ("https", "192.0.2.7", True),
        ("https", None, True),
        ("http", "127.0.0.1", True),
        ("http", "::1", True),
        ("http", "192.0.2.7", False),
        ("http", None, False),
    ],
)
def test_plain_http_is_private_on_this_machine_only(scheme: str, peer: str | None, is_private: bool) -> None:
    assert visit(scheme=scheme, peer=peer).is_private is is_private


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"fetch_site": "same-origin"}, True),
        ({"fetch_site": "same-site"}, False),
        ({"fetch_site": "cross-site"}, False),
        ({"fetch_site": "none"}, False),
        ({"fetch_site": "cross-site", "origin": "https://muster.example"}, False),
        ({"origin": "https://muster.example"}, True),
        ({"origin": "http://muster.example"}, False),
        ({"origin": "https://muster.example.evil.example"}, False),
        ({"origin": "null"}, False),
        ({}, False),
    ],
)
def test_only_a_form_of_our_own_page_counts(headers: dict[str, str], is_ours: bool) -> None:
    assert visit(**headers).is_from_our_page is is_ours


@pytest.mark.parametrize("wanted", ["/fleet", "/fleet?status=ACTIVE&search=%C3%BC", "/workers/5a1c8a52"])
def test_the_login_leads_to_the_wanted_page(wanted: str) -> None:
    assert page_after_login(wanted) == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "//evil.example/fleet",
        "https://evil.example/fleet",
        "/fleet\\@evil.example",
        "/fleets",
        "/fleet.evil.example",
        "/logout",
        "/fleet\r\nSet-Cookie: a=b",
        "/fleet?a=\n",
        "/fleet?a=ü",
        "javascript:alert(1)",
    ],
)
def test_the_login_leads_nowhere_else(wanted: str) -> None:
    assert page_after_login(wanted) == "/fleet"
