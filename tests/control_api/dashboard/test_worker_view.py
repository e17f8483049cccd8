"""What the page of one worker shows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from control_api.dashboard.view import Badge, Doubts
from control_api.dashboard.words import when
from control_api.dashboard.worker_view import Change, Maintenance, worker
from control_api.workers import wire
from control_api.workers.lifecycle import Moment, Rules, Status
from control_api.workers.wire import TransitionView
from tests.control_api.dashboard.conftest import ID, seen
from tests.control_api.world import START

AT = Moment(START, Rules())
WELL = Doubts(ticked_at=START)
ACTIVE, INACTIVE = Badge("active", "ACTIVE"), Badge("inactive", "INACTIVE")


def transition(**changes: Any) -> TransitionView:
    values = {
        "id": 2,
        "from_status": Status.ACTIVE,
        "to_status": Status.INACTIVE,
        "reason": "not heard for 91 s",
        "actor": "monitor",
        "evidence": {"silenceSeconds": 91.2},
        "at": START,
    }
    return TransitionView.model_validate({**values, **changes})


def test_a_transition_has_its_reason_actor_and_evidence() -> None:
    first = transition(id=1, from_status=None, to_status=Status.PENDING, reason="registered", evidence={})
    shown = worker(seen(), [transition(), first], WELL, AT, may_operate=False)
    at = when(START, START)
    assert shown.changes == (
        Change(at, ACTIVE, INACTIVE, "not heard for 91 s", "monitor", (("silenceSeconds", "91.2"),)),
        Change(at, None, Badge("pending", "PENDING"), "registered", "monitor", ()),
    )


def test_nobody_wants_anything_of_a_worker_at_work() -> None:
    shown = worker(seen(), [], WELL, AT, may_operate=True)
    assert shown.maintenance == Maintenance(is_on=False, may_change=True)


def test_maintenance_has_its_reason_its_operator_and_its_end() -> None:
    until = START + timedelta(hours=2)
    resting = wire.Maintenance(reason="disk", by="user:ann", since=START, until=until, drain=True)
    shown = worker(seen(maintenance=resting), [], WELL, AT, may_operate=False)
    assert shown.maintenance == Maintenance(
        is_on=True,
        may_change=False,
        facts=(("Reason", "disk"), ("By", "user:ann"), ("Pods", "shall move away")),
        times=(("Since", when(START, START)), ("Until", when(until, START))),
    )


def test_a_worker_that_has_not_joined_says_why_before_all_else() -> None:
    shown = worker(seen(join_error="K3s refused the join token."), [], WELL, AT, may_operate=True)
    assert shown.facts[0] == ("Has not joined", "K3s refused the join token.")


def test_a_workers_page_has_its_facts() -> None:
    labelled = seen(
        labels={"zone": "a", "gpu": ""},
        load_average=None,
        cpu_model="EPYC",
        ssh_host_keys=["k"],
        max_pods=0,
        notes="the old one",
        observed_address="198.51.100.7",
    )
    shown = worker(labelled, [], WELL, AT, may_operate=True)
    assert shown.facts == (
        ("Hostname", "w1"),
        ("Address", "192.0.2.11"),
        ("Seen from", "198.51.100.7"),
        ("Worker id", str(ID)),
        ("Machine id", "–"),
        ("Architecture", "amd64"),
        ("CPU", "EPYC"),
        ("Cores", "8"),
        ("Memory", "16.0 GiB"),
        ("Disk", "–"),
        ("Operating system", "–"),
        ("Kernel", "–"),
        ("Agent", "–"),
        ("SSH host keys", "1"),
        ("Most pods", "0"),
        ("Notes", "the old one"),
    )
    assert shown.times == (("First registered", when(START, START)), ("Last registered", when(START, START)))
    assert (shown.labels, shown.load) == ((("gpu", ""), ("zone", "a")), "–")
