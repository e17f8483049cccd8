"""Who is let in as which worker: every row of the table, on both databases, and simultaneous registrations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update

from control_api.db import Database
from control_api.enrolment import admission, issuing
from control_api.enrolment.admission import Bootstrap
from control_api.enrolment.models import EnrolmentToken
from control_api.enrolment.wire import NewEnrolmentToken
from control_api.errors import HostnameTaken, MusterError
from control_api.events.models import AuditEntry
from control_api.workers import registry, watch_store
from control_api.workers.credentials import Credentials
from control_api.workers.lifecycle import Intent, Moment, Rules, Status
from control_api.workers.models import Heartbeat, Transition, Worker
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
OTHER = "fedcba9876543210fedcba9876543210"
DOORS = Doors(Bootstrap(TOKEN), Credentials([SETTINGS["WORKER_AUTH_SECRET"]]))


async def post(api: Api, token: str | None = None, **facts: Any) -> tuple[int, dict[str, Any]]:
    """Register, with the token in the header when one is given; return status and body."""
    headers = bearer(token) if token else {}
    body = registration(**{**({"registrationToken": None} if token else {}), **facts})
    answer = await api.client.post("/api/workers/register", json=body, headers=headers)
    return answer.status_code, answer.json()


async def test_a_new_machine_is_a_new_worker(api: Api) -> None:
    status, body = await post(api, TOKEN, machineId=MACHINE)
    assert (status, body["success"], body["message"][:30]) == (201, True, "Worker registered successfully")
    data = body["data"]
    assert (data["isRestart"], data["worker"]["status"]) == (False, "PENDING")
    assert data["workerId"] == data["worker"]["id"]
    assert data["heartbeat"] == {"url": f"/api/workers/{data['workerId']}/heartbeat", "intervalSeconds": 30}
    changes = (await api.get(f"/api/workers/{data['workerId']}/transitions"))["transitions"]
    assert [(c["from"], c["to"], c["reason"], c["actor"]) for c in changes] == [
        (None, "PENDING", "registered", "worker")
    ]


async def test_a_known_machine_with_the_token_is_the_same_worker_with_a_new_credential(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    status, body = await post(api, TOKEN, machineId=MACHINE, hostname="renamed", cpuCores=16)
    again = body["data"]
    assert (status, again["isRestart"], again["workerId"]) == (200, True, first["workerId"])
    assert (again["worker"]["hostname"], again["worker"]["cpuCores"]) == ("renamed", 16)
    assert (await api.beat(first)).status_code == 401  # the old credential is dead
    assert (await api.beat(again)).status_code == 200


async def test_a_valid_credential_is_the_same_worker_and_keeps_its_credential(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await api.beat(first)
    status, body = await post(api, first["credential"], machineId=MACHINE, ipAddress="192.0.2.99")
    again = body["data"]
    assert (status, again["isRestart"], again["credential"]) == (200, True, first["credential"])
    assert (again["worker"]["status"], again["worker"]["ipAddress"]) == ("PENDING", "192.0.2.99")
    changes = (await api.get(f"/api/workers/{first['workerId']}/transitions"))["transitions"]
    assert [(c["to"], c["reason"]) for c in changes] == [
        ("PENDING", "registered again, not ready yet"),
        ("ACTIVE", "heard, its node is ready"),
        ("PENDING", "registered"),
    ]


async def test_a_restart_keeps_the_operators_intent_and_labels(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        wanted = {"intent": Intent.MAINTENANCE, "status": Status.MAINTENANCE, "labels": {"zone": "a"}}
        session.execute(update(Worker).values(**wanted))
    for token in (first["credential"], TOKEN):
        worker = (await post(api, token, machineId=MACHINE))[1]["data"]["worker"]
        assert (worker["status"], worker["intent"], worker["labels"]) == (
            "MAINTENANCE",
            "maintenance",
            {"zone": "a"},
        )


async def test_the_hostname_of_a_different_machine_is_refused(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    status, body = await post(api, TOKEN, machineId=OTHER)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")
    assert (await api.beat(first)).status_code == 200  # the first one is untouched


async def test_the_hostname_of_a_removed_worker_is_free(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=START))
    status, body = await post(api, TOKEN, machineId=OTHER)
    assert status == 201
    assert body["data"]["workerId"] != first["workerId"]
    assert (await api.beat(first)).status_code == 410


async def test_a_removed_machine_may_come_back_as_a_new_worker(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=START))
    assert (await post(api, first["credential"], machineId=MACHINE))[0] == 401
    status, body = await post(api, TOKEN, machineId=MACHINE)
    assert (status, body["data"]["isRestart"]) == (201, False)


async def test_without_a_machine_id_the_hostname_is_the_key(api: Api) -> None:
    first = await api.register()
    status, body = await post(api, TOKEN, cpuCores=4)
    assert (status, body["data"]["workerId"]) == (200, first["workerId"])
    assert body["data"]["worker"]["cpuCores"] == 4


async def test_without_a_machine_id_a_worker_that_has_one_is_refused(api: Api) -> None:
    await api.register(machineId=MACHINE)
    status, body = await post(api, TOKEN)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_a_machine_does_not_take_over_a_worker_that_has_no_machine_id(api: Api) -> None:
    await api.register()
    status, body = await post(api, TOKEN, machineId=MACHINE)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


# ---- a token that may replace a silent worker


async def silent(api: Api, **facts: Any) -> dict[str, Any]:
    """Register a worker, let it beat, and let it fall silent."""
    worker = await api.register(machineId=MACHINE, **facts)
    await api.beat(worker)
    api.clock.advance(91)
    return worker


async def test_a_token_may_replace_a_silent_worker_of_that_hostname(api: Api) -> None:
    old = await silent(api)
    token = (await api.token("reinstall", mayReplace=True))["token"]
    status, body = await post(api, token, machineId=OTHER)
    new = body["data"]
    assert (status, new["isRestart"], new["workerId"] != old["workerId"]) == (201, False, True)
    assert [worker["id"] for worker in (await api.get("/api/workers"))["workers"]] == [new["workerId"]]
    assert (await api.beat(old)).status_code == 410  # removed, so its credential is dead too
    changes = (await api.get(f"/api/workers/{new['workerId']}/transitions"))["transitions"]
    assert changes[0]["evidence"]["replaces"] == old["workerId"]
    with api.service.database.reading() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "worker.remove")).one()
        removed = session.get_one(Worker, UUID(old["workerId"]))
    assert (entry.actor, entry.subject) == ("token:reinstall", f"worker:{old['workerId']}")
    assert entry.details == {
        "hostname": "w1",
        "cause": "silent, replaced",
        "replacedBy": f"worker:{new['workerId']}",
    }
    assert (removed.removed_at, removed.epoch, removed.status) == (api.clock(), 2, Status.INACTIVE)
    newest = (await api.get(f"/api/workers/{old['workerId']}/transitions"))["transitions"][:2]
    assert [(change["from"], change["to"], change["reason"]) for change in newest] == [
        ("INACTIVE", None, "replaced by another machine"),
        ("ACTIVE", "INACTIVE", "not heard for 91 s"),
    ]


async def test_a_token_that_may_not_replace_leaves_a_silent_worker_alone(api: Api) -> None:
    await silent(api)
    for token in (TOKEN, (await api.token())["token"]):
        status, body = await post(api, token, machineId=OTHER)
        assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


@pytest.mark.parametrize("state", ["heard", "pending", "maintenance", "spared", "unapproved"])
async def test_a_worker_that_is_not_silent_is_never_replaced(api: Api, state: str) -> None:
    token = (await api.token(mayReplace=True))["token"]
    wait = (await api.token("wait", approvalRequired=True))["token"]
    old = await api.register(machineId=MACHINE, registrationToken=wait if state == "unapproved" else TOKEN)
    if state not in {"pending", "unapproved"}:
        await api.beat(old)
    if state in {"maintenance", "unapproved", "spared"}:
        api.clock.advance(3600)
    with api.service.database.transaction() as session:
        if state == "maintenance":
            wanted = {"intent": Intent.MAINTENANCE, "status": Status.MAINTENANCE}
            session.execute(update(Worker).values(**wanted))
        if state == "spared":  # the monitor doubts itself
            watch_store.save_watch(session, api.clock(), api.clock() + timedelta(seconds=60))
    status, body = await post(api, token, machineId=OTHER)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")
    assert (await api.beat(old)).status_code == 200


async def test_a_known_machine_may_take_the_hostname_of_a_silent_worker(api: Api) -> None:
    await silent(api, hostname="one")
    known = await api.register(hostname="two", machineId=OTHER)
    token = (await api.token(mayReplace=True))["token"]
    status, body = await post(api, token, hostname="one", machineId=OTHER)
    assert (status, body["data"]["workerId"]) == (200, known["workerId"])
    assert [worker["hostname"] for worker in (await api.get("/api/workers"))["workers"]] == ["one"]


async def test_a_machine_with_an_id_may_replace_a_silent_worker_that_has_none(api: Api) -> None:
    await api.register()
    api.clock.advance(3600)
    token = (await api.token(mayReplace=True))["token"]
    assert (await post(api, token, machineId=MACHINE))[0] == 201


async def test_a_machine_without_an_id_never_replaces_one_that_has_an_id(api: Api) -> None:
    await silent(api)
    token = (await api.token(mayReplace=True))["token"]
    status, body = await post(api, token)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_a_refused_replacement_removes_nobody(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the token is used up by another machine between the look at it and the count."""
    old = await silent(api)
    token = (await api.token(mayReplace=True, maxUses=1))["token"]
    monkeypatch.setattr(admission.store, "use", lambda *_, **__: False)
    assert (await post(api, token, machineId=OTHER))[0] == 401
    assert (await api.beat(old)).status_code == 200
    assert [worker["id"] for worker in (await api.get("/api/workers"))["workers"]] == [old["workerId"]]


# ---- header and body


async def test_the_header_wins_over_the_body(api: Api) -> None:
    good = (await api.token("good"))["token"]
    wrong = await post(api, "wrong", registrationToken=good, machineId=MACHINE)
    assert (wrong[0], wrong[1]["error"]["code"]) == (401, "INVALID_REGISTRATION_TOKEN")
    assert (await post(api, good, registrationToken="wrong", machineId=MACHINE))[0] == 201


async def test_a_valid_credential_wins_over_a_token_in_the_body(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    token = await api.token()
    answer = await post(api, worker["credential"], registrationToken=token["token"], machineId=MACHINE)
    assert (answer[0], answer[1]["data"]["credential"]) == (200, worker["credential"])
    assert (await api.get(f"/api/enrolment-tokens/{token['id']}"))["uses"] == 0


async def test_the_address_is_never_an_identity(api: Api) -> None:
    first = await api.register(hostname="one", machineId=MACHINE)
    second = await api.register(hostname="two", machineId=OTHER)
    assert first["workerId"] != second["workerId"]


async def test_a_renamed_worker_cannot_take_another_ones_hostname(api: Api) -> None:
    first = await api.register(hostname="one", machineId=MACHINE)
    await api.register(hostname="two", machineId=OTHER)
    status, body = await post(api, first["credential"], hostname="two", machineId=MACHINE)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_a_credential_does_not_bring_another_ones_machine_id(api: Api) -> None:
    first = await api.register(hostname="one", machineId=MACHINE)
    await api.register(hostname="two", machineId=OTHER)
    status, body = await post(api, first["credential"], hostname="one", machineId=OTHER)
    assert (status, body["error"]["code"]) == (409, "MACHINE_ID_TAKEN")


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "", None])
@pytest.mark.parametrize("place", ["body", "header"])
async def test_every_wrong_token_gets_the_same_answer_and_stores_nothing(
    api: Api, token: str | None, place: str
) -> None:
    body = registration(registrationToken=token if place == "body" else None)
    headers = bearer(token) if place == "header" and token is not None else {}
    answer = await api.client.post("/api/workers/register", json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {
        "success": False,
        "message": "The registration token is not valid.",
        "error": {"code": "INVALID_REGISTRATION_TOKEN", "details": []},
    }
    with api.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 0


async def test_a_dead_credential_alone_is_refused(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await api.register(machineId=MACHINE)
    status, body = await post(api, first["credential"], machineId=MACHINE)
    assert (status, body["error"]["code"]) == (401, "INVALID_CREDENTIAL")


async def test_a_dead_credential_beside_a_good_token_does_no_harm(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await api.register(machineId=MACHINE)
    status, _ = await post(api, first["credential"], machineId=MACHINE, registrationToken=TOKEN)
    assert status == 200


async def test_a_credential_with_a_forged_mac_is_no_credential(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    forged = Credentials(["another secret of thirty-two characters"]).issue(uuid4(), 1)
    assert (await post(api, forged, machineId=MACHINE))[0] == 401
    tampered = first["credential"][:-1] + ("0" if first["credential"][-1] != "0" else "1")
    assert (await post(api, tampered, machineId=MACHINE))[0] == 401


async def test_too_many_wrong_tokens_have_to_wait(api: Api) -> None:
    statuses = [(await post(api, "wrong"))[0] for _ in range(31)]
    assert statuses == [401] * 30 + [429]


async def test_the_peers_address_is_noted_beside_the_claimed_one(api: Api) -> None:
    await api.register(ipAddress="198.51.100.7")
    with api.service.database.reading() as session:
        worker = session.scalars(select(Worker)).one()
    assert (worker.ip_address, worker.observed_address) == ("198.51.100.7", "127.0.0.1")


async def test_a_made_up_address_of_a_proxy_is_no_address(database_url: str, clock: Clock) -> None:
    async with running_api(make_settings(database_url), clock, peer="x" * 100) as api:
        await api.register()
        with api.service.database.reading() as session:
            assert session.scalars(select(Worker.observed_address)).all() == [None]


# ---- simultaneous registrations


def register(
    database: Database, barrier: threading.Barrier, at: Moment, facts: dict[str, Any]
) -> Entry | type[Exception]:
    request = Registration.model_validate(registration(**facts))

    def once() -> Entry:
        with database.transaction() as session:
            return registry.register(session, DOORS, request, bearer=None, peer=None, at=at)

    barrier.wait()
    try:
        return patiently(once)
    except MusterError as exc:
        return type(exc)


def at_once(
    database: Database,
    count: int,
    facts: Callable[[int], dict[str, Any]],
    at: Moment = Moment(START, Rules()),
) -> list[Any]:
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(register, database, barrier, at, facts(number)) for number in range(count)]
        return [future.result() for future in futures]


@pytest.mark.parametrize("machine_id", [MACHINE, None], ids=["machine id", "hostname only"])
def test_fifty_simultaneous_registrations_of_one_machine_give_one_worker(
    database: Database, machine_id: str | None
) -> None:
    entries = at_once(database, 50, lambda _: {"machineId": machine_id})
    assert len({entry.worker.id for entry in entries}) == 1
    assert [entry.is_restart for entry in entries].count(False) == 1
    with database.reading() as session:
        worker = session.scalars(select(Worker)).one()
        assert worker.epoch == 50
        assert session.scalar(select(func.count()).select_from(Heartbeat)) == 1
        assert session.scalar(select(func.count()).select_from(Transition)) == 1
    # only the credential that was handed out last works
    assert [DOORS.credentials.issue(worker.id, 50) == entry.credential for entry in entries].count(True) == 1


def test_simultaneous_registrations_of_one_machine_never_call_each_other_strangers(
    postgresql_url: str,
) -> None:
    """The machine id and the hostname are two indexes, and another registration may come in between them."""
    database = Database(postgresql_url)
    outcomes = []
    for number in range(80):
        facts = {"machineId": f"{number:032x}", "hostname": f"w{number}"}
        outcomes += at_once(database, 6, dict(enumerate([facts] * 6)).__getitem__)
    database.close()
    assert outcomes.count(HostnameTaken) == 0
    assert [entry.is_restart for entry in outcomes].count(False) == 80


def test_of_ten_machines_with_one_hostname_one_gets_it(database: Database) -> None:
    outcomes = at_once(database, 10, lambda number: {"machineId": f"{number:032x}"})
    assert outcomes.count(HostnameTaken) == 9
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 1


def test_different_machines_do_not_disturb_each_other(database: Database) -> None:
    entries = at_once(database, 20, lambda n: {"machineId": f"{n:032x}", "hostname": f"w{n}"})
    assert [entry.is_restart for entry in entries] == [False] * 20
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 20


def test_a_restart_counts_its_grace_from_the_registration(database: Database) -> None:
    at_once(database, 1, lambda _: {"machineId": MACHINE})
    with database.transaction() as session:
        late = Moment(START + timedelta(hours=2), Rules())
        request = Registration.model_validate(registration(machineId=MACHINE))
        entry = registry.register(session, DOORS, request, bearer=None, peer=None, at=late)
    assert (entry.worker.status, entry.worker.registered_at) == (Status.PENDING, late.now)
    assert entry.worker.created_at == START


def test_of_ten_machines_that_may_replace_a_silent_worker_one_does(database: Database) -> None:
    at_once(database, 1, lambda _: {"machineId": MACHINE})
    with database.transaction() as session:
        wanted = NewEnrolmentToken(name="race", may_replace=True, ttl_seconds=None)
        token = issuing.create(session, wanted, by="user:test", now=START)[1]
    late = Moment(START + timedelta(hours=2), Rules())
    facts = {"registrationToken": token}
    outcomes = at_once(database, 10, lambda number: {"machineId": f"{number:032x}", **facts}, at=late)
    assert outcomes.count(HostnameTaken) == 9
    with database.reading() as session:
        standing = session.scalars(select(Worker).where(Worker.removed_at.is_(None))).one()
        assert session.scalar(select(func.count()).select_from(Worker)) == 2
        assert session.scalar(select(EnrolmentToken.uses)) == 1
    assert standing.machine_id != MACHINE


def test_a_silent_worker_that_beats_again_is_not_replaced(database: Database) -> None:
    """It looks silent by its registration and by its recorded status; its last heartbeat says otherwise."""
    at_once(database, 1, lambda _: {"machineId": MACHINE})
    with database.transaction() as session:
        wanted = NewEnrolmentToken(name="race", may_replace=True, ttl_seconds=None)
        token = issuing.create(session, wanted, by="user:test", now=START)[1]
        session.execute(update(Heartbeat).values(received_at=START + timedelta(hours=2)))
    late = Moment(START + timedelta(hours=2, seconds=5), Rules())
    assert at_once(database, 1, lambda _: {"machineId": OTHER, "registrationToken": token}, at=late) == [
        HostnameTaken
    ]
