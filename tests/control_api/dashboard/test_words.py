"""Numbers as people read them."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from control_api.dashboard.words import Gauge, When, ago, gauge, pairs, plural, share, size, when
from tests.control_api.world import START


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.9, "now"),
        (-0.9, "now"),
        (1, "1 s ago"),
        (119.9, "119 s ago"),
        (120, "2 min ago"),
        (7199, "119 min ago"),
        (7200, "2 h ago"),
        (172799, "47 h ago"),
        (172800, "2 d ago"),
        (86400 * 400, "400 d ago"),
        (-30, "in 30 s"),
        (-3600, "in 60 min"),
    ],
)
def test_an_age_has_the_unit_that_fits(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_a_moment_is_shown_in_utc_whatever_its_zone() -> None:
    moment = START.astimezone(timezone(timedelta(hours=2)))
    seen = when(moment, START + timedelta(seconds=5))
    assert seen == When("2026-11-24T12:00:00.000Z", "2026-11-24 12:00:00 UTC", "5 s ago")
    assert seen.ago == "5 s ago"


def test_moments_that_differ_in_age_only_are_equal() -> None:
    assert when(START, START) == when(START, START + timedelta(hours=1))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (33_618_202_624, "31.3 GiB"),
        (512 * 2**30, "512 GiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_bytes_are_shown_in_the_largest_unit(number: int | None, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("percent", "shown"),
    [
        (None, Gauge(None, "–", "8 cores", "none")),
        (0.4, Gauge(0, "0 %", "8 cores", "ok")),
        (74.4, Gauge(74, "74 %", "8 cores", "ok")),
        (75.0, Gauge(75, "75 %", "8 cores", "high")),
        (90.0, Gauge(90, "90 %", "8 cores", "full")),
        (250.0, Gauge(100, "100 %", "8 cores", "full")),
        (-3.0, Gauge(0, "0 %", "8 cores", "ok")),
    ],
)
def test_a_share_is_drawn_within_its_bar(percent: float | None, shown: Gauge) -> None:
    assert gauge(percent, "8 cores") == shown


def test_nothing_of_nothing_is_no_share() -> None:
    assert (share(0, 0), share(1, 4)) == (None, 25.0)


def test_counts_have_their_plural() -> None:
    assert [plural(count, "worker") for count in (0, 1, 100_000)] == [
        "0 workers",
        "1 worker",
        "100,000 workers",
    ]


def test_evidence_becomes_names_and_readable_values() -> None:
    evidence = {
        "silenceSeconds": 91.2,
        "lastHeartbeat": "2026-11-24T12:00:00.123456+00:00",
        "nodeReady": False,
        "nothing": None,
        "beyond": "0001-01-01T00:00:00+23:59",
        "text": "<b>ü</b>",
        "list": ["ä", 1],
    }
    assert pairs(evidence) == (
        ("beyond", "0001-01-01T00:00:00+23:59"),
        ("lastHeartbeat", "2026-11-24 12:00:00 UTC"),
        ("list", '["ä", 1]'),
        ("nodeReady", "false"),
        ("nothing", "null"),
        ("silenceSeconds", "91.2"),
        ("text", "<b>ü</b>"),
    )
