"""A token lets in what it may: every way to be refused is the same answer and the same work; uses are counted."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import event, func, select

from control_api.db import Database
from control_api.enrolment import admission, issuing
from control_api.enrolment.admission import Bootstrap
from control_api.enrolment.models import EnrolmentToken
from control_api.enrolment.wire import NewEnrolmentToken
from control_api.errors import InvalidRegistrationToken, MusterError
from control_api.events.models import AuditEntry
from control_api.workers import registry
from control_api.workers.credentials import Credentials
from control_api.workers.lifecycle import Moment, Rules
from control_api.workers.models import Transition, Worker
from control_api.workers.registry import Doors, Entry
from control_api.workers.wire import Registration
from tests.control_api.world import (
    SETTINGS,
    START,
    TOKEN,
    Api,
    Clock,
    bearer,
    make_settings,
    patiently,
    registration,
    running_api,
)

MACHINE = "0123456789abcdef0123456789abcdef"
DOORS = Doors(Bootstrap(TOKEN), Credentials([SETTINGS["WORKER_AUTH_SECRET"]]))
REFUSED = {
    "success": False,
    "message": "The registration token is not valid.",
    "error": {"code": "INVALID_REGISTRATION_TOKEN", "details": []},
}


async def post(api: Api, token: str, **facts: Any) -> tuple[int, dict[str, Any]]:
    """Register with a token in the header; return status and body."""
    body = registration(registrationToken=None, **facts)
    answer = await api.client.post("/api/workers/register", json=body, headers=bearer(token))
    return answer.status_code, answer.json()


async def seen(api: Api, token: dict[str, Any]) -> tuple[str, int, str | None]:
    found = await api.get(f"/api/enrolment-tokens/{token['id']}")
    return found["status"], found["uses"], found["lastUsedAt"]


async def bad_tokens(api: Api, clock: Clock) -> dict[str, str]:
    """Return a token for every cause of a refusal."""
    expired, revoked, used_up, elsewhere, fine = [
        await api.token(name, **wanted)
        for name, wanted in {
            "expired": {"ttlSeconds": 60},
            "revoked": {},
            "used-up": {"maxUses": 1},
            "wrong-network": {"cidrs": ["198.51.100.0/24", "2001:db8::/32"]},
            "fine": {},
        }.items()
    ]
    await api.client.delete(f"/api/enrolment-tokens/{revoked['id']}", headers=api.admin())
    assert (await post(api, used_up["token"], hostname="first", machineId="f" * 32))[0] == 201
    clock.advance(60)
    no_such_id = fine["token"].replace(fine["id"].replace("-", ""), "0" * 31 + "7")
    return {
        "expired": expired["token"],
        "revoked": revoked["token"],
        "used up": used_up["token"],
        "wrong network": elsewhere["token"],
        "wrong secret": fine["token"][:-1] + ("0" if fine["token"][-1] != "0" else "1"),
        "unknown id": no_such_id,
        "no token of ours": "wrong",
    }


async def test_every_bad_token_gets_the_same_answer_and_lets_nobody_in(api: Api, clock: Clock) -> None:
    for number, token in enumerate((await bad_tokens(api, clock)).values()):
        assert await post(api, token, hostname=f"w{number}", machineId=f"{number:032x}") == (401, REFUSED)
    with api.service.database.reading() as session:
        assert session.scalars(select(Worker.hostname)).all() == ["first"]
        assert session.scalar(select(func.sum(EnrolmentToken.uses))) == 1


@contextmanager
def work(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect every statement that a request sends, not those of the threads behind, and every compared hash."""
    done: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "request_id" in structlog.contextvars.get_contextvars():
            done.append(statement)

    def compare(left: bytes, right: bytes) -> bool:
        done.append(f"compare {len(left)} and {len(right)} bytes")
        return hmac.compare_digest(left, right)

    event.listen(api.service.database.engine, "before_cursor_execute", note)
    monkeypatch.setattr(admission, "hmac", type("", (), {"compare_digest": staticmethod(compare)}))
    yield done
    monkeypatch.undo()
    event.remove(api.service.database.engine, "before_cursor_execute", note)


async def test_every_bad_token_costs_the_same_work(
    api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constant time: the same statements and the same comparisons in the same order, whatever is wrong."""
    costs = {}
    for cause, token in (await bad_tokens(api, clock)).items():
        with work(api, monkeypatch) as done:
            assert (await post(api, token, machineId=MACHINE))[0] == 401
        costs[cause] = done
    assert len(costs) == 7
    first = costs["expired"]
    assert first.count("compare 32 and 32 bytes") == 2
    assert sum("enrolment_tokens" in statement for statement in first) >= 1
    assert {cause: cost == first for cause, cost in costs.items()} == dict.fromkeys(costs, True)


async def test_every_refusal_is_in_the_audit_log_with_its_cause(api: Api, clock: Clock) -> None:
    for token in (await bad_tokens(api, clock)).values():
        await post(api, token, machineId=MACHINE)
    with api.service.database.reading() as session:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.outcome == "refused").order_by(AuditEntry.id)
        ).all()
    assert [(e.actor, e.action, e.subject, e.peer, e.details["cause"]) for e in entries] == [
        (actor, "worker.register", "hostname:w1", "127.0.0.1", f"invalid registration token: {cause}")
        for actor, cause in [
            ("token:expired", "expired"),
            ("token:revoked", "revoked"),
            ("token:used-up", "used up"),
            ("token:wrong-network", "wrong network"),
            ("anonymous", "unknown"),
            ("anonymous", "unknown"),
            ("anonymous", "unknown"),
        ]
    ]


async def test_bad_tokens_of_every_kind_count_for_the_rate_limit(api: Api, clock: Clock) -> None:
    bad = list((await bad_tokens(api, clock)).values())
    statuses = [(await post(api, bad[number % len(bad)], machineId=MACHINE))[0] for number in range(31)]
    assert statuses == [401] * 30 + [429]


async def test_a_token_lets_in_only_machines_of_its_networks(database_url: str, clock: Clock) -> None:
    settings = make_settings(database_url)
    async with running_api(settings, clock, peer="192.0.2.77") as api:
        token = (await api.token(cidrs=["192.0.2.0/24"]))["token"]
        assert (await post(api, token, ipAddress="10.9.9.9", machineId=MACHINE))[0] == 201
    for peer in ("198.51.100.1", "2001:db8::1", "not an address"):
        async with running_api(settings, clock, peer=peer) as api:
            # what the machine claims to be its address is not what counts
            assert (await post(api, token, hostname="w2", ipAddress="192.0.2.5"))[0] == 401


async def test_a_token_without_limits_lets_in_machines_until_it_is_revoked(api: Api, clock: Clock) -> None:
    token = await api.token(ttlSeconds=None)
    clock.advance(10 * 365 * 86400)
    assert (await post(api, token["token"], hostname="w1"))[0] == 201
    assert (await seen(api, token))[:2] == ("ACTIVE", 1)
    await api.client.delete(f"/api/enrolment-tokens/{token['id']}", headers=api.admin())
    assert (await post(api, token["token"], hostname="w2"))[0] == 401


async def test_a_token_counts_machines_not_requests(api: Api, clock: Clock) -> None:
    token = await api.token(maxUses=2)
    await post(api, token["token"], machineId=MACHINE)
    clock.advance(5)
    assert (await post(api, token["token"], machineId=MACHINE))[0] == 200
    assert await seen(api, token) == ("ACTIVE", 1, "2026-11-24T12:00:05Z")
    await post(api, token["token"], hostname="w2", machineId="2" * 32)
    assert (await seen(api, token))[:2] == ("USED_UP", 2)


@pytest.mark.parametrize("machine_id", [MACHINE, None], ids=["machine id", "hostname only"])
async def test_a_used_up_token_still_lets_in_the_machine_that_it_has_let_in(
    api: Api, machine_id: str | None
) -> None:
    """An answer that was lost on its way must not lock the machine out."""
    token = (await api.token(maxUses=1))["token"]
    first = (await post(api, token, machineId=machine_id))[1]["data"]
    status, body = await post(api, token, machineId=machine_id)
    assert (status, body["data"]["workerId"]) == (200, first["workerId"])
    assert (await post(api, token, hostname="w2", machineId="2" * 32))[0] == 401


async def test_a_used_up_token_does_not_open_the_worker_of_another_token(api: Api) -> None:
    await api.register(machineId=MACHINE)
    used_up = (await api.token(maxUses=1))["token"]
    await post(api, used_up, hostname="w2", machineId="2" * 32)
    assert await post(api, used_up, machineId=MACHINE) == (401, REFUSED)


async def test_a_known_machine_counts_for_another_token_once(api: Api) -> None:
    await api.register(machineId=MACHINE)
    token = await api.token(maxUses=1)
    assert [(await post(api, token["token"], machineId=MACHINE))[0] for _ in range(3)] == [200] * 3
    assert (await seen(api, token))[:2] == ("USED_UP", 1)


async def test_a_registration_by_credential_needs_no_token_and_counts_for_none(api: Api) -> None:
    token = await api.token(maxUses=1, ttlSeconds=60)
    worker = (await post(api, token["token"], machineId=MACHINE))[1]["data"]
    await api.client.delete(f"/api/enrolment-tokens/{token['id']}", headers=api.admin())
    assert (await post(api, worker["credential"], machineId=MACHINE))[0] == 200
    assert (await seen(api, token))[:2] == ("REVOKED", 1)


async def test_a_refused_registration_does_not_count(api: Api) -> None:
    await api.register(machineId=MACHINE)
    token = await api.token(maxUses=1)
    assert (await post(api, token["token"], machineId="2" * 32))[0] == 409  # the hostname is taken
    assert await seen(api, token) == ("ACTIVE", 0, None)
    assert (await post(api, token["token"], hostname="w2", machineId="2" * 32))[0] == 201


async def test_a_new_worker_has_the_labels_of_its_token_and_a_known_one_keeps_its_own(api: Api) -> None:
    one, two = [await api.token(zone, labels={"zone": zone}) for zone in ("a", "b")]
    assert (await post(api, one["token"], machineId=MACHINE))[1]["data"]["worker"]["labels"] == {"zone": "a"}
    assert (await post(api, two["token"], machineId=MACHINE))[1]["data"]["worker"]["labels"] == {"zone": "a"}


async def test_who_was_let_in_by_which_token_is_written_down(api: Api) -> None:
    token = await api.token("rack-7")
    worker = (await post(api, token["token"], machineId=MACHINE))[1]["data"]
    changes = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    assert changes[0]["evidence"]["admittedBy"] == "rack-7"
    await post(api, worker["credential"], machineId=MACHINE)
    with api.service.database.reading() as session:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.action == "worker.register").order_by(AuditEntry.id)
        ).all()
    subject = f"worker:{worker['workerId']}"
    assert [(e.actor, e.subject, e.details["isRestart"]) for e in entries] == [
        ("token:rack-7", subject, False),
        (subject, subject, True),
    ]


async def test_no_token_is_ever_logged(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    good = (await api.token())["token"]
    bad = good[:-4] + "beef"
    with structlog.testing.capture_logs() as lines:
        for number, token in enumerate((good, bad, TOKEN, "wrong-but-secret")):
            body = registration(hostname=f"w{number}", registrationToken=token)
            await api.client.post("/api/workers/register", json=body)
            await api.client.post("/api/workers/register", json={**body, "cpuCores": -1})
            await post(api, token, hostname=f"h{number}")
    output = capsys.readouterr()
    text = f"{lines}{output.out}{output.err}"
    assert "registration refused" in text
    assert [token for token in (good, bad, TOKEN, "wrong-but-secret") if token in text] == []
    with api.service.database.reading() as session:
        audited = str([(e.actor, e.subject, e.details) for e in session.scalars(select(AuditEntry))])
        kept = str([vars(row) for row in session.scalars(select(EnrolmentToken))])
    assert good.rsplit("_", 1)[1] not in audited + kept


# ---- simultaneous registrations


def make(database: Database, **wanted: Any) -> str:
    with database.transaction() as session:
        request = NewEnrolmentToken.model_validate({"name": "race", **wanted})
        return issuing.create(session, request, by="user:test", now=START)[1]


def at_once(database: Database, token: str, facts: list[dict[str, Any]]) -> list[Any]:
    """Register all of them in the same instant; return entries, and the classes of refusals."""
    barrier = threading.Barrier(len(facts))

    def register(mine: dict[str, Any]) -> Entry | type[MusterError]:
        request = Registration.model_validate(registration(registrationToken=None, **mine))

        def once() -> Entry:
            with database.transaction() as session:
                at = Moment(START, Rules())
                return registry.register(session, DOORS, request, bearer=token, peer=None, at=at)

        barrier.wait()
        try:
            return patiently(once)
        except MusterError as exc:
            return type(exc)

    with ThreadPoolExecutor(len(facts)) as pool:
        return list(pool.map(register, facts))


def test_fifty_machines_on_a_token_for_ten_are_exactly_ten_workers(database: Database) -> None:
    token = make(database, maxUses=10)
    machines = [{"machineId": f"{number:032x}", "hostname": f"w{number}"} for number in range(50)]
    outcomes = at_once(database, token, machines)
    assert outcomes.count(InvalidRegistrationToken) == 40
    assert len({entry.worker.id for entry in outcomes if isinstance(entry, Entry)}) == 10
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 10
        assert session.scalar(select(func.count()).select_from(Transition)) == 10
        assert session.scalar(select(EnrolmentToken.uses)) == 10


@pytest.mark.parametrize("machine_id", [MACHINE, None], ids=["machine id", "hostname only"])
def test_one_machine_fifty_times_at_once_is_one_worker_and_one_use(
    database: Database, machine_id: str | None
) -> None:
    outcomes = at_once(database, make(database, maxUses=1), [{"machineId": machine_id}] * 50)
    assert len({entry.worker.id for entry in outcomes}) == 1
    assert [entry.is_restart for entry in outcomes].count(False) == 1
    with database.reading() as session:
        assert session.scalar(select(Worker.epoch)) == 50
        assert session.scalar(select(EnrolmentToken.uses)) == 1


async def test_fifty_requests_on_a_token_for_ten_are_ten_workers_over_http(api: Api) -> None:
    token = (await api.token(maxUses=10))["token"]
    answers = await asyncio.gather(
        *(post(api, token, machineId=f"{number:032x}", hostname=f"w{number}") for number in range(50))
    )
    statuses = [status for status, _ in answers]
    assert statuses.count(201) == 10
    assert set(statuses) <= {201, 401, 429}  # those who come after thirty failures have to wait
    with api.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 10


def test_a_token_revoked_while_machines_register_lets_in_nobody_afterwards(database: Database) -> None:
    token = make(database)
    revoked = threading.Event()

    def register(number: int) -> tuple[bool, Any]:
        late = revoked.is_set()
        return late, at_once(database, token, [{"machineId": f"{number:032x}", "hostname": f"w{number}"}])[0]

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(register, number) for number in range(20)]
        with database.transaction() as session:
            issuing.revoke(session, session.scalars(select(EnrolmentToken.id)).one(), START)
        revoked.set()
        futures += [pool.submit(register, number) for number in range(20, 40)]
        outcomes = [future.result() for future in futures]
    assert {outcome for late, outcome in outcomes if late} == {InvalidRegistrationToken}
    let_in = sum(isinstance(outcome, Entry) for _, outcome in outcomes)
    with database.reading() as session:
        assert session.scalar(select(EnrolmentToken.uses)) == let_in
        assert session.scalar(select(func.count()).select_from(Worker)) == let_in


def test_a_token_that_expires_is_refused_from_that_moment_on(database: Database) -> None:
    token = make(database, ttlSeconds=60)
    facts = {"machine_id": MACHINE, "hostname": "w1", "peer": None}
    with database.reading() as session:
        just_before = START + timedelta(seconds=59.999)
        assert admission.admit(session, DOORS.bootstrap, token, now=just_before, **facts).name == "race"
        with pytest.raises(InvalidRegistrationToken):
            admission.admit(session, DOORS.bootstrap, token, now=START + timedelta(seconds=60), **facts)


def test_the_token_of_the_settings_is_kept_as_a_hash_and_never_expires(database: Database) -> None:
    assert TOKEN not in str(vars(DOORS.bootstrap))
    facts = {"machine_id": None, "hostname": "w1", "peer": None, "now": START + timedelta(days=36500)}
    with database.reading() as session:
        grant = admission.admit(session, DOORS.bootstrap, TOKEN, **facts)
        assert (grant.name, grant.approval_required, grant.may_replace) == ("bootstrap", False, False)
        for wrong in (TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "", "ü", "\ud800"):
            with pytest.raises(InvalidRegistrationToken, match="not valid"):
                admission.admit(session, DOORS.bootstrap, wrong, **facts)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_token_revoked_between_the_look_at_it_and_the_count_lets_in_nobody(
    database: Database, is_new: bool
) -> None:
    token = make(database)
    with database.reading() as session:
        facts = {"machine_id": MACHINE, "hostname": "w1", "peer": None}
        grant = admission.admit(session, DOORS.bootstrap, token, now=START, **facts)
    with database.transaction() as session:
        issuing.revoke(session, session.scalars(select(EnrolmentToken.id)).one(), START)
    with database.transaction() as session, pytest.raises(InvalidRegistrationToken):
        admission.count(session, grant, is_new=is_new, now=START)
