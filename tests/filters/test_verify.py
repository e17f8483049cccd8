"""The report on a built cluster: what could not be asked is a fault, and nothing is passed in silence."""

from __future__ import annotations

from typing import Any

import pytest

from filter_plugins.verify import FilterModule, faults, report, rows

OK = {"check": "api", "host": "master", "state": "ok", "says": "it answers well"}
FAULT = {"check": "services", "host": "w1", "state": "fault", "says": "nginx.service has failed"}
IMPOSSIBLE = {"check": "workload", "host": "master", "state": "impossible", "says": "no containers run here"}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"skipped": True}, []),
        ({"rows": [{"check": "a", "state": "ok", "says": "b"}]}, [("a", "h", "ok", "b")]),
        ({"rows": [{"check": "a", "host": "", "state": "ok", "says": "b"}]}, [("a", "h", "ok", "b")]),
        ({"rows": [{"check": "a", "host": "w1", "state": "ok", "says": "b"}]}, [("a", "w1", "ok", "b")]),
        (
            {"unreachable": True, "msg": "Task failed: ssh: timed\nout"},
            [("contact", "h", "fault", "it cannot be reached: ssh: timed out")],
        ),
        ({"failed": True, "msg": "no root"}, [("contact", "h", "fault", "it cannot be looked at: no root")]),
        ({}, [("contact", "h", "fault", "it cannot be looked at: ")]),
    ],
)
def test_every_result_becomes_rows_and_one_without_any_is_a_fault(
    result: dict[str, Any], expected: list[tuple[str, ...]]
) -> None:
    assert [(r["check"], r["host"], r["state"], r["says"]) for r in rows(result, "h")] == expected


def test_only_faults_are_faults() -> None:
    assert faults([OK, FAULT, IMPOSSIBLE]) == [FAULT]


def test_the_report_is_a_table_that_names_what_cannot_be_shown() -> None:
    assert report([OK, FAULT, IMPOSSIBLE]).splitlines() == [
        "check     host    state",
        "api       master  ok         it answers well",
        "services  w1      FAULT      nginx.service has failed",
        "workload  master  NOT SHOWN  no containers run here",
        "",
        "1 ok, 1 cannot be shown here, 1 fault.",
    ]
    assert report([OK, OK]).splitlines()[-1] == "2 ok, no fault."
    assert report([FAULT, FAULT]).splitlines()[-1] == "0 ok, 2 faults."


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {"verify_faults", "verify_report", "verify_rows"}
